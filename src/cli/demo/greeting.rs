//! What the demo prints when it serves: addresses, keys, lines to paste.
//!
//! Not here: the requests themselves (`calls`).

use crate::cli::demo::Ready;
use crate::cli::demo::calls;
use crate::cli::demo::calls::Call;
use crate::cli::demo::calls::Caller;
use crate::cli::demo::client::Request;
use crate::cli::demo::issuer;
use crate::cli::demo::traffic::Keys;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

pub(super) struct Greeting {
    pub(super) keys: Keys,
    pub(super) token: String,
    pub(super) config: PathBuf,
    /// None: the log goes to the same terminal.
    pub(super) call_log: Option<PathBuf>,
}

impl Greeting {
    pub(super) fn text(&self, ready: Ready) -> String {
        let base = format!("http://{}", reachable(ready.listen));
        let admin = format!("http://{}", reachable(ready.admin));
        let shop = Caller { target: "/mcp/shop".to_owned(), key: Some(self.keys.support.clone()) };
        let operations =
            Caller { target: "/mcp/operations".to_owned(), key: Some(self.keys.operations.clone()) };
        let everything = Caller { target: "/mcp".to_owned(), ..shop.clone() };
        let status = Call::tool("order_status", json!({ "order_id": "FO-1002" }));
        let backup = Call::tool("run_backup", json!({ "database": "orders" })).with_progress(1);
        let refund = Call::tool("issue_refund", json!({ "order_id": "FO-1002", "amount_cents": 60_000 }));
        let outsider = Caller { target: operations.target.clone(), ..shop.clone() };
        let report = Call::tool("export_report", json!({ "bytes": 1_000 }));
        let with_head = |request: &_| with_head(&base, request);
        let log = match &self.call_log {
            None => "below, one JSON line a call".to_owned(),
            Some(path) => format!("tail -f {}", path.display()),
        };
        format!(
            "Ringgate demo: two sample MCP servers of a shop that does not exist, two instances each, two agents with keys and one with a token.

  shop         {base}/mcp/shop
  operations   {base}/mcp/operations
  both as one  {base}/mcp
  metrics      curl -s {admin}/metrics
  call log     {log}

  support-agent  {support}
  ops-agent      {ops}

Ask for an order (revision {modern}, one self-contained request):

{status}

Watch a backup report its progress, event by event:

{backup}

Open a session as an older client does (revision {legacy}; the answer's Mcp-Session-Id names it):

{initialize}

List the tools of `operations` as the support agent, who does not see `run_backup`, and asks in vain for a refund of
600.00, which the rule `large-refunds` leaves to the other agent:

{tools}

{refund}

List the tools of both servers at the one address of all; each says whose it is, as in `shop__order_status`:

{all}

{by_token}

Ask for a report, four times in a row: the limit `reports` lets three pass and refuses the fourth with 429. RateLimit
and Retry-After tell a client how long to wait; the other agent has no such limit:

{report}

See why, rule by rule; and what was counted, of each limit and of the two instances of each server:

{explain}

{limited}

{trouble}

Ctrl-C ends the demo and removes its files.
",
            support = self.keys.support,
            ops = self.keys.operations,
            modern = calls::MODERN,
            legacy = calls::LEGACY,
            status = calls::curl(&base, &shop.modern(1, &status)),
            all = calls::curl(&base, &everything.modern(7, &Call::plain("tools/list"))),
            backup = calls::curl(&base, &operations.modern(2, &backup)),
            initialize = with_head(&operations.initialize(3)),
            tools = calls::curl(&base, &outsider.modern(5, &Call::plain("tools/list"))),
            refund = with_head(&shop.modern(6, &refund)),
            by_token = self.by_token(&base, &shop),
            report = with_head(&shop.modern(4, &report)),
            trouble = trouble(&base, reachable(ready.admin), &operations),
            explain = explain(&self.config),
            limited = format_args!("curl -s {admin}/metrics | grep -E 'ringgate_(limited|upstream_requests|breaker_state)'"),
        )
    }
}

impl Greeting {
    /// What an agent of another house does, who is known by its token alone.
    fn by_token(&self, base: &str, shop: &Caller) -> String {
        let partner = Caller { key: Some(self.token.clone()), ..shop.clone() };
        let nobody = Caller { key: None, ..shop.clone() };
        let parcel = Call::tool("track_parcel", json!({ "order_id": "FO-1002" }));
        let refund = Call::tool("issue_refund", json!({ "order_id": "FO-1002", "amount_cents": 500 }));
        format!(
            "Call as {partner_name}, who has no key and shows an access token of an identity provider, good for 12 hours:

{parcel}

Its token has the scope `{scope}`. A refund needs another one, and WWW-Authenticate (403) tells a client which to ask for:

{step_up}

Without key or token it is 401, and the document that WWW-Authenticate names (RFC 9728) says who gives out tokens:

{stranger}

curl -sS '{base}/.well-known/oauth-protected-resource/mcp/shop'",
            partner_name = issuer::PRINCIPAL,
            scope = issuer::SCOPE,
            parcel = calls::curl(base, &partner.modern(8, &parcel)),
            step_up = with_head(base, &partner.modern(9, &refund)),
            stranger = with_head(base, &nobody.modern(10, &parcel)),
        )
    }
}

/// What becomes of a tool that is too slow, and of one that an operator stops.
fn trouble(base: &str, admin: SocketAddr, operations: &Caller) -> String {
    let slow = Call::tool("slow_query", json!({ "sql": "select * from parcels", "delay_ms": 5_000 }));
    let switch =
        |word: &str| format!("{} {word} tool shop.order_status --admin {admin} --reason 'a try'", program());
    format!(
        "Ask the warehouse for more than it can do in its three seconds, three times in a row: after two timeouts the breaker of the
tool opens, and the third call is refused at once, with the time to wait; the server's other tools go on:

{slow}

Stop a tool for everybody, ask for the order above again, which is refused with 403, and let it pass again:

{kill}

{unkill}",
        slow = with_head(base, &operations.modern(11, &slow)),
        kill = switch("kill"),
        unkill = switch("unkill"),
    )
}

/// This same program, which need not be on the PATH.
fn program() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "ringgate".into());
    calls::quoted(&program.display().to_string())
}

