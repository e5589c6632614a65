//! Addresses that an operator writes: listeners (`127.0.0.1:8080`) and upstream URLs.
//!
//! Not here: resolving names. The grammar is RFC 3986 without what makes URLs ambiguous: no userinfo,
//! no fragment, no backslash, nothing that another parser could read in another way.

use crate::config::limits;
use crate::config::plan::Transport;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Longest path of a Unix socket that the kernel takes (`sun_path` less its final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// RFC 1035 section 2.3.4.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub tls: bool,
    pub transport: Transport,
    /// Lower case; an IPv6 literal without brackets; empty for a Unix socket.
    pub host: Box<str>,
    /// Path and query, starting with `/`.
    pub target: Box<str>,
    /// What `Host` says: the port only where it is not the scheme's own.
    pub authority: Box<str>,
    /// `scheme://host:port` or `unix:/path`.
    pub label: Box<str>,
}

/// Why an address is none: a sentence without its subject and its full stop.
pub type Flaw = &'static str;

/// `http://host[:port][/path][?query]`, `https://…` or `unix:/socket/path:/mcp`.
///
/// # Errors
/// What is wrong, never quoting the text: it may hold a secret.
pub fn url(text: &str) -> Result<Url, Flaw> {
    url_or_flaws(text).map_err(|flaws| flaws.first().copied().unwrap_or(NO_SCHEME))
}

/// The same, with all that is wrong with its parts.
///
/// # Errors
/// At least one.
pub fn url_or_flaws(text: &str) -> Result<Url, Vec<Flaw>> {
    if let Some(rest) = text.strip_prefix("unix:") {
        return unix(rest).map_err(|flaw| vec![flaw]);
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Err(vec![NO_SCHEME]) };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(vec![NO_SCHEME]),
    };
    let (rest, fragment) = match rest.split_once('#') {
        Some((before, _)) => (before, Some(FRAGMENT)),
        None => (rest, None),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let (user, authority) = match authority.rsplit_once('@') {
        Some((_, host)) => (Some("has a user name in it; credentials belong under `headers`"), host),
        None => (None, authority),
    };
    let (target, place) = (target_of(target), place_of(authority, tls));
    match (target, place, fragment.or(user)) {
        (Ok(target), Ok(place), None) => Ok(Url { target: target.into(), ..place }),
        (target, place, _) => {
            let flaws = [target.err(), fragment, user, place.err()];
            Err(flaws.into_iter().flatten().collect())
        }
    }
}

const NO_SCHEME: Flaw = "does not start with `http://`, `https://` or `unix:/`";
const FRAGMENT: Flaw = "has a fragment (`#…`), which never leaves a browser";

/// A URL without its target.
fn place_of(authority: &str, tls: bool) -> Result<Url, Flaw> {
    let (host, written_port) = split_port(authority)?;
    let own_port = if tls { 443 } else { 80 };
    let port = written_port.unwrap_or(own_port);
    let (transport, host, shown) = match host_of(host)? {
        Host::Address(address) => {
            let shown = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            (Transport::Address(SocketAddr::new(address, port)), address.to_string(), shown)
        }
        Host::Name(name) => {
            let key = format!("{name}:{port}").into();
            (Transport::Name { host: name.as_str().into(), port, key }, name.clone(), name)
        }
    };
    let authority = if port == own_port { shown.clone() } else { format!("{shown}:{port}") };
    let label = format!("{}://{shown}:{port}", if tls { "https" } else { "http" });
    Ok(Url {
        tls,
        transport,
        host: host.into(),
        target: "".into(),
        authority: authority.into(),
        label: label.into(),
    })
}

fn unix(rest: &str) -> Result<Url, Flaw> {
    if !rest.starts_with('/') {
        return Err("names no absolute socket path (`unix:/run/server.sock:/mcp`)");
    }
    let (path, target) = match rest.find(":/") {
        Some(at) => rest.split_at(at),
        None => (rest, ":/"),
    };
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err("has a socket path longer than the 107 bytes that the system allows");
    }
    if path.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("has a control character in it");
    }
    Ok(Url {
        tls: false,
        transport: Transport::Unix(PathBuf::from(path)),
        host: "".into(),
        target: target_of(target.get(1..).unwrap_or(""))?.into(),
        authority: "localhost".into(),
        label: format!("unix:{path}").into(),
    })
}

