//! A new configuration while calls and streams are running.
//!
//! Not here: ends (drain), starts (startup).

use crate::secrets::key_command;
use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::gateway::binary;
use crate::support::on_every_driver;
use crate::support::process;
use crate::support::script;
use crate::support::script::Script;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

/// The config of `gw` with another value of the injected header.
fn with_plan(gw: &Gateway, name: &str) -> String {
    let yaml = std::fs::read_to_string(&gw.config).unwrap();
    let (front, rest) = yaml.split_once("X-Plan: ").unwrap();
    let (_, back) = rest.split_once('}').unwrap();
    format!("{front}X-Plan: {name}}}{back}")
}

/// The value that a call on this connection shows to the upstream.
fn plan_seen(gw: &Gateway, up: &Upstream, client: &mut Client) -> String {
    let call = gw.modern("up", "echo");
    client.send(&call.raw().bytes());
    assert_eq!(client.answer().status, 200);
    up.once(&call.token).head.field("x-plan").unwrap().to_owned()
}

/// Feature, agentgateway #1774: after the reload counted, the next call on every worker uses the new
/// plan: by signal, by a changed file, on connections old and new.
#[test]
fn agentgateway_1774_reload_reaches_data_plane() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().with("up", &up, &["headers: {X-Plan: one}"]).run();
        let mut old: Vec<Client> = (0..16).map(|_| gw.client()).collect();
        for client in &mut old {
            assert_eq!(plan_seen(&gw, &up, client), "one");
        }
        // The signal last: one that is sent late is a reload of its own.
        for (plan, signal) in [("two", false), ("three", true)] {
            let before = gw.reloads("ok");
            gw.rewrite(&with_plan(&gw, plan));
            if signal {
                gw.hang_up();
            }
            eventually("the reload is counted", || gw.reloads("ok") > before);
            for client in &mut old {
                assert_eq!(plan_seen(&gw, &up, client), plan);
            }
            for _ in 0..16 {
                assert_eq!(plan_seen(&gw, &up, &mut gw.client()), plan);
            }
        }
    });
}

/// Feature, agentgateway #1774: what the admin listener calls the plan is the plan of the next call on every
/// worker, not what the workers will come to. 64 connections: that one of two workers has none is 1 in 2⁶³.
#[test]
fn agentgateway_1774_info_names_the_plan_in_use() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().with("up", &up, &["headers: {X-Plan: one}"]).run();
        let named = || {
            let info: serde_json::Value = serde_json::from_str(&gw.admin("/api/v1/info").text()).unwrap();
            info["plan"].as_str().unwrap().to_owned()
        };
        let mut clients: Vec<Client> = (0..64).map(|_| gw.client()).collect();
        let mut names = vec![named()];
        for (plan, signal) in [("one", true), ("two", true), ("three", false), ("one", false)] {
            let before = gw.reloads("ok");
            gw.rewrite(&with_plan(&gw, plan));
            if signal {
                gw.hang_up();
            }
            if plan == "one" && signal {
                eventually("the reload is counted", || gw.reloads("ok") > before);
            } else {
                eventually("another plan is named", || named() != *names.last().unwrap());
            }
            names.push(named());
            for client in &mut clients {
                assert_eq!(plan_seen(&gw, &up, client), plan);
            }
        }
        assert_eq!(names[0], names[1], "the same content has the same name");
        assert_eq!(names[0], names[4], "whenever it comes");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3, "{names:?}");
    });
}

/// Feature: one call sees one config from start to end. Its injected header is of the plan that it began with, however
/// long its body takes.
#[test]
fn a_call_sees_one_config_from_start_to_end() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().with("up", &up, &["headers: {X-Plan: one}"]).run();
        let call = gw.modern("up", "echo");
        let bytes = call.raw().bytes();
        let (most, rest) = bytes.split_at(bytes.len() - 10);
        let mut client = gw.client();
        client.send(most);
        eventually("the call has begun", || gw.metric("ringgate_inflight", &[]) == 1.0);
        gw.reload(&with_plan(&gw, "two"));
        assert_eq!(plan_seen(&gw, &up, &mut gw.client()), "two");
        client.send(rest);
        assert_eq!(client.answer().status, 200);
        assert_eq!(up.once(&call.token).head.field("x-plan"), Some("one"));
        assert_eq!(plan_seen(&gw, &up, &mut client), "two");
    });
}

/// The kernel gives no watches (a limit, a sandbox): a changed config and a revoked key act even so.
#[test]
fn changes_are_noticed_without_inotify() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        eprintln!("SKIPPED: no strace to forbid inotify with");
        return;
    }
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let builder = run.gateway();
        let keys = builder.folder.path().join("keys.yaml");
        std::fs::write(&keys, "keys: []\n").unwrap();
        let builder = builder.top("identity: {apiKeys: {file: keys.yaml}, anonymous: guest}");
        let builder = builder.with("up", &up, &["headers: {X-Plan: one}"]);
        let inject = "inject=inotify_init,inotify_init1:error=EMFILE";
        // -D: the gateway, not the tracer, is our child.
        let filter = "trace=inotify_init,inotify_init1";
        let tracer = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", filter, "-e", inject, binary()];
        let command = builder.command_of(&tracer);
        let gw = builder.run_as(command);
        assert_eq!(plan_seen(&gw, &up, &mut gw.client()), "one");
        gw.reload(&with_plan(&gw, "two"));
        assert_eq!(plan_seen(&gw, &up, &mut gw.client()), "two");
        let key = key_command(&keys, &["add", "--principal", "agent-7"]);
        let status = || gw.modern("up", "echo").field(format!("X-API-Key: {key}")).send().status;
        eventually("the key is noticed", || status() == 200);
        key_command(&keys, &["revoke", "--principal", "agent-7"]);
        eventually("its end is noticed", || status() == 401);
    });
}

