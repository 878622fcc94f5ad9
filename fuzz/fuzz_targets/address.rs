//! The address rules: which IPv4 addresses are public is what IANA's registry says, no form of one is more public than
//! that address, and the texts of grants read the same again.

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
        let internal = address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast()
            || address.is_unique_local()
            || address.is_unicast_link_local();
        assert!(
            !internal || not_public(address.into()).is_some(),
            "{address}"
        );
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
