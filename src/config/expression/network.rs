//! `Network`: the addresses that begin alike, as `cidr("10.0.16.0/20")` writes them (RFC 4632; RFC 4291 section 2.3).
//!
//! Not here: where an expression may name one (`check`). An IPv4 address that is written as an IPv6 one
//! (`::ffff:10.0.0.7`) is that IPv4 address, in a network too; no other network of IPv6 has one.

use crate::config::problem::quoted;
use std::net::IpAddr;
use std::net::Ipv6Addr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    is_v4: bool,
    /// An IPv4 address as the IPv6 one that stands for it; bits that do not count are 0.
    first: u128,
    /// The bits that count.
    mask: u128,
}

/// What is wrong with a text, and the cure.
type Flaw = (String, String);

impl Network {
    /// An address, `/`, and how many of its bits count; the others are 0.
    ///
    /// # Errors
    /// It is no network, or has other bits: then one of the two is not what was meant.
    pub(super) fn parse(text: &str) -> Result<Self, Flaw> {
        let no_network = || {
            let cure = "Write an address and its prefix, such as \"10.0.16.0/20\" or \"2001:db8::/32\".";
            (format!("{} is no network", quoted(text)), cure.to_owned())
        };
        let (address, count) = text.split_once('/').ok_or_else(no_network)?;
        let address: IpAddr = address.parse().map_err(|_| no_network())?;
        let bits_max: u32 = if address.is_ipv4() { 32 } else { 128 };
        let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = count.parse().ok().filter(|_| is_number).ok_or_else(no_network)?;
        let free = bits_max.checked_sub(count).ok_or_else(no_network)?;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        let all = bits(address);
        let first = all & mask;
        if first != all {
            let lowest = IpAddr::V6(Ipv6Addr::from_bits(first));
            let lowest = if address.is_ipv4() { lowest.to_canonical() } else { lowest };
            let what = format!("{} has bits beyond its prefix", quoted(text));
            return Err((what, format!("Did you mean \"{lowest}/{count}\"?")));
        }
        let is_v4 = free <= 32 && IpAddr::V6(Ipv6Addr::from_bits(first)).to_canonical().is_ipv4();
        Ok(Self { is_v4, first, mask })
    }

    pub fn contains(self, address: IpAddr) -> bool {
        address.to_canonical().is_ipv4() == self.is_v4 && bits(address) & self.mask == self.first
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_first_and_last_address_and_none_beside() {
        let table: [(&str, [&str; 2], &[&str]); 11] = [
            ("10.0.16.0/20", ["10.0.16.0", "10.0.31.255"], &["10.0.15.255", "10.0.32.0", "::10.0.16.1"]),
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], &["9.255.255.255", "11.0.0.0"]),
            ("192.0.2.7/32", ["192.0.2.7", "192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.6/31", ["192.0.2.6", "192.0.2.7"], &["192.0.2.5", "192.0.2.8"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], &["::", "::fffe:ffff:ffff", "::1:0:0:0"]),
            ("128.0.0.0/1", ["128.0.0.0", "255.255.255.255"], &["127.255.255.255", "8000::"]),
            (
                "2001:db8:0:10::/60",
                ["2001:db8:0:10::", "2001:db8:0:1f:ffff:ffff:ffff:ffff"],
                &["2001:db8:0:f:ffff:ffff:ffff:ffff", "2001:db8:0:20::", "32.1.13.184"],
            ),
            ("fd00::1/128", ["fd00::1", "fd00::1"], &["fd00::", "fd00::2"]),
            ("::/0", ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], &["10.0.0.7", "::ffff:10.0.0.7"]),
            ("::ffff:10.0.16.0/116", ["10.0.16.0", "10.0.31.255"], &["10.0.15.255", "10.0.32.0"]),
            ("::ffff:0:0/96", ["0.0.0.0", "255.255.255.255"], &["::", "::1"]),
        ];
        for (text, inside, outside) in table {
            let network = Network::parse(text).unwrap();
            let contains = |address: &str| network.contains(address.parse().unwrap());
            for address in inside {
                assert!(contains(address), "{text} {address}");
                if address.parse::<IpAddr>().unwrap().is_ipv4() {
                    assert!(contains(&format!("::ffff:{address}")), "{text} {address}");
                }
            }
            for address in outside {
                assert!(!contains(address), "{text} {address}");
            }
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "::/4294967296",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.0/ 8",
            "10.0.0/8",
            "010.0.0.0/8",
            "a/8",
            "fe80::%1/64",
            "[::]/0",
        ] {
            let (what, cure) = Network::parse(text).unwrap_err();
            assert!(
                what.ends_with("is no network") && cure.starts_with("Write an address"),
                "{text}: {what}"
            );
        }
        for (text, cure) in [
            ("10.0.17.0/20", "Did you mean \"10.0.16.0/20\"?"),
            ("10.0.0.1/0", "Did you mean \"0.0.0.0/0\"?"),
            ("2001:db8::1/64", "Did you mean \"2001:db8::/64\"?"),
            ("::ffff:10.0.0.1/104", "Did you mean \"::ffff:10.0.0.0/104\"?"),
        ] {
            let (what, told) = Network::parse(text).unwrap_err();
            assert!(what.contains("bits beyond its prefix") && told == cure, "{text}: {what} {told}");
        }
    }
}