/// A bad file changes nothing, says why and where, and the gateway stays ready.
#[test]
fn a_bad_file_keeps_the_old_plan() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let good = std::fs::read_to_string(&gw.config).unwrap();
        for (count, bad) in
            [(1.0, good.replace("workers:", "wrokers:")), (2.0, "{".into()), (3.0, String::new())]
        {
            gw.rewrite(&bad);
            eventually("the rejection is counted", || gw.reloads("rejected") == count);
            assert_eq!(gw.admin("/readyz").status, 200);
            assert_eq!(gw.call("up", "echo").send().status, 200);
        }
        eventually("the log says why", || gw.stderr().contains("ringgate.yaml:2:1"));
        assert!(gw.stderr().contains("workers"), "no cure in {}", gw.stderr());
        assert_eq!(gw.reloads("ok"), 0.0);
    });
}

/// A server that is gone from the plan is gone; the others stay.
#[test]
fn servers_come_and_go() {
    everywhere(|run| {
        let (first, second) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let gw = run.gateway().to("first", &first).run();
        assert_eq!(gw.modern("second", "echo").send().status, 404);
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.reload(&yaml.replace("  first:", "  second:").replace(&first.url, &second.url));
        assert_eq!(gw.call("second", "echo").send().status, 200);
        assert_eq!(gw.modern("first", "echo").send().status, 404);
    });
}

/// Streams of events that go on until the test lets them end.
fn held(release: &'static AtomicBool) -> Script {
    script::script(move |connection, request| {
        connection.send(script::STREAM);
        let mut step = 0;
        while !release.load(SeqCst) && connection.send(&script::progress(step)) {
            crate::support::pace(Duration::from_millis(50));
            step += 1;
        }
        script::send(connection, &script::last_event(request))
    })
}

/// What the clients under load share.
#[derive(Default)]
pub struct Load {
    pub stop: AtomicBool,
    pub calls: AtomicUsize,
    pub failures: Mutex<Vec<String>>,
}

impl Load {
    /// Over one connection.
    pub fn run(&self, gw: &Gateway) {
        self.run_over(gw, false);
    }

    /// Each call over a connection of its own.
    pub fn run_anew(&self, gw: &Gateway) {
        self.run_over(gw, true);
    }

    fn run_over(&self, gw: &Gateway, anew: bool) {
        let mut client = gw.client();
        while !self.stop.load(SeqCst) {
            if anew {
                client = gw.client();
            }
            let call = gw.modern("up", "echo");
            client.send(&call.raw().bytes());
            match client.try_answer() {
                Ok(answer) if answer.status == 200 && answer.text().contains(&call.token) => {
                    self.calls.fetch_add(1, SeqCst);
                    // A load, not a saturation.
                    crate::support::pace(Duration::from_millis(1));
                }
                other => {
                    self.failures.lock().unwrap().push(format!("{other:?}"));
                    return;
                }
            }
        }
    }
}

/// Values of the injected header that the upstream saw; what it saw before is forgotten.
fn plans(up: &Upstream) -> BTreeSet<String> {
    let seen = up.take_requests();
    seen.iter().filter_map(|request| request.head.field("x-plan").map(str::to_owned)).collect()
}

/// 1,000 reloads at 500 calls/s or more with 20 open streams: no call fails, each plan is seen, the
/// counter is exact, descriptors and memory stay.
#[test]
fn reload() {
    static RELEASE: AtomicBool = AtomicBool::new(false);
    let count: u32 = size(50, 1000);
    everywhere(|run| {
        RELEASE.store(false, SeqCst);
        let up = upstream().tool("echo").on("hold", held(&RELEASE)).run();
        let gw = run.gateway().with("up", &up, &["headers: {X-Plan: p0}"]).run();
        let mut streams: Vec<Client> = (0..20).map(|_| gw.call("up", "hold").open()).collect();
        for stream in &mut streams {
            assert_eq!(stream.head().unwrap().status(), 200);
        }
        let load = Load::default();
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| load.run(&gw));
            }
            eventually("the load runs", || load.calls.load(SeqCst) > 100);
            let (descriptors, resident) = (process::descriptors(gw.pid()), process::resident_kib(gw.pid()));
            for number in 1..=count {
                let plan = format!("p{number}");
                gw.rewrite(&with_plan(&gw, &plan));
                gw.hang_up();
                let seen = crate::support::within(PATIENCE, || plans(&up).contains(&plan));
                assert!(seen, "plan {number} never reached the upstream: {}", gw.stderr());
            }
            load.stop.store(true, SeqCst);
            let rate = load.calls.load(SeqCst) as f64 / start.elapsed().as_secs_f64();
            let grown = process::resident_kib(gw.pid()).saturating_sub(resident);
            eprintln!("{run:?}: {count} reloads, {rate:.0} calls/s, {grown} KiB more");
            assert!(rate >= 500.0, "{rate:.0} calls/s are no load");
            assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
            eventually("descriptors are given back", || process::descriptors(gw.pid()) <= descriptors + 8);
        });
        assert_eq!(*load.failures.lock().unwrap(), Vec::<String>::new());
        assert_eq!(gw.reloads("ok"), f64::from(count));
        assert_eq!(gw.reloads("rejected"), 0.0);
        RELEASE.store(true, SeqCst);
        for stream in &mut streams {
            let body = stream.rest().unwrap();
            assert!(String::from_utf8_lossy(&body).contains("\"result\""), "a stream ended early");
        }
    });
}
