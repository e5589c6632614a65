//! API keys: who may call; and that no secret is ever said.
//!
//! Not here: the file of keys (unit tests of config).

use crate::support::Folder;
use crate::support::Run;
use crate::support::client::Client;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::gateway::binary;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::support::within;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// The last line of stdout.
pub fn key_command(file: &Path, arguments: &[&str]) -> String {
    let (front, back) = arguments.split_at(1);
    let mut command = Command::new(binary());
    let output = command.arg("key").args(front).arg("--file").arg(file).args(back).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().lines().last().unwrap_or_default().to_owned()
}

fn new_key(file: &Path, principal: &str) -> String {
    key_command(file, &["add", "--principal", principal, "--roles", "support"])
}

fn with_keys(run: Run, up: &Upstream) -> (Gateway, std::path::PathBuf, String) {
    let builder = run.gateway();
    let file = builder.folder.path().join("keys.yaml");
    let key = new_key(&file, "agent-7");
    let builder = builder.top("identity: {apiKeys: {file: keys.yaml}}");
    // Tests open more sessions at once than one agent needs.
    let builder =
        builder.top("limits: [{name: handshakes, methods: [initialize], key: principal, rate: 1k/s}]");
    let gw = builder.to("up", up).run();
    (gw, file, key)
}

/// Feature: made once, hashed at rest, two ways to send it, wrong ones refused before a byte leaves.
#[test]
fn api_keys() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let (gw, file, key) = with_keys(run, &up);
        assert!(key.len() >= 32, "{key} is short");
        assert!(!std::fs::read_to_string(&file).unwrap().contains(&key), "the file holds the key itself");
        for field in [
            format!("Authorization: Bearer {key}"),
            format!("X-API-Key: {key}"),
            format!("authorization: bearer {key}"),
        ] {
            let call = gw.call("up", "echo").field(field);
            let token = call.token.clone();
            assert_eq!(call.send().status, 200);
            let head = up.once(&token).head;
            assert!(head.all("authorization").is_empty() && head.all("x-api-key").is_empty(), "{head:?}");
        }
        // Health checks and lists of the gateway's own go on.
        let before = up.mentions("tools/call");
        let cut = &key[..key.len() - 1];
        for fields in [
            "X-None: 1".to_owned(),
            format!("Authorization: Bearer {cut}"),
            format!("Authorization: Bearer {key}x"),
            format!("Authorization: Basic {key}"),
            "Authorization: Bearer ".into(),
            format!("X-API-Key: {cut}"),
            format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}"),
            format!("X-API-Key: {key}\r\nAuthorization: Bearer {cut}"),
        ] {
            let answer = gw.call("up", "echo").field(&fields).try_send().unwrap();
            answer.refused(401, "unauthenticated");
            assert!(answer.head.field("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            assert!(!format!("{answer:?}").contains(cut), "the answer shows the key");
        }
        let in_query = crate::support::call::Call {
            target: format!("/mcp/up?api_key={key}"),
            ..gw.modern("up", "echo")
        };
        assert!([401, 404].contains(&in_query.send().status), "a key in the query is no key");
        assert_eq!(up.mentions("tools/call"), before, "a refused call reached the upstream");
    });
}

/// Revoked: refused from the next request on, on every worker, on connections old and new; the
/// principal's other key goes on.
#[test]
fn a_revoked_key_ends_everywhere() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let (gw, file, old) = with_keys(run, &up);
        let new = new_key(&file, "agent-7");
        let status = |client: &mut Client, key: &str| {
            client.send(&gw.modern("up", "echo").field(format!("X-API-Key: {key}")).raw().bytes());
            client.answer().status
        };
        assert!(
            within(Duration::from_secs(2), || status(&mut gw.client(), &new) == 200),
            "a new key is not known"
        );
        let mut clients: Vec<Client> = (0..16).map(|_| gw.client()).collect();
        assert!(clients.iter_mut().all(|client| status(client, &old) == 200 && status(client, &new) == 200));
        let list = key_list(&file);
        assert_eq!(list.matches("agent-7").count(), 2, "{list}");
        let id = list.lines().filter_map(|line| line.split_whitespace().next()).nth(1).unwrap().to_owned();
        key_command(&file, &["revoke", &id]);
        assert!(within(Duration::from_secs(2), || status(&mut gw.client(), &old) == 401), "still served");
        for client in &mut clients {
            assert_eq!((status(client, &old), status(client, &new)), (401, 200));
        }
    });
}

