//! Every fixed bug as a named test that failed before the fix: `fn what_was_wrong()`, with its issue where
//! it has one, and how it was found.
//!
//! Not here: features (exchange) and rules of one function (unit tests beside the code).

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    reason = "tests measure real time, share records between plain threads and fail by panicking"
)]

#[expect(dead_code, reason = "the language serves tests/exchange too")]
#[path = "support/mod.rs"]
mod support;

use support::call::MODERN;
use support::on_every_driver;
use support::upstream::upstream;

/// The refusal of an unknown revision named an empty one in `data.requested`, so that a client could not
/// tell what was wrong with its request. Found by the first run of tests/exchange.
#[test]
fn an_unknown_revision_is_named_in_its_refusal() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.modern("up", "echo");
        let raw = call.raw().without("mcp-protocol-version").field("MCP-Protocol-Version: 2031-01-01");
        let raw = raw.body(call.body().replace(MODERN, "2031-01-01"));
        let error = gw.client().talk(&raw.bytes()).unwrap().json();
        assert_eq!(error["error"]["data"]["requested"], "2031-01-01", "{error}");
    });
}
