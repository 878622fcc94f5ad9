//! What an HTTP request is aimed at, in the one spelling that is compared and sent.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::address::canonical;
use super::readings::{Prefix, Readings, below};

/// The longest URL that is looked at, in bytes.
const MAX_URL: usize = 16 * 1024;

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Unencrypted.
    Http,
    /// Inside TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A host, as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    /// A name: lower case, punycode, without a dot at its end.
    Name(String),
    /// An address. One that is mapped into IPv6 is the IPv4 address.
    Address(IpAddr),
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostName::Name(name) => f.write_str(name),
            HostName::Address(IpAddr::V4(address)) => address.fmt(f),
            HostName::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// The method and URL of a request, normalised: two spellings of one URL give the same target.
///
/// ```
/// use skillhost::grant::HttpTarget;
///
/// let plain = HttpTarget::new("GET", "https://example.com/a/c")?;
/// let odd = HttpTarget::new("GET", "HTTPS://EXAMPLE.com.:443/a/./b/%2e%2E/%63")?;
/// assert_eq!(plain, odd);
/// # Ok::<(), skillhost::grant::TargetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    method: String,
    scheme: Scheme,
    host: HostName,
    port: u16,
    path: String,
    query: Option<String>,
    readings: Readings,
}

/// A request that cannot be sent to anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The method is not one. Methods are told apart by case, and all that there are have none but capitals,
    /// digits, `-` and `_`.
    #[error("the method is not an HTTP method, which is written in capitals")]
    Method,
    /// The method would make a proxy or a mirror of the server.
    #[error("the methods CONNECT and TRACE cannot be granted")]
    ForbiddenMethod,
    /// The URL is longer than 16 KiB.
    #[error("the URL is longer than 16 KiB")]
    TooLong,
    /// There are control characters, spaces or backslashes in it.
    #[error("the URL has control characters, spaces or backslashes in it")]
    Characters,
    /// It is no absolute URL.
    #[error("it is no absolute URL with a host")]
    Url,
    /// The scheme is neither http nor https.
    #[error("the scheme is neither http nor https")]
    Scheme,
    /// There is a user name or password before the host.
    #[error("there is a user name or password before the host")]
    UserInfo,
    /// The host is no name and no address.
    #[error("the host is no name and no address")]
    Host,
    /// There is no such port.
    #[error("the port is not one from 1 to 65535")]
    Port,
}

impl HttpTarget {
    /// Normalises a method and an absolute URL.
    ///
    /// # Errors
    /// What makes it no target. Whatever two programs may read differently is refused rather than
    /// guessed: user information, backslashes, control characters.
    pub fn new(method: &str, url: &str) -> Result<Self, TargetError> {
        if !is_method(method) {
            return Err(TargetError::Method);
        }
        if ["CONNECT", "TRACE"].contains(&method.to_ascii_uppercase().as_str()) {
            return Err(TargetError::ForbiddenMethod);
        }
        // No grant can be written that allows it, and servers may take it for the one in capitals.
        if method.contains(|c: char| c.is_ascii_lowercase()) {
            return Err(TargetError::Method);
        }
        if url.len() > MAX_URL {
            return Err(TargetError::TooLong);
        }
        let odd = |c: char| c.is_control() || c == ' ' || c == '\\';
        if url.contains(odd) {
            return Err(TargetError::Characters);
        }
        let authority = authority(url).ok_or(TargetError::Url)?;
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let mut url = Url::parse(url).map_err(|error| match error {
            url::ParseError::InvalidPort => TargetError::Port,
            url::ParseError::RelativeUrlWithoutBase => TargetError::Url,
            _ => TargetError::Host,
        })?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(TargetError::Scheme),
        };
        url.set_fragment(None);
        let port = match url.port().unwrap_or(scheme.default_port()) {
            0 => return Err(TargetError::Port),
            port => port,
        };
        Ok(HttpTarget {
            method: method.to_owned(),
            scheme,
            host: host(&url).ok_or(TargetError::Host)?,
            port,
            path: plain(url.path()),
            query: url.query().map(str::to_owned),
            readings: Readings::default(),
        })
    }

    /// The method, in capitals.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The port, the scheme's own where none was written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path: no dot segments, and nothing encoded that need not be.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Path and query, as they are sent.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Host, and port where it is not the scheme's own: the value of the `host` header.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Scheme, host and port, with a `/` at its end.
    pub fn origin(&self) -> String {
        format!("{}://{}/", self.scheme.as_str(), self.authority())
    }

    /// Whether the path is below a prefix, however often a server decodes it. What servers decode in
    /// different ways is below none: what is not UTF-8, such as a dot in two bytes, and `%u002e`.
    pub(super) fn is_below(&self, prefix: &Prefix) -> bool {
        if **prefix == *"/" {
            return true;
        }
        below(&self.path, prefix) && self.readings.are_below(&self.path, prefix)
    }
}