/// RFC 3986 `path-abempty [ "?" query ]`, an empty path made `/`.
fn target_of(text: &str) -> Result<String, Flaw> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                if !digits.iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())) {
                    return Err("has a `%` that two hexadecimal digits do not follow");
                }
            }
            b'#' => return Err(FRAGMENT),
            b'/' | b'?' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b','
            | b';' | b'=' | b'-' | b'.' | b'_' | b'~' => {}
            _ if byte.is_ascii_alphanumeric() => {}
            _ => {
                return Err(
                    "has a character in its path that must be written as `%` and two hexadecimal digits",
                );
            }
        }
    }
    if text.len() >= limits::TARGET_BYTES_MAX {
        return Err("has a path longer than 8 KiB");
    }
    Ok(if text.starts_with('/') { text.to_owned() } else { format!("/{text}") })
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), Flaw> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']').ok_or("has a `[` without its `]`")?;
            // `end` is in `rest`; the host keeps its brackets.
            let (host, port) = authority.split_at(end + 2);
            match port {
                "" => (host, None),
                _ => (host, Some(port.strip_prefix(':').ok_or("has something between `]` and the port")?)),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let Some(port) = port else { return Ok((host, None)) };
    match port_of(port) {
        Some(port) if port > 0 => Ok((host, Some(port))),
        _ => Err("has a port that is no number from 1 to 65535"),
    }
}

