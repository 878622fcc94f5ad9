//! HTTP grants: methods, scheme, host, port and path prefix of the requests that are allowed.

mod misspelt;
mod needed;
mod overlap;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::hint::NO_HOST;
use super::readings::{MAX_SEVERAL_WAYS, Prefix};
use super::target::{HostName, HttpTarget, Scheme, is_method};

/// The longest text of a grant, in bytes.
pub(super) const MAX_TEXT: usize = 2_048;
/// The most methods of one grant; HTTP has nine, and WebDAV seven more.
const MAX_METHODS: usize = 16;

/// Which HTTP requests are allowed: `GET https://*.example.com/api`.
///
/// | part | meaning |
/// | --- | --- |
/// | methods | one, or several with commas; where there is none, all but CONNECT and TRACE |
/// | scheme | `http`, `https`, or `*` for both |
/// | host | a name; `*.name` for all names below it, not itself; an IP address, which is granted by that even where it is not public; and, in what a skill declares, `*` for all |
/// | port | where there is none, the scheme's own; of the host `*`, all |
/// | path | a prefix of whole segments: `/api` allows `/api` and `/api/x`, not `/apix`; with a `%` or a `;` in it, of at most 256 bytes |
///
/// ```
/// use skillhost::grant::{HttpGrant, HttpTarget};
///
/// let grant: HttpGrant = "GET,HEAD https://example.com/api".parse()?;
/// assert!(grant.allows(&HttpTarget::new("GET", "https://example.com/api/x").unwrap()));
/// assert!(!grant.allows(&HttpTarget::new("POST", "https://example.com/api/x").unwrap()));
/// assert!(!grant.allows(&HttpTarget::new("GET", "https://example.com/apix").unwrap()));
/// # Ok::<(), skillhost::grant::ParseHttpError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpGrant {
    /// Sorted, each once; empty for all.
    methods: Vec<String>,
    /// `None` for both.
    scheme: Option<Scheme>,
    host: Hosts,
    port: Port,
    /// In the form of [`HttpTarget::path`].
    path: Prefix,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hosts {
    All,
    Below(String),
    One(HostName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Port {
    All,
    /// The scheme's own.
    Default,
    One(u16),
}

/// A text that is no HTTP grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an HTTP grant: {reason}; write [METHOD[,METHOD…] ]SCHEME://HOST[:PORT][/PATH], \
     such as `GET https://example.com/api`"
)]
pub struct ParseHttpError {
    text: String,
    reason: String,
}

impl ParseHttpError {
    /// What is wrong, without the text.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

impl HttpGrant {
    /// The path prefix.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The same for all paths.
    #[must_use]
    pub fn for_all_paths(mut self) -> Self {
        self.path = "/".into();
        self
    }

    /// Whether a request is allowed by this grant. Where its host resolves to is another question.
    pub fn allows(&self, target: &HttpTarget) -> bool {
        let method = |method: &String| method == target.method();
        (self.methods.is_empty() || self.methods.iter().any(method))
            && self.scheme.is_none_or(|scheme| scheme == target.scheme())
            && self.host.holds(target.host())
            && match self.port {
                Port::All => true,
                Port::Default => target.port() == target.scheme().default_port(),
                Port::One(port) => port == target.port(),
            }
            && target.is_below(&self.path)
    }

    /// Whether it allows every host, which only a declaration may.
    pub(super) fn is_for_all_hosts(&self) -> bool {
        self.host == Hosts::All
    }

    /// The address that it grants by itself, on its port: an address in place of a name.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Hosts::One(HostName::Address(address)) => Some(*address),
            _ => None,
        }
    }
}

impl Hosts {
    fn holds(&self, host: &HostName) -> bool {
        match (self, host) {
            (Hosts::All, _) => true,
            (Hosts::One(one), host) => one == host,
            (Hosts::Below(parent), HostName::Name(name)) => is_below(name, parent),
            (Hosts::Below(_), HostName::Address(_)) => false,
        }
    }

    fn intersection(&self, other: &Hosts) -> Option<Hosts> {
        match (self, other) {
            (Hosts::All, hosts) | (hosts, Hosts::All) => Some(hosts.clone()),
            (Hosts::One(one), hosts) | (hosts, Hosts::One(one)) => {
                hosts.holds(one).then(|| Hosts::One(one.clone()))
            }
            (Hosts::Below(ours), Hosts::Below(theirs)) => {
                if ours == theirs || is_below(ours, theirs) {
                    Some(self.clone())
                } else if is_below(theirs, ours) {
                    Some(other.clone())
                } else {
                    None
                }
            }
        }
    }
}