/// As above in both eras, with sessions in the older one, and on every connection at its very next request. 64
/// connections: that one of two workers has none is 1 in 2⁶³.
#[test]
fn a_revoked_key_is_refused_at_the_next_request_of_every_connection() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let (gw, file, key) = with_keys(run, &up);
        let next = || gw.call("up", "echo").field(format!("X-API-Key: {key}"));
        let mut clients: Vec<(Client, Option<String>)> =
            (0..64).map(|_| (gw.client(), next().in_session().session)).collect();
        let status = |(client, session): &mut (Client, Option<String>)| {
            let call = crate::support::call::Call { session: session.clone(), ..next() };
            client.send(&call.raw().bytes());
            client.answer().status
        };
        assert!(clients.iter_mut().all(|client| status(client) == 200));
        key_command(&file, &["revoke", "--principal", "agent-7"]);
        let mut probe = (gw.client(), clients[0].1.clone());
        assert!(within(Duration::from_secs(2), || status(&mut probe) == 401), "still served");
        // Health checks and lists of the gateway's own go on.
        let before = up.mentions("tools/call");
        assert!(clients.iter_mut().all(|client| status(client) == 401), "a worker knows the key still");
        assert_eq!(up.mentions("tools/call"), before, "a refused call reached the upstream");
    });
}

/// Rotation: a second key of the principal is made, callers change to it one by one, the first is revoked, and no
/// call is lost on the way.
#[test]
fn keys_are_rotated_under_load_without_a_lost_call() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let (gw, file, old) = with_keys(run, &up);
        let keys = Mutex::new([old.clone(), old.clone(), old.clone(), old.clone()]);
        let calls: [AtomicUsize; 4] = Default::default();
        let (stop, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let one = |client: &mut Client, key: &str| {
            let call = gw.modern("up", "echo").field(format!("X-API-Key: {key}"));
            client.send(&call.raw().bytes());
            client.try_answer().map(|answer| answer.status)
        };
        let all_call = |what: &str| {
            let from: Vec<usize> = calls.iter().map(|calls| calls.load(SeqCst)).collect();
            let more = || calls.iter().zip(&from).all(|(calls, from)| calls.load(SeqCst) > from + 50);
            assert!(
                within(Duration::from_secs(10), || more() || !failed.lock().unwrap().is_empty()),
                "{what}"
            );
        };
        std::thread::scope(|scope| {
            for (number, calls) in calls.iter().enumerate() {
                let (keys, stop, failed, one, gw) = (&keys, &stop, &failed, &one, &gw);
                scope.spawn(move || {
                    let mut client = gw.client();
                    while !stop.load(SeqCst) {
                        let key = keys.lock().unwrap()[number].clone();
                        let status = one(&mut client, &key);
                        if !matches!(status, Ok(200)) {
                            failed.lock().unwrap().push(format!("caller {number}: {status:?}"));
                            return;
                        }
                        calls.fetch_add(1, SeqCst);
                    }
                });
            }
            all_call("no load with the first key");
            let id = key_id(&file, 0);
            let new = new_key(&file, "agent-7");
            assert!(within(Duration::from_secs(2), || one(&mut gw.client(), &new).ok() == Some(200)));
            for changed in [2, 4] {
                keys.lock().unwrap()[..changed].fill(new.clone());
                all_call("no load with both keys");
            }
            key_command(&file, &["revoke", &id]);
            assert!(within(Duration::from_secs(2), || one(&mut gw.client(), &old).ok() == Some(401)));
            all_call("no load with the second key");
            stop.store(true, SeqCst);
        });
        assert_eq!(*failed.lock().unwrap(), Vec::<String>::new());
    });
}

/// `key list` tells when a key was used last, a few seconds after the call at the latest.
#[test]
fn a_key_in_use_is_listed_with_its_last_use() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let (gw, file, used) = with_keys(run, &up);
        new_key(&file, "idle");
        let last = |principal: &str| {
            let list = key_list(&file);
            let row = list.lines().find(|line| line.contains(principal)).unwrap();
            row.split_whitespace().last().unwrap().to_owned()
        };
        assert_eq!((last("agent-7"), last("idle")), ("never".into(), "never".into()));
        assert_eq!(gw.call("up", "echo").field(format!("X-API-Key: {used}")).send().status, 200);
        assert!(within(Duration::from_secs(5), || last("agent-7") != "never"), "{}", key_list(&file));
        assert!(last("agent-7").starts_with("20"), "{}", key_list(&file));
        assert_eq!(last("idle"), "never");
    });
}

/// The id of one key, in the order of the file.
fn key_id(file: &Path, number: usize) -> String {
    let list = key_list(file);
    list.lines().nth(number + 1).unwrap().split_whitespace().next().unwrap().to_owned()
}

fn key_list(file: &Path) -> String {
    let output = Command::new(binary()).args(["key", "list", "--file"]).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_expired_key_is_refused() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let builder = run.gateway();
        let file = builder.folder.path().join("keys.yaml");
        let key = key_command(&file, &["add", "--principal", "brief", "--expires", "2s"]);
        let gw = builder.top("identity: {apiKeys: {file: keys.yaml}}").to("up", &up).run();
        let status = || gw.call("up", "echo").field(format!("X-API-Key: {key}")).try_send().unwrap().status;
        assert_eq!(status(), 200);
        assert!(within(Duration::from_secs(5), || status() == 401), "it never expires");
    });
}

