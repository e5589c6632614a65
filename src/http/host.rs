//! Hosts as clients write them: the Host field, the authority of an absolute target, the Origin field.
//!
//! Not here: which hosts and origins are ours (policy of the listener). Nothing is decoded or mapped: what
//! is not plainly a name or an address is refused, because two readings of one host are a way around a
//! check (CVE-2026-48710).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Longest name (RFC 1035 section 2.3.4, without the length bytes).
const NAME_BYTES: usize = 253;

/// A host that passed the syntax check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostName<'a> {
    Address(IpAddr),
    /// As written; compare without regard to case.
    Name(&'a [u8]),
}

const REFUSED: Fault = Fault::new(Kind::Malformed, "Host must be one name or address, with at most a port.");

/// Splits `host[:port]`.
///
/// # Errors
/// `Malformed` for anything else: empty, userinfo, path, comma, whitespace, percent signs, a port that is
/// no number from 1 to 65535, a name that ends in a number without being an IPv4 address.
pub fn parse_authority(authority: &[u8]) -> Result<(HostName<'_>, Option<u16>), Fault> {
    split(authority).ok_or(REFUSED)
}

fn split(authority: &[u8]) -> Option<(HostName<'_>, Option<u16>)> {
    if let Some(inside) = authority.strip_prefix(b"[") {
        let end = memchr::memchr(b']', inside)?;
        let address: Ipv6Addr = std::str::from_utf8(&inside[..end]).ok()?.parse().ok()?;
        return Some((HostName::Address(address.into()), port(&inside[end + 1..])?));
    }
    let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
    let (host, rest) = authority.split_at(end);
    Some((name(host)?, port(rest)?))
}

/// Nothing, or a colon and a number. The outer `None` is a refusal.
fn port(rest: &[u8]) -> Option<Option<u16>> {
    let Some(digits) = rest.strip_prefix(b":") else { return rest.is_empty().then_some(None) };
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let number = digits.iter().try_fold(0_u32, |sum, byte| {
        // Five digits fit.
        byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'))
    })?;
    u16::try_from(number).ok().filter(|port| *port != 0).map(Some)
}

/// What a byte may be in a name: a dot, part of a label, or 0 for nothing.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = b'-';
    while byte <= b'z' {
        classes[byte as usize] = match byte {
            b'.' => DOT,
            b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => LABEL,
            _ => 0,
        };
        byte += 1;
    }
    classes
};
const DOT: u8 = 1;
const LABEL: u8 = 2;

fn name(host: &[u8]) -> Option<HostName<'_>> {
    // One dot at the end is the root.
    let labels = host.strip_suffix(b".").unwrap_or(host);
    if labels.len() > NAME_BYTES {
        return None;
    }
    let mut previous = DOT;
    for byte in labels {
        let class = CLASSES[usize::from(*byte)];
        if class == 0 || (class == DOT && previous == DOT) {
            return None;
        }
        previous = class;
    }
    if previous == DOT {
        return None;
    }
    let last = memchr::memrchr(b'.', labels).map_or(0, |dot| dot + 1);
    // Parsers that take 0x7f.1, 127.1 or 0177.0.0.1 for an address must not disagree with us: whatever
    // ends in a number is an address in the usual four parts, or refused.
    if ends_in_number(&labels[last..]) {
        let address: Ipv4Addr = std::str::from_utf8(host).ok()?.parse().ok()?;
        return Some(HostName::Address(address.into()));
    }
    Some(HostName::Name(host))
}

fn ends_in_number(label: &[u8]) -> bool {
    let hex = label.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"0x"));
    if hex { label[2..].iter().all(u8::is_ascii_hexdigit) } else { label.iter().all(u8::is_ascii_digit) }
}

/// Splits the value of an Origin field into scheme, host and port. `None`: `null`, a list, or anything that
/// is no serialised origin (RFC 6454 section 6.2).
pub fn parse_origin(value: &[u8]) -> Option<(&[u8], HostName<'_>, Option<u16>)> {
    let colon = memchr::memchr(b':', value)?;
    let (scheme, rest) = value.split_at(colon);
    let (first, others) = scheme.split_first()?;
    let token = first.is_ascii_alphabetic()
        && others.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let (host, port) = split(rest.strip_prefix(b"://")?)?;
    token.then_some((scheme, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<(HostName<'_>, Option<u16>)> {
        Some((HostName::Name(text.as_bytes()), None))
    }

    fn address(text: &str, port: Option<u16>) -> Option<(HostName<'static>, Option<u16>)> {
        Some((HostName::Address(text.parse().unwrap()), port))
    }

    #[test]
    fn authorities_are_plain_or_refused() {
        let long = "a".repeat(253);
        let too_long = "a".repeat(254);
        for (input, expected) in [
            ("gateway.test", name("gateway.test")),
            ("my_service-1", name("my_service-1")),
            ("Example.COM.", name("Example.COM.")),
            ("a:8080", Some((HostName::Name(b"a"), Some(8080)))),
            ("a:65535", Some((HostName::Name(b"a"), Some(65_535)))),
            ("127.0.0.1:1", address("127.0.0.1", Some(1))),
            ("[::1]:80", address("::1", Some(80))),
            ("[2001:db8::1]", address("2001:db8::1", None)),
            (&long, name(&long)),
            (&too_long, None),
            ("", None),
            (".", None),
            (":80", None),
            (".a", None),
            ("a..b", None),
            ("a..", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:99999", None),
            ("a:000080", None),
            ("a:+80", None),
            ("a:80:80", None),
            ("a:8o", None),
            ("u@a", None),
            ("u:p@a", None),
            ("a/b", None),
            ("a?b", None),
            ("a#b", None),
            ("a\\b", None),
            ("a, b", None),
            ("a b", None),
            (" a", None),
            ("a%41", None),
            ("\u{e9}", None),
            ("127.1", None),
            ("0177.0.0.1", None),
            ("0x7f.1", None),
            ("0x7f000001", None),
            ("2130706433", None),
            ("1.2.3.4.5", None),
            ("127.0.0.1.", None),
            ("a.0x", None),
            ("[::1", None),
            ("::1", None),
            ("[::1]x", None),
            ("[fe80::1%25eth0]", None),
            ("[127.0.0.1]", None),
            ("[]", None),
        ] {
            let seen = parse_authority(input.as_bytes());
            assert_eq!(seen.ok(), expected, "{input:?}");
            assert!(seen.is_ok() || seen.is_err_and(|fault| fault.kind == Kind::Malformed), "{input:?}");
        }
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        assert_eq!(
            parse_origin(b"http://a.test"),
            Some((b"http".as_slice(), HostName::Name(b"a.test"), None))
        );
        let local = HostName::Address(Ipv6Addr::LOCALHOST.into());
        assert_eq!(
            parse_origin(b"vscode-webview://[::1]:80"),
            Some((b"vscode-webview".as_slice(), local, Some(80)))
        );
        for input in [
            "null",
            "",
            "http:",
            "http://",
            "http://a/",
            "http://a b",
            "//a",
            "://a",
            "1http://a",
            "http://a, http://b",
        ] {
            assert_eq!(parse_origin(input.as_bytes()), None, "{input:?}");
        }
    }
}
