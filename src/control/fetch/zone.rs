//! How near to us an address is: where a URL may lead that another service named.
//!
//! Not here: connecting, and who may reach what (`fetch`).

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// From the farthest to the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Zone {
    Open,
    /// RFC 1918, RFC 6598, RFC 4193.
    Private,
    Loopback,
}

impl Zone {
    /// None where no service that may be named can be: link-local (cloud metadata), multicast, unspecified and
    /// reserved addresses (RFC 6890). An IPv4 address counts as itself however it is wrapped.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }
}

fn of_v4(v4: Ipv4Addr) -> Option<Zone> {
    match v4.octets() {
        [127, ..] => Some(Zone::Loopback),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => Some(Zone::Private),
        // "This network", link-local, protocol assignments, documentation, benchmarking, multicast and reserved.
        [0, ..] | [169, 254, ..] | [192, 0, 0 | 2, _] | [198, 18 | 19, ..] => None,
        [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => None,
        _ => Some(Zone::Open),
    }
}

fn of_v6(v6: Ipv6Addr) -> Option<Zone> {
    if v6.is_loopback() {
        return Some(Zone::Loopback);
    }
    let v4_at = |at: usize| {
        let octets = v6.octets();
        let v4 = octets.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
        v4.and_then(|octets| of_v4(octets.into()))
    };
    match v6.segments() {
        // IPv4-mapped, and what NAT64 (RFC 6052) and 6to4 (RFC 3056) translate.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4_at(12),
        [0x2002, ..] => v4_at(2),
        [0xfc00..=0xfdff, ..] => Some(Zone::Private),
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] => None,
        [0x2000..=0x3fff, ..] => Some(Zone::Open),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_address_is_in_its_zone() {
        let table = [
            (
                Some(Zone::Open),
                "8.8.8.8 172.15.0.1 172.32.0.1 100.128.0.1 192.0.1.1 2606:4700::1 2002:808:808::1",
            ),
            (Some(Zone::Open), "::ffff:8.8.8.8 64:ff9b::8.8.8.8"),
            (
                Some(Zone::Private),
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fc00::1 fdff::1",
            ),
            (Some(Zone::Private), "::ffff:10.0.0.1 64:ff9b::192.168.1.1 2002:a00:1::1"),
            (
                Some(Zone::Loopback),
                "127.0.0.1 127.255.0.1 ::1 ::ffff:127.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1::",
            ),
            (
                None,
                "0.0.0.0 169.254.169.254 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1",
            ),
            (None, "255.255.255.255 240.0.0.1 :: ::7f00:1 fe80::1 fec0::1 ff02::1 2001:db8::1 2001::1"),
            (None, "::ffff:169.254.169.254 64:ff9b::169.254.169.254 2002:a9fe:a9fe::1 64:ff9b:1::1 4000::1"),
        ];
        for (zone, addresses) in table {
            for address in addresses.split(' ') {
                assert_eq!(Zone::of(address.parse().expect("an address")), zone, "{address}");
            }
        }
    }
}
