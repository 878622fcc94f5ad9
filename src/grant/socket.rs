//! Socket grants: a protocol, an address and a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::address::canonical;
use super::hint::{NO_ADDRESS, NO_PORT};

/// A protocol below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// An address and port that a guest may connect to, past HTTP: `tcp://10.1.2.3:5432`. What a skill
/// declares may leave the address or the port open: `tcp://*:5432`, `udp://*:*`.
///
/// ```
/// use skillhost::grant::{Protocol, SocketGrant};
///
/// let grant: SocketGrant = "tcp://127.0.0.1:5432".parse()?;
/// assert!(grant.allows(Protocol::Tcp, "127.0.0.1:5432".parse().unwrap()));
/// assert!(!grant.allows(Protocol::Udp, "127.0.0.1:5432".parse().unwrap()));
/// # Ok::<(), skillhost::grant::ParseSocketError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketGrant {
    protocol: Protocol,
    address: Option<IpAddr>,
    port: Option<u16>,
}

/// A text that is no socket grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a socket grant: {reason}; write tcp://IP:PORT or udp://IP:PORT, \
     with an IPv6 address in brackets"
)]
pub struct ParseSocketError {
    text: String,
    reason: &'static str,
}

impl SocketGrant {
    /// One address and port.
    pub fn new(protocol: Protocol, address: SocketAddr) -> Self {
        SocketGrant {
            protocol,
            address: Some(canonical(address.ip())),
            port: Some(address.port()),
        }
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether a connection to this address and port is allowed.
    pub fn allows(&self, protocol: Protocol, to: SocketAddr) -> bool {
        self.protocol == protocol
            && self
                .address
                .is_none_or(|address| address == canonical(to.ip()))
            && self.port.is_none_or(|port| port == to.port())
    }

    /// Whether it leaves nothing open, as what is granted must.
    pub(super) fn is_exact(&self) -> bool {
        self.address.is_some() && self.port.is_some()
    }

    /// Whether everything that another one allows is allowed by this one.
    pub(super) fn covers(&self, other: &SocketGrant) -> bool {
        self.protocol == other.protocol
            && (self.address.is_none() || self.address == other.address)
            && (self.port.is_none() || self.port == other.port)
    }
}

impl FromStr for SocketGrant {
    type Err = ParseSocketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ParseSocketError {
            text: super::quoted(text),
            reason,
        };
        if text.contains(NO_ADDRESS) {
            return Err(error("put an address in the place of <IP>"));
        }
        if text.contains(NO_PORT) {
            return Err(error("put a port in the place of <PORT>"));
        }
        let (protocol, rest) = match text.split_once("://") {
            Some(("tcp", rest)) => (Protocol::Tcp, rest),
            Some(("udp", rest)) => (Protocol::Udp, rest),
            Some(_) => return Err(error("the protocol is neither tcp nor udp")),
            None => return Err(error("there is no protocol")),
        };
        let (address, port) = rest
            .rsplit_once(':')
            .ok_or_else(|| error("there is no port"))?;
        let address = match address {
            "*" => None,
            _ => Some(match address.strip_prefix('[') {
                Some(inner) => inner
                    .strip_suffix(']')
                    .and_then(|inner| inner.parse().ok())
                    .map(IpAddr::V6)
                    .ok_or_else(|| error("what stands in brackets is not an IPv6 address"))?,
                None => address
                    .parse()
                    .map(IpAddr::V4)
                    .map_err(|_| error("a socket is granted by address, not by name"))?,
            }),
        };
        let port = match port {
            "*" => None,
            _ if port.starts_with('+') => return Err(error("the port is not a number")),
            _ => match port.parse() {
                Ok(0) => return Err(error("there is no port 0 to connect to")),
                Ok(port) => Some(port),
                Err(_) => return Err(error("the port is not a number from 1 to 65535")),
            },
        };
        Ok(SocketGrant {
            protocol,
            address: address.map(canonical),
            port,
        })
    }
}

impl fmt::Display for SocketGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.protocol.as_str())?;
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}")?,
            None => f.write_str("*")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

super::as_text!(SocketGrant, ParseSocketError, socket);

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> SocketGrant {
        text.parse().unwrap()
    }

    #[test]
    fn the_text_form_goes_both_ways() {
        for text in [
            "tcp://127.0.0.1:80",
            "udp://[::1]:53",
            "tcp://*:5432",
            "udp://*:*",
        ] {
            assert_eq!(grant(text).to_string(), text);
            let json = serde_json::to_string(&grant(text)).unwrap();
            assert_eq!(
                serde_json::from_str::<SocketGrant>(&json).unwrap(),
                grant(text)
            );
        }
        assert_eq!(
            grant("tcp://[::ffff:1.2.3.4]:80").to_string(),
            "tcp://1.2.3.4:80"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("127.0.0.1:80", "there is no protocol"),
            ("http://127.0.0.1:80", "the protocol is neither tcp nor udp"),
            ("tcp://127.0.0.1", "there is no port"),
            ("tcp://db:80", "a socket is granted by address, not by name"),
            (
                "tcp://[db]:80",
                "what stands in brackets is not an IPv6 address",
            ),
            ("tcp://1.2.3.4:0", "there is no port 0 to connect to"),
            ("tcp://<IP>:5432", "put an address in the place of <IP>"),
            ("tcp://1.2.3.4:<PORT>", "put a port in the place of <PORT>"),
            ("tcp://1.2.3.4:+1", "the port is not a number"),
            (
                "tcp://1.2.3.4:65536",
                "the port is not a number from 1 to 65535",
            ),
        ] {
            assert_eq!(
                text.parse::<SocketGrant>().unwrap_err().reason,
                reason,
                "{text}"
            );
        }
    }

    #[test]
    fn only_that_address_and_port_are_allowed() {
        let to = |text: &str| text.parse().unwrap();
        let exact = grant("tcp://10.0.0.1:80");
        assert!(exact.allows(Protocol::Tcp, to("10.0.0.1:80")));
        assert!(exact.allows(Protocol::Tcp, to("[::ffff:10.0.0.1]:80")));
        assert!(!exact.allows(Protocol::Tcp, to("10.0.0.1:81")));
        assert!(!exact.allows(Protocol::Tcp, to("10.0.0.2:80")));
        assert!(grant("tcp://*:80").covers(&exact));
        assert!(!grant("tcp://*:81").covers(&exact));
        assert!(!exact.covers(&grant("tcp://*:80")));
    }
}
