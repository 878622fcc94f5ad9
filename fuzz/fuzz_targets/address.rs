//! The address rules: which addresses are public is what IANA's registries say, no form of an IPv4 address is more
//! public than that address, and the texts of grants read the same again.

#![no_main]

mod seeds;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::grant::{AddressGrant, SocketGrant, not_public};

/// What inputs are made from.
const SEEDS: [&[u8]; 4] = [
    include_bytes!("../corpus/address/loopback"),
    include_bytes!("../corpus/address/network.txt"),
    include_bytes!("../corpus/address/socket.txt"),
    include_bytes!("../corpus/address/teredo"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

/// What IANA's registry of special addresses and the metadata services of clouds come to, written down a second time.
fn is_special(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127 | 224.., ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [192, 168, ..]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [168, 63, 129, 16] => true,
        _ => {
            assert!(
                !(address.is_loopback()
                    || address.is_private()
                    || address.is_link_local()
                    || address.is_broadcast()
                    || address.is_documentation()
                    || address.is_multicast()
                    || address.is_unspecified()),
                "{address}"
            );
            false
        }
    }
}

/// What the registry for IPv6 comes to, written down a second time: all but global unicast is special, and so is what
/// holds an IPv4 address that is.
fn is_special_v6(address: Ipv6Addr) -> bool {
    let words = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_special(Ipv4Addr::new(a, b, c, d))
    };
    let last = v4(words[6], words[7]);
    let isatap = matches!(words, [_, _, _, _, 0 | 0x200, 0x5efe, ..]) && last;
    match words {
        // Compatible, mapped, translated, and of the well-known prefix of NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => last,
        // Teredo, of the server's address and of the client's turned over, and what else is for protocols.
        [0x2001, 0, a, b, _, _, c, d] => v4(a, b) || v4(!c, !d),
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => true,
        [0x2002, a, b, ..] => v4(a, b) || isatap,
        [0x2000..=0x3fff, ..] => isatap,
        _ => true,
    }
}

/// Networks of IPv6 at whose borders that changes, or could.
const NETWORKS: [(u128, u8); 19] = [
    (0, 96),
    (0xffff << 32, 96),
    (0xffff << 48, 96),
    (0x0064_ff9b << 96, 96),
    (0x0064_ff9b_0001 << 80, 48),
    (0x0100 << 112, 64),
    (0x2000 << 112, 3),
    (0x2001 << 112, 32),
    (0x2001 << 112, 23),
    (0x2001_0002 << 96, 48),
    (0x2001_0db8 << 96, 32),
    (0x2002 << 112, 16),
    (0x3fff << 112, 20),
    (0x5f00 << 112, 16),
    (0xfc00 << 112, 7),
    (0xfd00_0ec2 << 96, 32),
    (0xfe80 << 112, 10),
    (0xfec0 << 112, 10),
    (0xff00 << 112, 8),
];

/// Checks whether an address is public, in both directions.
fn check_v6(address: Ipv6Addr) {
    let told = not_public(address.into());
    assert_eq!(
        told.is_some(),
        is_special_v6(address),
        "{address}: {told:?}"
    );
    let internal = address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unique_local()
        || address.is_unicast_link_local();
    assert!(!internal || told.is_some(), "{address}");
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(octets) = bytes.first_chunk::<4>() {
        let plain = Ipv4Addr::from(*octets);
        assert_eq!(
            not_public(plain.into()).is_some(),
            is_special(plain),
            "{plain}"
        );
        let [a, b] = [
            u16::from_be_bytes([octets[0], octets[1]]),
            u16::from_be_bytes([octets[2], octets[3]]),
        ];
        let forms = [
            plain.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, a, b),
            Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, a, b, 0, 0, !0x0808, !0x0808),
            Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !a, !b),
        ];
        for form in forms {
            assert_eq!(
                not_public(form.into()),
                not_public(plain.into()),
                "{form} of {plain}"
            );
        }
        let grant = AddressGrant::from(IpAddr::V4(plain));
        assert!(grant.contains(plain.to_ipv6_mapped().into()));
    }
    if let Some(octets) = bytes.first_chunk::<16>() {
        let address = Ipv6Addr::from(*octets);
        check_v6(address);
        // The same within each network, and beside it by one bit of its prefix.
        for (network, prefix) in NETWORKS {
            let within = network | (address.to_bits() & (u128::MAX >> prefix));
            let beside = within ^ (1 << (127 - octets[0] % prefix));
            for bits in [within, beside] {
                check_v6(bits.into());
                // And as it is written where an IPv4 address is behind it.
                check_v6((bits & !(u128::from(u32::MAX) << 32) | (0x5efe << 32)).into());
            }
        }
        assert!(AddressGrant::from(IpAddr::V6(address)).contains(address.into()));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(grant) = text.parse::<AddressGrant>() {
        assert_eq!(grant.to_string().parse(), Ok(grant));
    }
    if let Ok(grant) = text.parse::<SocketGrant>() {
        assert_eq!(grant.to_string().parse(), Ok(grant));
    }
});