/// Scheme, host, path and query, without the method.
impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        write!(
            f,
            "{scheme}://{}{}",
            self.authority(),
            self.path_and_query()
        )
    }
}

/// What stands between `://` and the path.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    (!authority.is_empty()).then_some(authority)
}

/// Whether this is a method. Of the characters that HTTP allows only those that a method has ever
/// had: it goes into texts that people copy.
pub(super) fn is_method(method: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !method.is_empty() && method.len() <= 64 && method.bytes().all(fits)
}

/// The host of a URL in the form that is compared.
fn host(url: &Url) -> Option<HostName> {
    match url.host()? {
        Host::Ipv4(address) => Some(HostName::Address(address.into())),
        Host::Ipv6(address) => Some(HostName::Address(canonical(address.into()))),
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            is_name(name).then(|| HostName::Name(name.to_owned()))
        }
    }
}

/// Whether this is a name that can be asked for: labels of 1 to 63 letters, digits, `-` and `_`.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A path with what need not be encoded decoded, and the rest encoded in capitals.
fn plain(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        match escape(rest) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                plain.push(char::from(byte));
                rest = &rest[3..];
            }
            Some(_) => {
                plain.push_str(&rest[..3].to_ascii_uppercase());
                rest = &rest[3..];
            }
            // A lone `%` stands for itself.
            None => {
                plain.push_str("%25");
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// The byte that `%XX` at the beginning of a text stands for.
pub(super) fn escape(text: &str) -> Option<u8> {
    let digits = text.get(1..3)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<HttpTarget, TargetError> {
        HttpTarget::new("GET", url)
    }

    #[test]
    fn spellings_of_one_url_are_one() {
        for (odd, plain) in [
            ("HTTP://Example.COM", "http://example.com/"),
            ("http://example.com:80/", "http://example.com/"),
            ("https://example.com:443/", "https://example.com/"),
            ("http://example.com:0080/", "http://example.com/"),
            ("http://example.com:/", "http://example.com/"),
            ("http://example.com./", "http://example.com/"),
            ("http://ex%61mple.com/", "http://example.com/"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
            ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
            ("http://example。com/", "http://example.com/"),
            ("http://127.1/", "http://127.0.0.1/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://0x7f.0.0.1/", "http://127.0.0.1/"),
            ("http://0177.0.0.1/", "http://127.0.0.1/"),
            ("http://127.0.0.1./", "http://127.0.0.1/"),
            ("http://[::FFFF:127.0.0.1]/", "http://127.0.0.1/"),
            ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
            ("http://a.example/b/../c", "http://a.example/c"),
            ("http://a.example/b/%2e%2E/c", "http://a.example/c"),
            ("http://a.example/../../c", "http://a.example/c"),
            ("http://a.example/./%63", "http://a.example/c"),
            ("http://a.example/%e2%82%ac", "http://a.example/%E2%82%AC"),
            ("http://a.example/€", "http://a.example/%E2%82%AC"),
            ("http://a.example/100%", "http://a.example/100%25"),
            ("http://a.example#part", "http://a.example/"),
            ("http://a.example?q", "http://a.example/?q"),
        ] {
            assert_eq!(target(odd), target(plain), "{odd}");
            assert_eq!(target(odd).unwrap().to_string(), plain, "{odd}");
        }
    }

    #[test]
    fn what_servers_decode_in_different_ways_is_below_no_prefix() {
        let below = |path: &str, prefix: &str| {
            let target = target(&format!("http://a.example{path}")).unwrap();
            target.is_below(&prefix.into())
        };
        for path in [
            "/api/%c0%ae%c0%ae/admin",
            "/api/%25c0%25ae/admin",
            "/api/%E9",
            "/api/%u002e%u002e/admin",
            "/api/%U002E/admin",
            "/api/%25u002e/admin",
        ] {
            assert!(!below(path, "/api"), "{path}");
            assert!(below(path, "/"), "{path}");
        }
        for path in ["/api/%E2%82%AC", "/api/%u", "/api/%up/%25union"] {
            assert!(below(path, "/api"), "{path}");
        }
    }

    #[test]
    fn what_programs_may_read_differently_is_refused() {
        for (url, error) in [
            ("http://user@example.com/", TargetError::UserInfo),
            ("http://a:b@example.com/", TargetError::UserInfo),
            ("http://@example.com/", TargetError::UserInfo),
            (
                "http://example.com\\@evil.example/",
                TargetError::Characters,
            ),
            ("http:\\\\example.com/", TargetError::Characters),
            ("http://example.com/\r\nHost: x", TargetError::Characters),
            ("http://example.com/\0", TargetError::Characters),
            ("http://exa\tmple.com/", TargetError::Characters),
            (" http://example.com/", TargetError::Characters),
            ("http:example.com", TargetError::Url),
            ("/path", TargetError::Url),
            ("http:///path", TargetError::Url),
            ("ftp://example.com/", TargetError::Scheme),
            ("file://example.com/", TargetError::Scheme),
            ("http://example.com:0/", TargetError::Port),
            ("http://example.com:65536/", TargetError::Port),
            ("http://example..com/", TargetError::Host),
            ("http://example.com../", TargetError::Host),
            ("http://.example.com/", TargetError::Host),
            ("http://[::1%25lo]/", TargetError::Host),
            ("http://[::1/", TargetError::Host),
            ("http://exa%00mple.com/", TargetError::Host),
            ("http://exa%2fmple.com/", TargetError::Host),
            ("http://*.example.com/", TargetError::Host),
            ("http://256.256.256.256/", TargetError::Host),
        ] {
            assert_eq!(target(url), Err(error), "{url}");
        }
        let long = format!("http://example.com/{}", "a".repeat(MAX_URL));
        assert_eq!(target(&long), Err(TargetError::TooLong));
        let label = format!("http://{}.example/", "a".repeat(64));
        assert_eq!(target(&label), Err(TargetError::Host));
    }

    #[test]
    fn methods_are_tokens_and_two_are_never_sent() {
        let method = |method| HttpTarget::new(method, "http://a.example/").map(|_| ());
        assert_eq!(method("GET"), Ok(()));
        assert_eq!(method("PROPFIND"), Ok(()));
        assert_eq!(method("M-SEARCH"), Ok(()));
        assert_eq!(method("get"), Err(TargetError::Method));
        assert_eq!(method("Get"), Err(TargetError::Method));
        assert_eq!(method(""), Err(TargetError::Method));
        assert_eq!(method("GET /x HTTP/1.1\r\n"), Err(TargetError::Method));
        assert_eq!(method("X'|sh|'"), Err(TargetError::Method));
        assert_eq!(method("CONNECT"), Err(TargetError::ForbiddenMethod));
        assert_eq!(method("Trace"), Err(TargetError::ForbiddenMethod));
    }

    #[test]
    fn a_prefix_holds_however_a_server_reads_the_path() {
        let below = |path: &str, prefix: &str| {
            target(&format!("http://a.example{path}"))
                .unwrap()
                .is_below(&prefix.into())
        };
        for path in [
            "/api",
            "/api/",
            "/api/x",
            "/api//x",
            "/x/../api/y",
            "/%61pi/x",
            "/api/a;b",
            "/api/a;b=%2F/c%20d/%2525",
        ] {
            assert!(below(path, "/api"), "{path}");
        }
        for path in [
            "/",
            "/apix",
            "/API",
            "//api",
            "/api/../x",
            "/api/..%2fx",
            "/api/%2e%2e%2fx",
            "/api/..%5cx",
            "/api/%252e%252e/x",
            "/api/%252e%252e%252fx",
            "/api/..;/x",
            "/api//../../x",
            "/api%2fx",
            // What is left out or followed in one reading is kept, and decoded, in another.
            "/api/x;%252f..%252f..%252fadmin",
            "/api/x;%2f..%2f..%2fadmin",
            "/api/..%252f..%252fadmin%252fz%2f..",
            "/api/q/a%252fb/%2e%2e/%252e%252e/%252e%252e",
            "/api/a%25252fb/..;/..%25252f..%25252fx",
        ] {
            assert!(!below(path, "/api"), "{path}");
        }
        assert!(!below("/api", "/api/"));
        assert!(below("/api/x", "/api/"));
        assert!(below("/anything/..%2f", "/"));
    }

    #[test]
    fn what_is_sent_is_what_was_checked() {
        let target = target("http://A.example:8080/x/../y?q=%41#f").unwrap();
        assert_eq!(target.path_and_query(), "/y?q=%41");
        assert_eq!(target.authority(), "a.example:8080");
        assert_eq!(target.origin(), "http://a.example:8080/");
    }
}
