//! An HTTP client, for tools that fetch something. Needs the feature `http`.
//!
//! ```
//! use skills_sdk::prelude::*;
//!
//! /// Fetches the weather of a town.
//! #[tool(read_only, open_world)]
//! fn weather(town: String, ctx: &Context) -> Result<String, Failure> {
//!     let url = format!("https://weather.example/{town}");
//!     let answer = ctx.http().get(&url).header("accept", "text/plain").send()?;
//!     Ok(answer.ok()?.text())
//! }
//!
//! # fn main() {
//! // Natively nothing reaches the network: a test says what is answered.
//! use skills_sdk::http::Response;
//! use skills_sdk::testing::TestContext;
//!
//! let ctx = TestContext::new()
//!     .answer("GET", "https://weather.example/Oslo", Response::new(200, "snow"));
//! assert_eq!(weather("Oslo".to_owned(), &ctx).unwrap(), "snow");
//! # }
//! ```
//!
//! The host decides what may be fetched: the skill declares it in its
//! `skill.toml` (`[grants]`, `http = ["GET https://weather.example"]`), and the
//! operator grants it. What is refused is [`HttpError::Denied`].

#[cfg(target_arch = "wasm32")]
mod guest;
mod redirect;

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::Context;
use crate::failure::Outlook;

/// The redirects that are followed where nothing else is said.
const REDIRECTS: u32 = 10;
/// The bytes of a body that are taken where nothing else is said.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

impl Context {
    /// The HTTP client.
    pub fn http(&self) -> Client<'_> {
        Client { context: self }
    }
}

/// Begins requests. Made by [`Context::http`].
#[derive(Clone, Copy, Debug)]
pub struct Client<'c> {
    context: &'c Context,
}

impl<'c> Client<'c> {
    /// A request with the method `GET`.
    pub fn get(self, url: &str) -> Request<'c> {
        self.request("GET", url)
    }

    /// A request with the method `POST`.
    pub fn post(self, url: &str) -> Request<'c> {
        self.request("POST", url)
    }

    /// A request with any method. Methods are written in capitals.
    pub fn request(self, method: &str, url: &str) -> Request<'c> {
        Request {
            context: self.context,
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            redirects: REDIRECTS,
            max_bytes: MAX_BYTES,
            timeout: None,
        }
    }
}

/// A request that is being put together.
#[derive(Clone, Debug)]
#[must_use]
pub struct Request<'c> {
    context: &'c Context,
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    redirects: u32,
    max_bytes: u64,
    timeout: Option<Duration>,
}

impl Request<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_lowercase(), value.as_ref().into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// How many redirects to follow. Default 10; with 0 a redirect is the answer.
    ///
    /// Each hop is a request that the host checks anew. `authorization`, `cookie` and the like are
    /// left out as soon as a redirect leads to another scheme, host or port.
    pub fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    /// How many bytes of the answer's body to take. Default 8 MiB; more is an error.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long to wait for a connection, for the beginning of the answer, and for each next piece
    /// of it. Without it, the execution's own deadline holds alone.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it, and waits for the whole answer. Every status is an answer;
    /// [`Response::ok`] tells the good ones apart.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn send(self) -> Result<Response, HttpError> {
        let url = parsed(&self.url)?;
        let mut hop = Hop {
            method: self.method,
            url,
            headers: self.headers,
            body: self.body,
            max_bytes: self.max_bytes,
            timeout: self.timeout,
        };
        let mut left = self.redirects;
        let mut from = None;
        loop {
            let mut answer = match self.context.surroundings.fetch(&hop) {
                Ok(answer) => answer,
                Err(error) => return Err(error.redirected(from)),
            };
            let next = match left {
                0 if self.redirects == 0 => None,
                _ => redirect::next(&hop, &answer)
                    .map_err(|error| error.redirected(Some(hop.url.to_string())))?,
            };
            match next {
                None => {
                    answer.url = hop.url.to_string();
                    return Ok(answer);
                }
                Some(_) if left == 0 => {
                    return Err(HttpError::TooManyRedirects {
                        most: self.redirects,
                    });
                }
                Some(next) => {
                    left -= 1;
                    from = Some(hop.url.to_string());
                    hop = next;
                }
            }
        }
    }
}

