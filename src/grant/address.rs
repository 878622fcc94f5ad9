//! Address rules: which addresses are public, and the grants of those that are not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// IPv4 that is not of the public internet, and what it is. The first that fits names it.
const SPECIAL_V4: [(&str, &str); 19] = [
    ("169.254.169.254/32", "a metadata service"),
    ("169.254.170.2/32", "a metadata service"),
    ("100.100.100.200/32", "a metadata service"),
    ("168.63.129.16/32", "a metadata service"),
    ("192.0.0.192/32", "a metadata service"),
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by carriers"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.88.99.0/24", "a 6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    // Multicast, what is reserved, and broadcast.
    ("224.0.0.0/3", "multicast or reserved"),
];

/// The same of IPv6. What holds an IPv4 address is looked at before, by [`embedded`].
const SPECIAL_V6: [(&str, &str); 13] = [
    ("fd00:ec2::254/128", "a metadata service"),
    ("fd00:ec2::23/128", "a metadata service"),
    ("fd20:ce::254/128", "a metadata service"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("fc00::/7", "private"),
    ("ff00::/8", "multicast"),
    ("100::/64", "a black hole"),
    ("2001:db8::/32", "for documentation"),
    ("3fff::/20", "for documentation"),
    ("2001::/23", "reserved for protocols"),
];

/// The part of IPv6 that is in use on the public internet.
const GLOBAL_UNICAST: &str = "2000::/3";

/// What an address is, where it is not of the public internet: `loopback`, `private`, …
///
/// Of IPv6, only global unicast is public. An address that holds an IPv4 address (mapped,
/// compatible, translated, NAT64, 6to4, Teredo, ISATAP) is public only where that one is, too.
///
/// ```
/// use skillhost::grant::not_public;
///
/// assert_eq!(not_public("127.0.0.1".parse().unwrap()), Some("loopback"));
/// assert_eq!(not_public("::ffff:10.1.2.3".parse().unwrap()), Some("private"));
/// assert_eq!(not_public("1.1.1.1".parse().unwrap()), None);
/// ```
pub fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => not_public_v4(address),
        IpAddr::V6(address) => not_public_v6(address),
    }
}

fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    named(&SPECIAL_V4, address.into())
}

fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    // Before the embedded forms: `::` and `::1` are compatible ones by their bits.
    if let Some(name) = named(&SPECIAL_V6, address.into())
        && name != "reserved for protocols"
    {
        return Some(name);
    }
    match embedded(address) {
        Some(Embedded::Only(inner)) => not_public_v4(inner),
        Some(Embedded::Within(inners)) => inners.into_iter().find_map(not_public_v4),
        None if !within(GLOBAL_UNICAST, address.into()) => Some("reserved"),
        None => named(&SPECIAL_V6, address.into()),
    }
}

/// What the first of these networks that holds the address is called.
fn named(
    networks: &'static [(&'static str, &'static str)],
    address: IpAddr,
) -> Option<&'static str> {
    networks
        .iter()
        .find(|(network, _)| within(network, address))
        .map(|(_, name)| *name)
}

fn within(network: &str, address: IpAddr) -> bool {
    // A constant that could not be read would hold everything: nothing gets out by a typing error.
    network
        .parse::<IpNet>()
        .map_or(true, |network| network.contains(&address))
}

/// IPv4 addresses inside an IPv6 one.
enum Embedded {
    /// The IPv6 address is a way to write this one.
    Only(Ipv4Addr),
    /// What is sent there goes through a relay, to or by way of each of these.
    Within([Ipv4Addr; 2]),
}

fn embedded(address: Ipv6Addr) -> Option<Embedded> {
    let bytes = address.octets();
    let at = |place: usize| {
        Ipv4Addr::new(
            bytes[place],
            bytes[place + 1],
            bytes[place + 2],
            bytes[place + 3],
        )
    };
    let words = address.segments();
    match words {
        // Compatible `::a.b.c.d`, mapped `::ffff:a.b.c.d`, translated `::ffff:0:a.b.c.d`, and
        // NAT64 `64:ff9b::a.b.c.d`.
        [0, 0, 0, 0, 0, 0, _, _]
        | [0, 0, 0, 0, 0, 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(Embedded::Only(at(12))),
        // 6to4, and ISATAP below it.
        [0x2002, _, _, _, 0 | 0x200, 0x5efe, _, _] => Some(Embedded::Within([at(2), at(12)])),
        [0x2002, ..] => Some(Embedded::Within([at(2), at(2)])),
        // Teredo: the server, and the client with its bits turned over.
        [0x2001, 0, ..] => {
            let client = Ipv4Addr::from_bits(!at(12).to_bits());
            Some(Embedded::Within([at(4), client]))
        }
        // ISATAP, below any other prefix of the public internet.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _]
            if within(GLOBAL_UNICAST, address.into())
                && named(&SPECIAL_V6, address.into()).is_none() =>
        {
            Some(Embedded::Within([at(12), at(12)]))
        }
        _ => None,
    }
}

/// The address that is meant: an IPv4 address mapped into IPv6 is that IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Addresses that are not public and that a granted name may still resolve to: one, or a network.
///
/// ```
/// use skillhost::grant::AddressGrant;
///
/// let grant: AddressGrant = "10.20.0.0/16".parse()?;
/// assert!(grant.contains("10.20.1.1".parse().unwrap()));
/// assert_eq!("127.0.0.1".parse::<AddressGrant>()?.to_string(), "127.0.0.1");
/// # Ok::<(), skillhost::grant::ParseAddressError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressGrant(IpNet);

/// A text that is no address grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an address grant: {reason}; write an IP address, or a network such as 10.1.0.0/16"
)]
pub struct ParseAddressError {
    text: String,
    reason: String,
}

