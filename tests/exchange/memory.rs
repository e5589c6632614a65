//! What connections cost while nothing happens.
//!
//! Not here: memory of long answers and slow readers (streaming).

use crate::support::call::Call;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::on_every_driver;
use crate::support::process;
use crate::support::size;
use crate::support::upstream::upstream;

/// An idle keep-alive connection costs at most 4 KiB: no read buffer is pinned.
#[test]
fn idle_connections_are_cheap() {
    // Fewer would measure the allocator's steps and not the connections.
    let count = 5000;
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let served = |call: Call| {
            let mut client = gw.client();
            client.send(&call.raw().bytes());
            assert_eq!(client.answer().status, 200);
            client
        };
        // Pools and tables reach their working size with the first connections.
        let _first: Vec<Client> = (0..100).map(|_| served(gw.modern("up", "echo"))).collect();
        let before = process::resident_kib(gw.pid());
        let idle: Vec<Client> = (0..count).map(|_| served(gw.modern("up", "echo"))).collect();
        let each = || process::resident_kib(gw.pid()).saturating_sub(before) as f64 / count as f64;
        eprintln!("{run:?}: {count} idle connections, {:.2} KiB each at once", each());
        // Idle is a state, not a moment: what the burst of calls used goes back within a few seconds.
        eventually("an idle connection costs at most 4 KiB", || each() <= 4.0);
        eprintln!("{run:?}: {count} idle connections, {:.2} KiB each", each());
        drop(idle);
        eventually("descriptors are given back", || process::descriptors(gw.pid()) < 100 + 100);
    });
}

/// Connections come and go without leaving a descriptor or memory behind.
#[test]
fn closed_connections_leave_nothing() {
    let rounds = size(3, 40);
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let round = || {
            for number in 0..250 {
                let mut client = gw.client();
                client.send(&gw.modern("up", "echo").raw().bytes());
                assert_eq!(client.answer().status, 200);
                if number % 2 == 0 {
                    client.reset();
                }
            }
        };
        round();
        let (resident, descriptors) = (process::resident_kib(gw.pid()), process::descriptors(gw.pid()));
        (0..rounds).for_each(|_| round());
        eventually("descriptors are given back", || process::descriptors(gw.pid()) <= descriptors + 4);
        let grown = process::resident_kib(gw.pid()).saturating_sub(resident);
        assert!(grown <= 1024, "{grown} KiB more after {} connections", rounds * 250);
    });
}

/// A table is resident where it was written, in every build: a mostly empty one costs next to nothing.
#[test]
fn an_empty_table_is_not_resident() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        // Of 128 MiB.
        let gw = run.gateway().top("limitTable: {buckets: 16M}".to_owned()).to("up", &up).run();
        assert_eq!(gw.modern("up", "echo").send().status, 200);
        let resident = process::resident_kib(gw.pid());
        assert!(resident < 32 << 10, "{resident} KiB");
    });
}
