//! Real sockets: the binary between a scripted upstream and raw or MCP clients, by topic. Tests that
//! bear the name of a feature are that feature's proof; each runs on both drivers, and in both eras
//! where it can be.
//!
//! `RINGGATE_TEST_DRIVER=uring|epoll` picks one driver, `RINGGATE_TEST_FULL=1` the full sizes.
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

#[path = "../support/mod.rs"]
mod support;

mod cancel;
mod connection;
mod drain;
mod faults;
mod framing;
mod headers;
mod json;
mod lab;
mod language;
mod limits;
mod memory;
mod names;
mod pool;
mod reload;
mod review;
mod secrets;
mod sessions;
mod startup;
mod streaming;
