//! Servers that come back as ones of another era, at the same address: found out by the calls that fail.
//!
//! Not here: what is said to a server to find out (control's own tests), and changes of the configuration (reload).

use crate::support::Era;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::upstream::Builder;
use crate::support::upstream::upstream;
use std::net::TcpListener;

/// None: it speaks both.
fn speaking(era: Option<Era>) -> Builder {
    let any = upstream().tool("echo");
    match era {
        Some(era) => any.only(era),
        None => any,
    }
}

/// What is known of a server is asked for again when it fails. Nobody reloads anything, and nothing is listed meanwhile.
#[test]
fn bridge_finds_out_that_a_server_has_changed() {
    let (modern, legacy) = (Some(Era::Modern), Some(Era::Legacy));
    for [before, after] in [[legacy, modern], [modern, legacy], [None, modern], [None, legacy]] {
        for endpoint in ["up", ""] {
            everywhere(|run| {
                let name = if endpoint.is_empty() { "up__echo" } else { "echo" };
                let up = speaking(before).run();
                let gw = run
                    .gateway()
                    .workers(1)
                    .limit("name: handshakes, methods: [initialize], key: principal, rate: 1k/s")
                    .with("up", &up, &["breaker: off", "cache: {list: 10m}"])
                    .run();
                let call = || gw.call(endpoint, name).try_send().unwrap();
                assert_eq!(call().code(), 0);
                up.stop();
                let _up = speaking(after).run_on(TcpListener::bind(up.address).unwrap());
                eventually(&format!("served: {before:?} {after:?} {endpoint}"), || {
                    let answer = call();
                    (answer.status, answer.code()) == (200, 0)
                });
            });
        }
    }
}
