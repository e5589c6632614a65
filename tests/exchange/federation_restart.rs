//! What a gateway knows of its servers after a restart, where it has a state directory.
//!
//! Not here: starts without one (federation_faults), and sessions, which outlive it by themselves (federation_sessions).

use crate::federation::Lister;
use crate::federation::tools;
use crate::support::Run;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

const STATE: &str = "state: {dir: state}";

fn file(gw: &Gateway) -> PathBuf {
    gw.config.parent().unwrap().join("state/catalogues")
}

/// A gateway that has listed both, and kept what they have.
fn listed(run: Run, up: &Upstream, well: &Upstream, expected: &[&str]) -> Gateway {
    let gw = run.gateway().top(STATE).to("up", up).to("well", well).run();
    assert_eq!(tools(&gw, ""), expected);
    let kept = || std::fs::read(file(&gw)).unwrap_or_default();
    eventually("it is kept", || {
        let text = String::from_utf8_lossy(&kept()).into_owned();
        text.contains("\"well\"") && text.contains("\"up\"")
    });
    gw
}

/// A gateway of another configuration that finds what this one has kept.
fn heir(gw: &Gateway, builder: Builder) -> Gateway {
    let directory = builder.folder.path().join("state");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(file(gw), directory.join("catalogues")).unwrap();
    builder.top(STATE).run()
}

/// What a list says beside its tools.
fn mark(lister: &mut Lister, name: &str) -> Value {
    lister.result(0)["_meta"][format!("io.ringgate/{name}")].clone()
}

/// Feature, Bifrost #4998: a server that is down when the gateway starts is listed as it was, at once and marked, and as it
/// is once it is back.
#[test]
fn bifrost_4998_tools_after_restart_of_a_server_that_is_down() {
    everywhere(|run| {
        let up = upstream().tool("kept").run();
        let well = upstream().tool("echo").run();
        let mut gw = listed(run, &up, &well, &["up__kept", "well__echo"]);
        up.stop();
        for signal in [Signal::TERM, Signal::KILL] {
            gw.restart(signal);
            let begun = Instant::now();
            let mut lister = Lister::new(gw.caller(""));
            assert_eq!(lister.tools(), ["up__kept", "well__echo"]);
            assert!(begun.elapsed() < Duration::from_secs(2), "it waited for one that is down");
            eventually("only the one that is down is marked", || mark(&mut lister, "stale") == json!(["up"]));
            assert_eq!(mark(&mut lister, "missing"), Value::Null);
            lister.caller().passes("well__echo");
            let call = lister.caller().tool("up__kept");
            let answer = lister.caller().send(&call);
            assert!(matches!(answer.status, 502 | 503), "{answer:?}");
        }
        let back = upstream().tool("kept").tool("new").run_on(TcpListener::bind(up.address).unwrap());
        let mut lister = Lister::new(gw.caller(""));
        eventually("it is listed", || lister.tools() == ["up__kept", "up__new", "well__echo"]);
        assert_eq!(mark(&mut lister, "stale"), Value::Null);
        lister.caller().passes("up__kept");
        assert_eq!(back.calls(), 1);
    });
}

/// Feature, Bifrost #4998: "serves the stored one meanwhile": nobody waits for a server that keeps silent.
#[test]
fn bifrost_4998_tools_after_restart_of_a_server_that_is_silent() {
    everywhere(|run| {
        let (up, well) = (upstream().tool("kept").run(), upstream().tool("echo").run());
        let mut gw = listed(run, &up, &well, &["up__kept", "well__echo"]);
        up.stop();
        let silent = script::script(|connection, _| {
            connection.until_gone();
            Next::Close
        });
        let _silent = upstream().every(silent).run_on(TcpListener::bind(up.address).unwrap());
        gw.restart(Signal::TERM);
        let mut lister = Lister::new(gw.caller(""));
        let begun = Instant::now();
        assert_eq!(lister.tools(), ["up__kept", "well__echo"]);
        assert!(begun.elapsed() < Duration::from_secs(1), "it was waited for");
        assert_eq!(mark(&mut lister, "stale").as_array().unwrap()[0], "up");
    });
}

/// What was kept is shown to those who may see it, and no longer than `maxStale` says.
#[test]
fn what_is_kept_obeys_rules_and_its_time() {
    everywhere(|run| {
        let up = upstream().tool("open").tool("secret").run();
        let well = upstream().tool("echo").run();
        let gw = listed(run, &up, &well, &["up__open", "up__secret", "well__echo"]);
        up.stop();
        let builder = || run.gateway().to("well", &well);
        let ruled = heir(
            &gw,
            builder().access("name: all, allow: [\"*\"]").access("name: no, deny: [up.secret]").to("up", &up),
        );
        assert_eq!(tools(&ruled, ""), ["well__echo", "up__open"]);
        let soon = heir(&gw, builder().with("up", &up, &["cache: {maxStale: 0s}"]));
        let mut lister = Lister::new(soon.caller(""));
        eventually("it is too old", || lister.tools() == ["well__echo"]);
        assert_eq!(mark(&mut lister, "missing"), json!(["up"]));
    });
}

/// A file that cannot be used is told of, and no obstacle; it is written anew.
#[test]
fn what_is_kept_and_damaged_is_told_of() {
    everywhere(|run| {
        let (up, well) = (upstream().tool("kept").run(), upstream().tool("echo").run());
        let mut gw = listed(run, &up, &well, &["up__kept", "well__echo"]);
        let mut bytes = std::fs::read(file(&gw)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file(&gw), &bytes).unwrap();
        up.stop();
        gw.restart(Signal::KILL);
        let mut lister = Lister::new(gw.caller(""));
        assert_eq!(lister.tools(), ["well__echo"]);
        assert_eq!(mark(&mut lister, "missing"), json!(["up"]));
        eventually("it is told", || gw.stderr().contains("damaged, or of another version"));
        eventually("it is written anew", || std::fs::read(file(&gw)).unwrap() != bytes);
    });
}

/// What was listed with one credential is not shown where the gateway has another; nobody else reads the file.
#[test]
fn what_is_kept_belongs_to_its_credential() {
    everywhere(|run| {
        let (up, well) = (upstream().tool("kept").run(), upstream().tool("echo").run());
        let gw = listed(run, &up, &well, &["up__kept", "well__echo"]);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file(&gw)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        up.stop();
        let other =
            run.gateway().to("well", &well).with("up", &up, &["headers: {Authorization: Bearer other}"]);
        let other = heir(&gw, other);
        let mut lister = Lister::new(other.caller(""));
        assert_eq!(lister.tools(), ["well__echo"]);
        assert_eq!(mark(&mut lister, "missing"), json!(["up"]));
    });
}