/// One request as it goes out.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub method: String,
    pub url: Url,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub max_bytes: u64,
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
    pub timeout: Option<Duration>,
}

fn parsed(text: &str) -> Result<Url, HttpError> {
    let invalid = |reason: &str| HttpError::Url {
        url: text.to_owned(),
        reason: reason.to_owned(),
    };
    let mut url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(invalid("the scheme is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("there is a user name or password in it"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    status: u16,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Response {
    /// An answer with this status and body, for tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    /// Adds a header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_lowercase(), value.as_ref().into()));
        self
    }

    /// The status, such as 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The URL that answered in the end, after all redirects.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first header of that name, where it is text. The case of the name does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer, where its status is from 200 to 299.
    ///
    /// # Errors
    /// [`HttpError::Status`] where it is another.
    pub fn ok(self) -> Result<Self, HttpError> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            Err(HttpError::Status {
                status: self.status,
                url: self.url,
            })
        }
    }
}

/// Why there is no answer, or not a good one.
///
/// `?` makes a [`Failure`](crate::Failure) of it: one that may be tried again where the network, the server or its
/// load may be at fault, and else an error with the code `http-denied`, `http-status`,
/// `http-too-large`, `http-redirects` or `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL cannot be requested.
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request cannot be sent as it is.
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// The host refuses it: it is not granted, or may not be sent as it is, such as with a secret in it.
    Denied {
        /// The method and URL.
        request: String,
        /// What is refused.
        reason: &'static str,
    },
    /// No answer came, or not in time.
    Unreachable {
        /// The method and URL.
        request: String,
        /// What happened.
        reason: String,
    },
    /// What came is no answer.
    Invalid {
        /// The method and URL.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The body is larger than is taken.
    TooLarge {
        /// How many bytes are taken.
        most: u64,
    },
    /// There are more redirects than are followed.
    TooManyRedirects {
        /// How many are followed.
        most: u32,
    },
    /// What a redirect led to.
    Redirected {
        /// The URL that redirected there.
        from: String,
        /// What came of it.
        error: Box<HttpError>,
    },
    /// The status is not from 200 to 299.
    Status {
        /// The status.
        status: u16,
        /// The URL that answered.
        url: String,
    },
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url, reason } => write!(f, "`{url}` cannot be requested: {reason}"),
            Self::Request { reason } => write!(f, "the request cannot be sent: {reason}"),
            Self::Denied { request, reason } => {
                write!(f, "the host does not allow `{request}`: {reason}")
            }
            Self::Unreachable { request, reason } => {
                write!(f, "no answer to `{request}`: {reason}")
            }
            Self::Invalid { request, reason } => {
                write!(f, "no valid answer to `{request}`: {reason}")
            }
            Self::TooLarge { most } => write!(f, "the answer has more than {most} bytes"),
            Self::TooManyRedirects { most } => {
                write!(f, "there are more than {most} redirects")
            }
            Self::Redirected { from, error } => {
                write!(f, "`{from}` redirected the request, and {error}")
            }
            Self::Status { status, url } => write!(f, "`{url}` answered with status {status}"),
        }
    }
}

impl HttpError {
    /// What went wrong in the end, after all redirects.
    pub fn innermost(&self) -> &HttpError {
        match self {
            HttpError::Redirected { error, .. } => error.innermost(),
            error => error,
        }
    }

    /// The same, of a request that was redirected.
    fn redirected(self, from: Option<String>) -> Self {
        match from {
            None => self,
            Some(from) => HttpError::Redirected {
                from,
                error: Box::new(self),
            },
        }
    }

    /// Whether another try may end better.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Redirected { error, .. } => error.may_pass(),
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }
}

impl std::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            _ if self.may_pass() => &Outlook::MayPass,
            Self::Redirected { error, .. } => return error.source(),
            Self::Denied { .. } => &Outlook::Stays("http-denied"),
            Self::Status { .. } => &Outlook::Stays("http-status"),
            Self::TooLarge { .. } => &Outlook::Stays("http-too-large"),
            Self::TooManyRedirects { .. } => &Outlook::Stays("http-redirects"),
            _ => &Outlook::Stays("http"),
        })
    }
}