impl AddressGrant {
    /// Whether the address is granted. One that is mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&canonical(address))
    }

    /// Whether it is so wide that it names nothing: wider than any network that is not of the public internet.
    pub fn is_wide(&self) -> bool {
        match self.0 {
            IpNet::V4(network) => network.prefix_len() < 8,
            IpNet::V6(network) => network.prefix_len() < 7,
        }
    }
}

impl From<IpAddr> for AddressGrant {
    fn from(address: IpAddr) -> Self {
        AddressGrant(canonical(address).into())
    }
}

impl FromStr for AddressGrant {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: String| ParseAddressError {
            text: super::quoted(text),
            reason,
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let Ok(network) = text.parse::<IpNet>() else {
            return Err(error("it is neither an address nor a network".into()));
        };
        if network != network.trunc() {
            return Err(error(format!(
                "it names a network by one of its hosts; the network is {}",
                network.trunc()
            )));
        }
        if let IpNet::V6(six) = network
            && six.prefix_len() >= 96
            && six.addr().to_ipv4_mapped().is_some()
        {
            return Err(error("write it as IPv4".into()));
        }
        Ok(AddressGrant(network))
    }
}

impl fmt::Display for AddressGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

super::as_text!(AddressGrant, ParseAddressError, address);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_tables_can_be_read() {
        for (network, name) in SPECIAL_V4.iter().chain(&SPECIAL_V6) {
            let read: IpNet = network.parse().unwrap();
            assert_eq!(read, read.trunc(), "{name}");
        }
        assert!(GLOBAL_UNICAST.parse::<IpNet>().is_ok());
    }

    #[test]
    fn what_is_public_is_let_through() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "::ffff:1.1.1.1",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert_eq!(not_public(ip(text)), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_public_is_named() {
        for (text, name) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared by carriers"),
            ("100.127.255.255", "shared by carriers"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "a metadata service"),
            ("168.63.129.16", "a metadata service"),
            ("100.100.100.200", "a metadata service"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("192.0.2.1", "for documentation"),
            ("198.18.0.1", "for benchmarks"),
            ("198.19.255.255", "for benchmarks"),
            ("198.51.100.1", "for documentation"),
            ("203.0.113.1", "for documentation"),
            ("224.0.0.1", "multicast or reserved"),
            ("240.0.0.1", "multicast or reserved"),
            ("255.255.255.255", "multicast or reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("fc00::1", "private"),
            ("fdff::1", "private"),
            ("fd00:ec2::254", "a metadata service"),
            ("ff02::1", "multicast"),
            ("2001:db8::1", "for documentation"),
            ("3fff::1", "for documentation"),
            ("2001:2::1", "reserved for protocols"),
            ("2001:20::1", "reserved for protocols"),
            ("100::1", "a black hole"),
            ("4000::1", "reserved"),
            ("64:ff9b:1::1", "reserved"),
            ("5f00::1", "reserved"),
            // Forms that hold an IPv4 address.
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:a9fe:a9fe", "a metadata service"),
            ("::127.0.0.1", "loopback"),
            ("::10.0.0.1", "private"),
            ("::ffff:0:10.0.0.1", "private"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("2002:a00:1::1", "private"),
            // Teredo: a server of 10.0.0.1, and a client of 127.0.0.1 behind a public one.
            ("2001:0:a00:1::1", "private"),
            ("2001:0:808:808:0:0:80ff:fffe", "loopback"),
            ("2606:4700::5efe:7f00:1", "loopback"),
            ("2606:4700::200:5efe:a00:1", "private"),
            ("2002:808:808::5efe:a00:1", "private"),
            // What is reserved stays so, whatever it holds.
            ("2001:2::5efe:808:808", "reserved for protocols"),
        ] {
            assert_eq!(not_public(ip(text)), Some(name), "{text}");
        }
    }

    #[test]
    fn a_grant_is_an_address_or_a_network() {
        let grant = |text: &str| text.parse::<AddressGrant>();
        assert!(grant("127.0.0.1").unwrap().contains(ip("127.0.0.1")));
        assert!(grant("127.0.0.1").unwrap().contains(ip("::ffff:127.0.0.1")));
        assert!(!grant("127.0.0.1").unwrap().contains(ip("127.0.0.2")));
        // A relay into a granted network is another address.
        assert!(
            !grant("10.0.0.0/8")
                .unwrap()
                .contains(ip("64:ff9b::10.0.0.1"))
        );
        assert!(grant("fd00::/8").unwrap().contains(ip("fd12::1")));
        for text in ["127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"] {
            assert_eq!(grant(text).unwrap().to_string(), text);
        }
        let message = grant("10.1.2.3/8").unwrap_err().to_string();
        assert!(message.contains("the network is 10.0.0.0/8"), "{message}");
        assert!(grant("localhost").is_err());
        assert!(grant("10.0.0.0/33").is_err());
        assert!(grant("::ffff:10.0.0.0/104").is_err());
        assert_eq!(grant("::ffff:10.0.0.1").unwrap().to_string(), "10.0.0.1");
    }
}