/// For the fourth of the reports above.
fn explain(config: &Path) -> String {
    let config = calls::quoted(&config.display().to_string());
    format!("{} explain -c {config} --as support-agent shop.export_report --after 3", program())
}

/// A line that shows the answer's head too.
fn with_head(base: &str, request: &Request) -> String {
    calls::curl(base, request).replacen("-sSN", "-sSNi", 1)
}

/// An address that listens everywhere is reached by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v6.port()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, expected: &str) {
        assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
    }

    #[test]
    fn wildcard_addresses_are_shown_as_loopback() {
        check("0.0.0.0:80", "127.0.0.1:80");
        check("[::]:80", "[::1]:80");
        check("192.0.2.7:80", "192.0.2.7:80");
    }

    #[test]
    fn both_keys_and_all_addresses_are_printed() {
        let keys = Keys { support: "key-of-support".to_owned(), operations: "key-of-operations".to_owned() };
        let ready =
            Ready { listen: "127.0.0.1:1234".parse().unwrap(), admin: "127.0.0.1:5678".parse().unwrap() };
        let token = "token-of-partner".to_owned();
        let text = Greeting { keys, token, config: "/tmp/gw.yaml".into(), call_log: None }.text(ready);
        for part in [
            "Authorization: Bearer key-of-support",
            "Authorization: Bearer key-of-operations",
            "http://127.0.0.1:1234/mcp/shop",
            "http://127.0.0.1:5678/metrics",
            "Authorization: Bearer token-of-partner",
            "'http://127.0.0.1:1234/.well-known/oauth-protected-resource/mcp/shop'",
            "Mcp-Method: tools/call",
            "\"method\":\"initialize\"",
            "explain -c '/tmp/gw.yaml' --as support-agent shop.export_report",
            "unkill tool shop.order_status --admin 127.0.0.1:5678",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
}
