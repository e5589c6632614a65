//! Real sockets: the binary between a scripted upstream and raw or MCP clients, by topic. Tests that
//! bear the name of a feature are that feature's proof; each runs on both drivers, and in both eras
//! where it can be.
//!
//! `RINGGATE_TEST_DRIVER=uring|epoll` picks one driver, `RINGGATE_TEST_FULL=1` the full sizes,
//! `RINGGATE_TEST_BINARY` another build of the gateway.
//!
//! Not here: the pure parts (unit tests beside the code) and real peers (tests/peers).

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests measure real time, share records between plain threads and fail by panicking"
)]

// Where `crate::…` of the policies leads.
use ringgate::config;
use ringgate::mcp;
use ringgate::policy;

#[path = "../policies/mod.rs"]
#[expect(
    dead_code,
    clippy::cast_possible_truncation,
    reason = "here they are put to the gateway, and not to the library; small numbers are drawn"
)]
mod policies;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod advisories;
mod bridge;
mod bridge_answers;
mod bridge_changes;
mod bridge_complaints;
mod bridge_failures;
mod bridge_questions;
mod bridge_states;
mod cancel;
mod connection;
mod credentials;
mod drain;
mod explain;
mod faults;
mod federation;
mod federation_faults;
mod federation_instances;
mod federation_lists;
mod federation_load;
mod federation_messages;
mod federation_policy;
mod federation_restart;
mod federation_resumption;
mod federation_said;
mod federation_sessions;
mod federation_streams;
mod federation_subscriptions;
mod federation_swap;
mod filtered;
mod filtered_policies;
mod framing;
mod headers;
mod hidden;
mod http2;
mod http2_floods;
mod http2_malformed;
mod identity_fields;
mod json;
mod kill_switch;
mod lab;
mod language;
mod limits;
mod limits_flood;
mod limits_headers;
mod limits_identity;
mod limits_quota;
mod limits_rates;
mod limits_together;
mod limits_tokens;
mod memory;
mod mtls;
mod names;
mod oauth;
mod oidc;
mod opa;
mod own_lists;
mod pool;
mod reload;
mod review;
mod route_adaptive;
mod route_attribute;
mod route_balance;
mod route_breaker;
mod route_complaints;
mod route_deadline;
mod route_failover;
mod route_faults;
mod route_health;
mod route_hook;
mod route_outcomes;
mod route_retry;
mod route_slow_start;
mod route_timeouts;
mod route_visible;
mod saml;
mod secrets;
mod sessions;
mod startup;
mod streaming;
mod tasks;
mod tenants;
mod tls;
mod tls_handshakes;
mod tokens;
mod upstream_limit;
mod user_oauth;