/// A secret of the config, a caller's key and an upstream's inside text, in all that the gateway says.
#[test]
fn no_secret_is_ever_said() {
    const INJECTED: &str = "canary-injected-5f0c";
    const INSIDE: &str = "canary-inside-77aa";
    everywhere(|run| {
        let inside = script::bytes(format!("HTTP/1.1 200 OK\r\nX: a\x00{INSIDE}\r\n\r\n{INSIDE}"));
        let up = upstream().tool("echo").on("inside", inside).on("die", script::hang_up()).run();
        let builder = run.gateway();
        let file = builder.folder.path().join("keys.yaml");
        let key = new_key(&file, "agent-7");
        builder.folder.file("secret", INJECTED);
        let log = builder.folder.path().join("calls.jsonl");
        let secret = builder.folder.path().join("secret");
        let builder = builder.top("identity: {apiKeys: {file: keys.yaml}}").call_log(&log).with(
            "up",
            &up,
            &[&format!("headers: {{X-Secret: \"${{file:{}}}\"}}", secret.display())],
        );
        let mut command = builder.command();
        command.env("RUST_LOG", "trace");
        let gw = builder.run_as(command);
        let mut said = String::new();
        for tool in ["echo", "inside", "die", "unknown"] {
            for field in [
                format!("X-API-Key: {key}"),
                format!("Authorization: Bearer {key}x"),
                format!("Cookie: {key}"),
            ] {
                said.push_str(&format!("{:?}", gw.call("up", tool).field(field).try_send()));
            }
        }
        assert!(up.mentions(INJECTED) > 0, "the secret was never in use");
        assert_eq!(
            up.mentions(&key),
            up.mentions(&format!("Cookie: {key}")),
            "the key left for the upstream"
        );
        let broken = std::fs::read_to_string(&gw.config).unwrap().replace("X-Secret", "X Secret");
        gw.rewrite(&broken);
        assert!(within(Duration::from_secs(5), || gw.reloads("rejected") == 1.0));
        let written = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(within(Duration::from_secs(5), || written().lines().count() >= 12), "{}", written());
        said.push_str(&gw.admin("/metrics").text());
        said.push_str(&[gw.stderr(), gw.stdout().join("\n"), written(), key_list(&file)].concat());
        for canary in [INJECTED, INSIDE, &key] {
            let at = said.find(canary).map(|at| said.get(at.saturating_sub(200)..at + 40));
            assert_eq!(at, None, "{canary} was said");
        }
    });
}

/// Without any identity everybody is the one anonymous principal; `deny` is the default beside keys.
#[test]
fn anonymous_callers_are_what_the_config_says() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        assert_eq!(gw.call("up", "echo").send().status, 200);
        let builder = run.gateway();
        new_key(&builder.folder.path().join("keys.yaml"), "agent-7");
        let gw = builder.top("identity: {apiKeys: {file: keys.yaml}, anonymous: guest}").to("up", &up).run();
        assert_eq!(gw.call("up", "echo").send().status, 200);
        let wrong = gw.call("up", "echo").field("X-API-Key: wrong").try_send().unwrap();
        wrong.refused(401, "unauthenticated");
    });
}

/// W3C Trace Context: the caller's trace goes on in the record; the body's own word (SEP-414) wins.
#[test]
fn a_record_names_the_callers_trace() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let folder = Folder::new();
        let log = folder.path().join("calls.jsonl");
        let gw = run.gateway().call_log(&log).to("up", &up).run();
        let head = "0af7651916cd43dd8448eb211c80319c";
        let call = gw.call("up", "echo").field(format!("Traceparent: 00-{head}-b7ad6b7169203331-01"));
        assert_eq!(call.send().status, 200);
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(within(Duration::from_secs(5), || text().contains(head)), "{}", text());
        let broken = gw.call("up", "echo").field(format!("Traceparent: 00-{}-0-01", "f".repeat(32)));
        assert_eq!(broken.send().status, 200);
        assert!(within(Duration::from_secs(5), || text().matches("tools/call").count() == 2), "{}", text());
        assert!(!text().contains(&"f".repeat(32)), "{}", text());
    });
}

/// One JSON line a call, with what an operator asks for.
#[test]
fn the_call_log_tells_each_call_once() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let folder = Folder::new();
        let log = folder.path().join("calls.jsonl");
        let gw = run.gateway().call_log(&log).to("up", &up).run();
        for _ in 0..10 {
            assert_eq!(gw.call("up", "echo").send().status, 200);
        }
        let lines = || -> Vec<serde_json::Value> {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let calls = || lines().into_iter().filter(|line| line["method"] == "tools/call").collect::<Vec<_>>();
        assert!(within(Duration::from_secs(5), || calls().len() == 10), "{:?}", lines());
        for line in calls() {
            assert_eq!(
                (&line["server"], &line["tool"], &line["outcome"]),
                (&"up".into(), &"echo".into(), &"ok".into())
            );
            assert_eq!((&line["principal"], &line["status"]), (&"anonymous".into(), &200.into()), "{line}");
            for key in ["ts", "traceId", "bytesIn", "bytesOut", "latencyUs", "upstreamUs", "ownUs"] {
                assert!(!line[key].is_null(), "no {key} in {line}");
            }
        }
    });
}
