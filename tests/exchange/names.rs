//! Upstreams that are called by a name: several addresses, and addresses that change.
//!
//! Not here: the resolver itself (`control::resolve` has its own tests). The gateway gets a hosts file of its own,
//! where this machine allows a mount that nobody else sees.

use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::gateway::binary;
use crate::support::on_every_driver;
use crate::support::upstream::upstream;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// Starts a gateway for which `text` is /etc/hosts; none, and a word about it, where that is not allowed.
fn with_hosts(builder: Builder, text: &str) -> Option<(Gateway, PathBuf)> {
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no mount of its own is allowed here, so that no name can be made up");
        return None;
    }
    let hosts = builder.folder.file("hosts", text);
    let mount = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let command = builder.command_of(&["unshare", "-rm", "sh", "-c", mount, hosts.to_str()?, binary()]);
    Some((builder.run_as(command), hosts))
}

/// A name with two addresses, the first of which takes no connection: it uses up its own time, and the second one
/// serves the call.
#[test]
fn a_silent_address_leaves_time_for_the_next() {
    everywhere(|run| {
        // The resolver puts the address that is nearest to ours first.
        let (first, second) = pair();
        let up = upstream().tool("echo").run_on(second);
        let (_silent, _waiting) = deaf(first);
        let url = format!("url: \"http://several.example:{}/mcp\"", up.address.port());
        let builder = run.gateway().server("up", &[&url, "plaintext: true", "timeout: {connect: 300ms}"]);
        let text = "127.0.0.2 several.example\n127.0.0.1 several.example\n";
        let Some((gw, _)) = with_hosts(builder, text) else { return };
        let began = Instant::now();
        assert_eq!(gw.call("up", "echo").send().status, 200);
        let took = began.elapsed();
        assert!(took > Duration::from_millis(250), "{took:?}: the silent address was not tried first");
    });
}

/// Listeners on one port of two addresses.
fn pair() -> (TcpListener, TcpListener) {
    let listeners = (0..100).find_map(|_| {
        let first = TcpListener::bind("127.0.0.1:0").ok()?;
        let port = first.local_addr().ok()?.port();
        Some((first, TcpListener::bind(("127.0.0.2", port)).ok()?))
    });
    listeners.expect("a port that is free on both addresses")
}

/// Fills a listener's queue of connections: the kernel drops whoever knocks now. What fills it must be held.
fn deaf(listener: TcpListener) -> (Socket, Vec<Socket>) {
    let address = listener.local_addr().unwrap();
    let listener = Socket::from(listener);
    listener.listen(0).unwrap();
    let knock = || {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        client
    };
    (listener, (0..4).map(|_| knock()).collect())
}

/// A name that moves takes its traffic with it, however busy the connections to its old address are.
#[test]
fn a_name_that_moves_takes_its_traffic_along() {
    on_every_driver(|run| {
        let (first, second) = pair();
        let (old, new) = (upstream().tool("echo").run_on(first), upstream().tool("echo").run_on(second));
        let port = old.address.port();
        let url = format!("url: \"http://moves.example:{port}/mcp\"");
        let builder = run.gateway().workers(1).server("up", &[&url, "plaintext: true"]);
        let Some((gw, hosts)) = with_hosts(builder, "127.0.0.1 moves.example\n") else { return };
        let call = || assert_eq!(gw.call("up", "echo").send().status, 200);
        (0..20).for_each(|_| call());
        assert_eq!((old.calls(), new.calls()), (20, 0));
        // In place: the mount is of this very file. A new configuration has its names resolved at once.
        std::fs::write(&hosts, "127.0.0.2 moves.example\n").unwrap();
        gw.rewrite(&format!("{}# moved\n", gw.builder.yaml()));
        gw.hang_up();
        eventually("a call reaches the new address", || {
            call();
            new.calls() > 0
        });
        let before = old.calls();
        (0..20).for_each(|_| call());
        assert_eq!(old.calls(), before, "the old address is still called");
    });
}