impl Port {
    /// What both allow under a scheme, and the scheme where that settles it.
    fn intersection(self, other: Port, scheme: Option<Scheme>) -> Option<(Port, Option<Scheme>)> {
        match (self, other) {
            (Port::All, port) | (port, Port::All) => Some((port, scheme)),
            (Port::Default, Port::Default) => Some((Port::Default, scheme)),
            (Port::One(ours), Port::One(theirs)) => {
                (ours == theirs).then_some((Port::One(ours), scheme))
            }
            (Port::One(port), Port::Default) | (Port::Default, Port::One(port)) => {
                [Scheme::Http, Scheme::Https]
                    .into_iter()
                    .find(|own| own.default_port() == port && scheme.is_none_or(|one| one == *own))
                    .map(|own| (Port::Default, Some(own)))
            }
        }
    }
}

/// Whether a name is below another one, and not that one itself.
fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl FromStr for HttpGrant {
    type Err = ParseHttpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseHttpError {
            text: super::quoted(text),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<HttpGrant, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it is longer than {MAX_TEXT} bytes"));
    }
    let (methods, url) = match text.split_once(' ') {
        Some((methods, url)) => (self::methods(methods)?, url),
        None => (Vec::new(), text),
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("there is no scheme before the host".into());
    };
    let scheme = match scheme {
        "*" => None,
        _ if scheme.eq_ignore_ascii_case("http") => Some(Scheme::Http),
        _ if scheme.eq_ignore_ascii_case("https") => Some(Scheme::Https),
        _ => return Err("the scheme is neither http, https nor *".into()),
    };
    if rest.contains(['?', '#']) {
        return Err("a query is not compared: end it with the path".into());
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if authority.contains(NO_HOST) {
        return Err(format!("put a host in the place of {NO_HOST}"));
    }
    if path.contains('*') {
        return Err("the path is a prefix, and needs no `*`".into());
    }
    // Without the `*`, the rest is a URL, and is normalised as requests are.
    let (wild, authority) = match authority.strip_prefix('*') {
        None => (None, authority.to_owned()),
        Some(rest) => match rest.strip_prefix('.') {
            Some(name) => (Some(true), name.to_owned()),
            None if rest.is_empty() || rest.starts_with(':') => (Some(false), format!("all{rest}")),
            None => return Err("a `*` in the host stands for whole labels: *.example.com".into()),
        },
    };
    if authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.contains('*'))
    {
        return Err("a port is a number; the host `*` alone, without one, has every port".into());
    }
    if authority.contains('*') {
        return Err("a `*` stands at the beginning of the host only: *.example.com".into());
    }
    // Its default port tells whether one was written.
    let probe = scheme.unwrap_or(Scheme::Http).as_str();
    let target = HttpTarget::new("GET", &format!("{probe}://{authority}{path}"))
        .map_err(|error| error.to_string())?;
    let written = has_port(&authority);
    let own = scheme.is_some_and(|scheme| scheme.default_port() == target.port());
    let host = match (wild, target.host()) {
        (None, host) => Hosts::One(host.clone()),
        (Some(false), _) => Hosts::All,
        (Some(true), HostName::Name(name)) => {
            if !name.contains('.') {
                return Err(format!("`*.{name}` is too wide: name at least two labels"));
            }
            Hosts::Below(name.clone())
        }
        (Some(true), HostName::Address(_)) => {
            return Err("there are no names below an address".into());
        }
    };
    let port = match (&host, written) {
        (Hosts::All, false) => Port::All,
        (_, false) => Port::Default,
        (_, true) if own => Port::Default,
        (_, true) => Port::One(target.port()),
    };
    let path = Prefix::from(target.path());
    if path.len() > MAX_SEVERAL_WAYS && !path.is_read_in_one_way() {
        return Err(format!(
            "a path with a `%`, a `;` or an empty segment in it has at most {MAX_SEVERAL_WAYS} bytes, of which each \
             other character than those of ASCII takes three or more: end it with a folder before that"
        ));
    }
    Ok(HttpGrant {
        methods,
        scheme,
        host,
        port,
        path,
    })
}

fn methods(text: &str) -> Result<Vec<String>, String> {
    let mut methods = Vec::new();
    for method in text.split(',') {
        if !is_method(method) {
            return Err("what stands before the URL is not a list of methods".into());
        }
        let capitals = method.to_ascii_uppercase();
        if ["CONNECT", "TRACE"].contains(&capitals.as_str()) {
            return Err(format!("the method {capitals} cannot be granted"));
        }
        if method != capitals {
            return Err(format!("methods are written in capitals: {capitals}"));
        }
        methods.push(capitals);
    }
    methods.sort();
    methods.dedup();
    if methods.len() > MAX_METHODS {
        return Err(format!("there are more than {MAX_METHODS} methods"));
    }
    Ok(methods)
}

