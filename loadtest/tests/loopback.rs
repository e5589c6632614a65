//! The harness against itself: mock upstream, relay and generator as processes.
//! Not here: the parts, which are tested beside their code; any figure, because machines differ.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// A subcommand that serves, ended when dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

/// Runs the generator on `address` and reads its JSON.
fn run(address: &str, arguments: &[&str]) -> (bool, serde_json::Value) {
    let name = format!("loadtest-loopback-{}-{}.json", std::process::id(), arguments.join(""));
    let file = std::env::temp_dir().join(name.replace(['/', ' '], ""));
    let url = format!("http://{address}/mcp/up");
    let mut all = vec!["run", "--url", &url, "--json", file.to_str().unwrap()];
    all.extend(arguments);
    let output = loadtest(&all);
    let text = std::fs::read(&file).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    std::fs::remove_file(&file).unwrap();
    (output.status.success(), serde_json::from_slice(&text).unwrap())
}

#[test]
fn calls_pass_the_relay_whole_in_both_eras_and_all_sizes() {
    let upstream = Serving::start(&["serve"]);
    let relay = Serving::start(&["relay", "--to", &upstream.address]);
    let check = |arguments: &[&str], least: u64| {
        let (success, report) = run(&relay.address, arguments);
        assert!(success, "{arguments:?}: {report}");
        assert_eq!(report["errors"], serde_json::json!({}), "{arguments:?}");
        assert!(report["calls"].as_u64().unwrap() >= least, "{arguments:?}: {report}");
        report
    };
    check(&["--for", "1s"], 1000);
    check(&["--era", "legacy", "--calls", "500", "--connections", "7"], 500);
    check(&["--calls", "100", "--threads", "2", "--size", "262144", "--answer", "262144"], 100);
    // As many connections as buffers, all wide open: receives run dry and go on.
    check(&["--calls", "600", "--connections", "300", "--size", "65536", "--answer", "65536"], 600);
    let paced = check(&["--rate", "500", "--for", "1s"], 500);
    assert_eq!(paced["calls"], 500);
    let streamed = check(&["--calls", "20", "--connections", "2", "--sse", "5", "--interval-ms", "1"], 20);
    assert_eq!(streamed["events"], 100);
}

#[test]
fn every_kind_of_failure_is_counted_by_its_name() {
    let upstream = Serving::start(&["serve"]);
    let relay = Serving::start(&["relay", "--to", &upstream.address]);
    let check = |fail: &str, kind: &str| {
        let (success, report) = run(&relay.address, &["--calls", "4", "--connections", "4", "--fail", fail]);
        assert!(!success && report["calls"] == 0, "{fail}: {report}");
        assert_eq!(report["errors"], serde_json::json!({ kind: 4 }), "{fail}");
    };
    check("close", "connection closed");
    check("cut", "connection closed");
    check("rpc", "JSON-RPC error");
    check("status:503", "status 5xx");
    check("status:404", "status 4xx");
    let late = ["--calls", "1", "--connections", "1", "--delay-ms", "60000", "--timeout", "50ms"];
    assert_eq!(run(&relay.address, &late).1["errors"], serde_json::json!({ "timed out": 1 }));
    let cut = ["--calls", "2", "--connections", "2", "--sse", "4", "--fail", "cut"];
    assert_eq!(run(&relay.address, &cut).1["errors"], serde_json::json!({ "connection closed": 2 }));
}

#[test]
fn a_slow_upstream_is_counted_from_the_due_time() {
    // One connection, 20 ms an answer, 100 calls a second asked for: the queue grows by 10 ms a call.
    let upstream = Serving::start(&["serve", "--delay-ms", "20"]);
    let load = ["--rate", "100", "--calls", "40", "--connections", "1", "--tool", "slow", "--delay-ms", "20"];
    let (_, report) = run(&upstream.address, &load);
    assert_eq!(report["calls"], 40);
    assert!(report["latencyMicros"]["max"].as_f64().unwrap() > 390_000.0, "{report}");
    assert!(report["latencyMicros"]["p50"].as_f64().unwrap() > 190_000.0, "{report}");
}

#[test]
fn a_comparison_ends_with_its_table_and_its_verdict() {
    let file = std::env::temp_dir().join(format!("loadtest-compare-{}.json", std::process::id()));
    let mut arguments = vec!["compare", "--target", "relay", "--target", "direct", "--rounds", "3"];
    arguments.extend(["--calls", "300", "--retries", "0", "--patience", "0", "--keep-disturbed"]);
    arguments.extend(["--gate", "relay/relay'<=1000", "--json", file.to_str().unwrap()]);
    let output = loadtest(&arguments);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(table["rounds"].as_array().unwrap().len(), 3);
    assert_eq!(table["rows"][0]["calls"], 900);
    assert!(table["rows"][0]["cpuSecondsPerMillion"].as_f64().unwrap() > 0.0);
    assert_eq!(table["rows"][1]["cpuSecondsPerMillion"], serde_json::Value::Null);
    assert_eq!(table["gates"][0]["verdict"], "pass");
}

#[test]
fn idle_connections_are_held_and_weighed() {
    let upstream = Serving::start(&["serve"]);
    let url = format!("http://{}/mcp", upstream.address);
    let pid = upstream.child.id().to_string();
    let output = loadtest(&["idle", "--url", &url, "--connections", "200", "--pid", &pid, "--for", "100ms"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("200 idle connections"), "{said}");
    assert!(said.contains("per connection"), "{said}");
}

#[test]
fn other_machines_are_left_alone() {
    for arguments in [
        ["run", "--url", "http://192.0.2.1:80/mcp"],
        ["relay", "--to", "192.0.2.1:80"],
        ["serve", "--listen", "0.0.0.0:0"],
    ] {
        let output = loadtest(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"), "{arguments:?}");
    }
}
