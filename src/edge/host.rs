//! Is this Host ours, is this Origin ours? Against DNS rebinding on every listener (MCP transports, security
//! warning; RUSTSEC-2026-0189).
//!
//! Not here: the syntax of the two headers; they come in parts.
//!
//! An attacker who rebinds a name controls the name, never an address literal. So ours are: the address that
//! the client connected to, `localhost` and loopback literals on a loopback connection, and the names that
//! the operator lists in `http.hosts`. Ports do not matter: a rebound page reaches the same port anyway.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::plan::Http;
use std::net::IpAddr;

const HOST: Fault = Fault::new(
    Kind::HostRefused,
    "This gateway does not serve that host; the operator can list it in http.hosts.",
);
const ORIGIN: Fault = Fault::new(
    Kind::OriginRefused,
    "Pages of that origin may not call this gateway; the operator can list it in http.origins.",
);
pub const TWO_ORIGINS: Fault = Fault::new(Kind::OriginRefused, "Origin came twice; send it once.");

/// # Errors
/// 403 for a host that is not ours.
pub fn check_host(http: &Http, local: IpAddr, address: Option<IpAddr>, name: &[u8]) -> Result<(), Fault> {
    if is_ours(http, local, address, name) { Ok(()) } else { Err(HOST) }
}

/// `value` is the header as it came; `host` its host where it could be parsed (`null` cannot).
///
/// # Errors
/// 403 for an origin that is not ours.
pub fn check_origin(
    http: &Http,
    local: IpAddr,
    value: &[u8],
    host: Option<(Option<IpAddr>, &[u8])>,
) -> Result<(), Fault> {
    let listed = http.origins.iter().any(|origin| origin.as_bytes().eq_ignore_ascii_case(value));
    let own = host.is_some_and(|(address, name)| is_ours(http, local, address, name));
    if listed || own { Ok(()) } else { Err(ORIGIN) }
}

fn is_ours(http: &Http, local: IpAddr, address: Option<IpAddr>, name: &[u8]) -> bool {
    let loopback = local.to_canonical().is_loopback();
    match address {
        Some(address) => {
            let address = address.to_canonical();
            address == local.to_canonical() || (loopback && address.is_loopback())
        }
        None => {
            (loopback && name.eq_ignore_ascii_case(b"localhost"))
                || http.hosts.iter().any(|host| host.as_bytes().eq_ignore_ascii_case(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn http() -> Http {
        Http {
            max_body: 0,
            max_head: 0,
            header_timeout_ms: 0,
            idle_timeout_ms: 0,
            drain_ms: 0,
            stream_comment_ms: 0,
            hosts: vec!["gw.example".into()],
            origins: vec!["https://app.example".into()],
        }
    }

    #[test]
    fn hosts() {
        let table = [
            ("127.0.0.1:80", "127.0.0.1", true),
            ("127.0.0.1:80", "127.0.0.9", true),
            ("127.0.0.1:80", "::1", true),
            ("127.0.0.1:80", "localhost", true),
            ("127.0.0.1:80", "LOCALHOST", true),
            ("127.0.0.1:80", "gw.example", true),
            ("127.0.0.1:80", "evil.example", false),
            ("127.0.0.1:80", "localhost.evil.example", false),
            ("127.0.0.1:80", "10.0.0.1", false),
            ("10.0.0.1:80", "10.0.0.1", true),
            ("10.0.0.1:80", "10.0.0.2", false),
            ("10.0.0.1:80", "localhost", false),
            ("10.0.0.1:80", "127.0.0.1", false),
            ("10.0.0.1:80", "GW.example", true),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1", true),
        ];
        for (local, host, ours) in table {
            let found = check_host(
                &http(),
                local.parse::<SocketAddr>().unwrap().ip(),
                host.parse().ok(),
                host.as_bytes(),
            );
            assert_eq!(found.is_ok(), ours, "{host} on {local}");
        }
    }

    #[test]
    fn origins() {
        let local = "127.0.0.1".parse().unwrap();
        let check = |value: &str, host: Option<&str>| {
            let host = host.map(|host| (host.parse().ok(), host.as_bytes()));
            check_origin(&http(), local, value.as_bytes(), host).is_ok()
        };
        assert!(check("http://localhost:6274", Some("localhost")));
        assert!(check("https://app.example", Some("app.example")));
        assert!(!check("http://app.example", Some("app.example")));
        assert!(!check("https://evil.example", Some("evil.example")));
        assert!(!check("null", None));
    }
}