/// Whether an authority ends in a port.
fn has_port(authority: &str) -> bool {
    let after = authority.rsplit(']').next().unwrap_or(authority);
    after
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty())
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            write!(f, "{} ", self.methods.join(","))?;
        }
        write!(f, "{}://", self.scheme.map_or("*", Scheme::as_str))?;
        match &self.host {
            Hosts::All => f.write_str("*")?,
            Hosts::Below(name) => write!(f, "*.{name}")?,
            Hosts::One(host) => host.fmt(f)?,
        }
        if let Port::One(port) = self.port {
            write!(f, ":{port}")?;
        }
        // Without a port, the host `*` would stand for all ports.
        if self.host == Hosts::All && self.port == Port::Default {
            let scheme = self.scheme.unwrap_or(Scheme::Http);
            write!(f, ":{}", scheme.default_port())?;
        }
        f.write_str(&self.path)
    }
}

super::as_text!(HttpGrant, ParseHttpError, http);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::TargetError;

    fn grant(text: &str) -> HttpGrant {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn allows(text: &str, method: &str, url: &str) -> bool {
        let target = HttpTarget::new(method, url).unwrap_or_else(|error| panic!("{url}: {error}"));
        grant(text).allows(&target)
    }

    #[test]
    fn the_text_form_goes_both_ways() {
        for (text, plain) in [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://Example.com.:443/a/../b", "https://example.com/b"),
            (
                "HEAD,GET,GET http://a.example",
                "GET,HEAD http://a.example/",
            ),
            ("*://*.example.com:8443/api", "*://*.example.com:8443/api"),
            ("*://a.example:443", "*://a.example:443/"),
            ("GET https://*", "GET https://*/"),
            ("http://*:8080", "http://*:8080/"),
            ("https://*:443", "https://*:443/"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000/"),
            ("http://[::1]:3000/x", "http://[::1]:3000/x"),
            ("http://[::1]", "http://[::1]/"),
            ("http://[::ffff:10.0.0.1]", "http://10.0.0.1/"),
            (
                "https://*.bücher.example",
                "https://*.xn--bcher-kva.example/",
            ),
        ] {
            assert_eq!(grant(text).to_string(), plain, "{text}");
            assert_eq!(grant(plain), grant(text), "{text}");
            let json = serde_json::to_string(&grant(text)).unwrap();
            assert_eq!(
                serde_json::from_str::<HttpGrant>(&json).unwrap(),
                grant(text)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("example.com", "there is no scheme before the host"),
            (
                "A,B,C,D,E,F,G,H,I,J,K,L,M,N,O,P,Q https://a.example",
                "there are more than 16 methods",
            ),
            (
                "GET https://<HOST>/api",
                "put a host in the place of <HOST>",
            ),
            (
                "ftp://example.com",
                "the scheme is neither http, https nor *",
            ),
            (
                "get https://example.com",
                "methods are written in capitals: GET",
            ),
            (
                "CONNECT https://example.com",
                "the method CONNECT cannot be granted",
            ),
            (
                "GET, https://example.com",
                "what stands before the URL is not a list of methods",
            ),
            (
                "https://example.com/?q",
                "a query is not compared: end it with the path",
            ),
            (
                "https://example.com/*",
                "the path is a prefix, and needs no `*`",
            ),
            (
                "https://a.*.com",
                "a `*` stands at the beginning of the host only: *.example.com",
            ),
            (
                "http://*:*",
                "a port is a number; the host `*` alone, without one, has every port",
            ),
            (
                "https://*a.com",
                "a `*` in the host stands for whole labels: *.example.com",
            ),
            (
                "https://*.com",
                "`*.com` is too wide: name at least two labels",
            ),
            ("https://*.10.0.0.1", "there are no names below an address"),
            (
                "https://user@example.com",
                "there is a user name or password before the host",
            ),
            ("https://", "it is no absolute URL with a host"),
            (
                "https://exa mple.com",
                "what stands before the URL is not a list of methods",
            ),
            (
                "GET  https://example.com",
                "the scheme is neither http, https nor *",
            ),
        ] {
            match text.parse::<HttpGrant>() {
                Err(error) => assert_eq!(error.reason, reason, "{text}"),
                Ok(grant) => panic!("{text}: {grant}"),
            }
        }
    }

    #[test]
    fn each_part_is_compared() {
        let text = "GET,POST https://example.com/api";
        assert!(allows(text, "GET", "https://example.com/api"));
        assert!(allows(text, "POST", "https://EXAMPLE.com.:443/api/x?y"));
        assert!(!allows(text, "PUT", "https://example.com/api"));
        let other = HttpTarget::new("get", "https://example.com/api");
        assert_eq!(other.unwrap_err(), TargetError::Method);
        assert!(!allows(text, "GET", "http://example.com/api"));
        assert!(!allows(text, "GET", "https://example.com:444/api"));
        assert!(!allows(text, "GET", "https://example.com/"));
        assert!(!allows(text, "GET", "https://www.example.com/api"));
        assert!(!allows(text, "GET", "https://example.com.evil.example/api"));
        assert!(allows("*://a.example", "PUT", "http://a.example/"));
        assert!(allows("*://a.example", "PUT", "https://a.example/"));
        assert!(!allows("*://a.example", "PUT", "https://a.example:80/"));
        assert!(allows("*://a.example:80", "PUT", "https://a.example:80/"));
    }

    #[test]
    fn names_below_a_name() {
        let text = "https://*.example.com";
        assert!(allows(text, "GET", "https://a.example.com/"));
        assert!(allows(text, "GET", "https://a.b.example.com/"));
        assert!(!allows(text, "GET", "https://example.com/"));
        assert!(!allows(text, "GET", "https://aexample.com/"));
        assert!(!allows("https://*", "GET", "http://10.0.0.1/"));
        assert!(allows("https://*", "GET", "https://10.0.0.1:8443/"));
    }

    #[test]
    fn an_address_is_itself_in_every_spelling() {
        let text = "http://127.0.0.1:3000";
        assert!(allows(text, "GET", "http://127.0.0.1:3000/"));
        assert!(allows(text, "GET", "http://0x7f000001:3000/"));
        assert!(allows(text, "GET", "http://[::ffff:7f00:1]:3000/"));
        assert!(!allows(text, "GET", "http://127.0.0.1:3001/"));
        assert!(!allows(text, "GET", "http://localhost:3000/"));
    }

    #[test]
    fn an_intersection_is_what_both_allow() {
        for (ours, theirs, both) in [
            (
                "GET https://*",
                "https://a.example",
                Some("GET https://a.example/"),
            ),
            (
                "GET http://*",
                "http://127.0.0.1:80",
                Some("GET http://127.0.0.1/"),
            ),
            (
                "http://*",
                "http://127.0.0.1:81",
                Some("http://127.0.0.1:81/"),
            ),
            (
                "GET,PUT *://*",
                "PUT,POST http://a.example/x",
                Some("PUT http://a.example/x"),
            ),
            (
                "https://*.a.example",
                "https://*.b.a.example",
                Some("https://*.b.a.example/"),
            ),
            (
                "https://*.a.example",
                "https://x.a.example/y",
                Some("https://x.a.example/y"),
            ),
            (
                "*://a.example:443",
                "*://a.example",
                Some("https://a.example/"),
            ),
            ("*://a.example:8443", "*://a.example", None),
            ("http://a.example:443", "*://a.example", None),
            (
                "https://a.example/x",
                "https://a.example/x/y",
                Some("https://a.example/x/y"),
            ),
            ("https://a.example/x", "https://a.example/xy", None),
            ("GET https://a.example", "PUT https://a.example", None),
            ("https://a.example", "http://a.example", None),
            ("https://*.a.example", "https://*.b.example", None),
            ("https://a.example", "https://b.example", None),
        ] {
            let both = both.map(grant);
            assert_eq!(
                grant(ours).intersection(&grant(theirs)),
                both,
                "{ours} and {theirs}"
            );
            assert_eq!(
                grant(theirs).intersection(&grant(ours)),
                both,
                "{theirs} and {ours}"
            );
        }
    }

    #[test]
    fn the_narrowest_grant_of_a_request_allows_it() {
        let target = HttpTarget::new("POST", "http://a.example:8080/x?y").unwrap();
        let grant = HttpGrant::of(&target);
        assert_eq!(grant.to_string(), "POST http://a.example:8080/x");
        assert_eq!(grant.to_string().parse(), Ok(grant.clone()));
        assert!(grant.allows(&target));
        assert!(!grant.allows(&HttpTarget::new("POST", "http://a.example:8080/").unwrap()));
        let all = grant.for_all_paths();
        assert_eq!(all.to_string(), "POST http://a.example:8080/");
        for odd in ["/a/..%2f%2e%2e/b", "/a*b"] {
            let target = HttpTarget::new("GET", &format!("http://a.example{odd}")).unwrap();
            let grant = HttpGrant::of(&target);
            assert_eq!(grant.to_string(), "GET http://a.example/", "{odd}");
            assert!(grant.allows(&target));
        }
    }
}
