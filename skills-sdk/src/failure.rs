use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Why a tool could not answer.
///
/// The kind decides what happens next: the host gives an invalid input back to
/// the caller, tries a retryable failure again, and lets an error stand.
///
/// ```
/// use std::time::Duration;
/// use skills_sdk::Failure;
///
/// fn fetch(count: u32) -> Result<String, Failure> {
///     if count > 100 {
///         return Err(Failure::invalid_input("/count", "at most 100"));
///     }
///     // Any `std::error::Error` becomes a failure that is not tried again.
///     let text = String::from_utf8(vec![b'a'; count as usize])?;
///     if text.is_empty() {
///         return Err(Failure::retry("nothing there yet").after(Duration::from_secs(5)));
///     }
///     Ok(text)
/// }
/// # assert!(fetch(1).is_ok());
/// # assert!(fetch(0).is_err());
/// # assert!(fetch(101).is_err());
/// ```
///
/// A failure is not itself a [`std::error::Error`]; that is what lets `?` turn
/// every error into one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// The skill has no such tool.
    UnknownTool,
    /// The input is at fault.
    InvalidInput {
        /// JSON Pointer (RFC 6901) to the offending place; empty for the whole.
        pointer: String,
        /// What is wrong there.
        message: String,
    },
    /// Trying again may help.
    Retryable {
        /// What went wrong.
        message: String,
        /// How long to wait before the next try; `None` leaves it to the host,
        /// and more than a day counts as a day.
        after: Option<Duration>,
    },
    /// Trying again will not help.
    Error {
        /// What went wrong.
        message: String,
        /// A short stable identifier, for programs.
        code: Option<String>,
        /// More about it, for programs.
        details: Option<Value>,
    },
}

impl Failure {
    /// The input is at fault, at the place that `pointer` (a JSON Pointer,
    /// RFC 6901) names: `"/items/2"` is the third of `items`, `""` the whole.
    pub fn invalid_input(pointer: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::InvalidInput {
            pointer: pointer.into(),
            message: message.to_string(),
        }
    }

    /// Trying again may help. [`after`](Self::after) says when.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self::Retryable {
            message: message.to_string(),
            after: None,
        }
    }

    /// Trying again will not help. [`code`](Self::code) and
    /// [`details`](Self::details) say more.
    pub fn error(message: impl fmt::Display) -> Self {
        Self::Error {
            message: message.to_string(),
            code: None,
            details: None,
        }
    }

    /// How long to wait before the next try, in whole milliseconds; the host
    /// takes more than a day for a day. Applies to a retryable failure and
    /// leaves any other as it is.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        if let Self::Retryable { after, .. } = &mut self {
            *after = Some(delay);
        }
        self
    }

    /// A short stable identifier for programs, such as `"not-found"`. Applies
    /// to an error and leaves any other failure as it is.
    #[must_use]
    pub fn code(mut self, identifier: impl Into<String>) -> Self {
        if let Self::Error { code, .. } = &mut self {
            *code = Some(identifier.into());
        }
        self
    }

    /// More about the failure, for programs. Applies to an error and leaves
    /// any other failure as it is.
    #[must_use]
    pub fn details(mut self, value: impl Into<Value>) -> Self {
        if let Self::Error { details, .. } = &mut self {
            *details = Some(value.into());
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTool => f.write_str("the skill has no such tool"),
            Self::InvalidInput { pointer, message } if pointer.is_empty() => {
                write!(f, "invalid input: {message}")
            }
            Self::InvalidInput { pointer, message } => {
                write!(f, "invalid input at {pointer}: {message}")
            }
            Self::Retryable { message, .. } | Self::Error { message, .. } => f.write_str(message),
        }
    }
}

/// What an error of this crate's own says of another try: it is the error's source, where the
/// conversion of every error can see it.
#[derive(Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code))]
pub(crate) enum Outlook {
    /// It may end better.
    MayPass,
    /// It will not. With a short stable identifier, for programs.
    Stays(&'static str),
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MayPass => "trying again may help",
            Self::Stays(_) => "trying again will not help",
        })
    }
}

impl Error for Outlook {}

/// An error's message, followed by those of its sources where they add to it.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            if let Some(outlook) = error.downcast_ref::<Outlook>() {
                return match outlook {
                    Outlook::MayPass => Self::retry(message),
                    Outlook::Stays(code) => Self::error(message).code(*code),
                };
            }
            let text = error.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = error.source();
        }
        Self::error(message)
    }
}