fn port_of(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

enum Host {
    Address(IpAddr),
    Name(String),
}

fn host_of(text: &str) -> Result<Host, Flaw> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| "has no IPv6 address between `[` and `]`")?;
        return Ok(Host::Address(IpAddr::V6(address)));
    }
    if text.is_empty() {
        return Err("names no host");
    }
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    // RFC 3986 section 3.2.2 with the WHATWG rule: what ends in a number is an address or nothing, so
    // that `127.1` and `0x7f.1` cannot mean one thing to us and another to a resolver.
    let last = labels.clone().next_back().unwrap_or("");
    let digits = last.bytes().all(|byte| byte.is_ascii_digit());
    if digits || last.starts_with("0x") || last.starts_with("0X") {
        let address: Ipv4Addr =
            text.parse().map_err(|_| "has a host that ends in a number but is no IPv4 address")?;
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    if text.len() > HOST_BYTES_MAX || !labels.clone().all(is_label) {
        return Err("has a host that is no name (letters, digits, `-`, `_` and `.`)");
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080` (which is 127.0.0.1); port 0 is a free one.
pub fn listener(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(port)?))),
        None => text.parse().ok(),
    }
}

/// Loopback, private, shared (RFC 6598), link-local and unique-local addresses: a plain connection
/// to them does not cross the open internet.
pub fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_near(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

/// Whether a name can only be one of a private network: a single label (as in Compose and Kubernetes)
/// or one of the names that no public registry gives out.
pub fn is_near_name(name: &str) -> bool {
    const ENDINGS: &[&str] =
        &[".localhost", ".local", ".internal", ".svc", ".cluster.local", ".home.arpa", ".test"];
    !name.contains('.') || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// `host` or `host.example` as a client may name it in `Host`: lower case, no port.
pub fn host_name(text: &str) -> Option<String> {
    match host_of(text).ok()? {
        Host::Name(name) => Some(name),
        Host::Address(IpAddr::V4(address)) => Some(address.to_string()),
        Host::Address(IpAddr::V6(address)) => Some(format!("[{address}]")),
    }
}

/// `scheme://host[:port]` as a browser sends it (RFC 6454 section 6.2), lower case, the scheme's own
/// port left out.
pub fn origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let first = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !first || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return None;
    }
    let (host, port) = split_port(rest).ok()?;
    let host = host_name(host)?;
    match (scheme.as_str(), port) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => Some(format!("{scheme}://{host}")),
        (_, Some(port)) => Some(format!("{scheme}://{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, label: &str, authority: &str, target: &str) {
        let url = url(text).unwrap_or_else(|flaw| panic!("{text}: {flaw}"));
        let got = (&*url.label, &*url.authority, &*url.target);
        assert_eq!(got, (label, authority, target), "{text}");
    }

    #[test]
    fn urls() {
        check("http://10.0.0.7:3000/mcp", "http://10.0.0.7:3000", "10.0.0.7:3000", "/mcp");
        check("https://Crm.Example/mcp?a=%20b", "https://crm.example:443", "crm.example", "/mcp?a=%20b");
        check("http://[::1]:80", "http://[::1]:80", "[::1]", "/");
        check("HTTP://localhost:3000?x=1", "http://localhost:3000", "localhost:3000", "/?x=1");
        check(
            "https://my_server.internal:8443/",
            "https://my_server.internal:8443",
            "my_server.internal:8443",
            "/",
        );
        check("unix:/run/a b.sock:/mcp", "unix:/run/a b.sock", "localhost", "/mcp");
        check("unix:/run/a.sock", "unix:/run/a.sock", "localhost", "/");
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for text in [
            "",
            "localhost:3000",
            "ftp://a/",
            "http://",
            "http:///mcp",
            "http://user:pw@a/",
            "http://a@b/",
            "http://a/#x",
            "http://a/b c",
            "http://a/%zz",
            "http://a/%2",
            "http://a/\u{e9}",
            "http://a\\b/",
            "http://a:0/",
            "http://a:65536/",
            "http://a:+80/",
            "http://a:/",
            "http://a:b/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://256.1.1.1/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[fe80::1%eth0]/",
            "http://-a/",
            "http://a..b/",
            "http://a b/",
            "http://\u{e9}/",
            "http://a/\r\nx",
            "unix:run/a.sock",
            "unix:/a\0b",
        ] {
            assert!(url(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_url_is_told() {
        let count = |text: &str| url_or_flaws(text).expect_err(text).len();
        assert_eq!(count("http://user:pw@a:0/b c#x"), 4);
        assert_eq!(count("http://user@a/#x"), 2);
        assert_eq!(count("http://a#x"), 1);
        assert_eq!(count("ftp://user@a/#x"), 1);
    }

    #[test]
    fn listeners_and_origins() {
        let address = |text: &str| listener(text).map(|address| address.to_string());
        assert_eq!(address("localhost:0").as_deref(), Some("127.0.0.1:0"));
        assert_eq!(address("[::]:8080").as_deref(), Some("[::]:8080"));
        for text in ["8080", ":8080", "127.0.0.1", "example.com:80", "127.0.0.1:99999", "localhost:x"] {
            assert_eq!(address(text), None, "{text}");
        }
        let check = |text, expected: Option<&str>| assert_eq!(origin(text).as_deref(), expected, "{text}");
        check("https://App.Example", Some("https://app.example"));
        check("https://app.example:443", Some("https://app.example"));
        check("http://localhost:5173", Some("http://localhost:5173"));
        check("vscode-file://vscode-app", Some("vscode-file://vscode-app"));
        check("https://app.example/", None);
        check("*", None);
        check("null", None);
    }

    #[test]
    fn near_is_what_stays_off_the_open_internet() {
        let check = |text: &str, near| assert_eq!(is_near(text.parse().unwrap()), near, "{text}");
        check("127.0.0.1", true);
        check("172.31.0.1", true);
        check("100.64.0.1", true);
        check("fd00::1", true);
        check("::ffff:10.0.0.1", true);
        check("8.8.8.8", false);
        check("100.128.0.1", false);
        check("2001:4860::1", false);
        assert!(is_near_name("search") && is_near_name("a.svc.cluster.local") && !is_near_name("a.example"));
    }
}
