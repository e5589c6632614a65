//! Feature `failover`: the second pool takes over while the first has no instance to offer, and gives back.
//!
//! Not here: how an instance gets out (route_health, route_breaker).

use crate::route_health::EJECTS;
use crate::route_health::era;
use crate::route_health::is_up;
use crate::support::Folder;
use crate::support::Gate;
use crate::support::Run;
use crate::support::conduct::Dial;
use crate::support::conduct::alive;
use crate::support::conduct::obedient;
use crate::support::conduct::sick_at_1;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::gateway::instances;
use crate::support::line::Line;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;

struct Pools {
    main: [Upstream; 2],
    backup: Upstream,
    gw: Gateway,
}

/// Two instances that are as their dials say, and a pool behind them.
fn pools(run: Run, dials: &[Dial; 2], lines: &[&str]) -> Pools {
    pools_of(run, dials, lines, |builder| builder)
}

fn pools_of(run: Run, dials: &[Dial; 2], lines: &[&str], more: impl Fn(Builder) -> Builder) -> Pools {
    let of = |dial: &Dial| {
        let up = upstream().on("x", obedient(&Gate::default())).probed(sick_at_1(dial, alive()));
        up.run()
    };
    let main = [of(&dials[0]), of(&dials[1])];
    let backup = of(&Dial::default());
    let pools = format!(
        "pools: {{main: {{instances: {}}}, backup: {{url: \"{}\"}}}}",
        instances(&[&main[0], &main[1]]),
        backup.url
    );
    let era = era(run);
    let all = [&[pools.as_str(), "failover: backup", &era], lines].concat();
    let gw = more(run.gateway().workers(1)).server("up", &all).run();
    Pools { main, backup, gw }
}

impl Pools {
    /// Calls by instance: the two of the first pool, the second pool.
    fn calls(&self) -> [usize; 3] {
        [self.main[0].calls(), self.main[1].calls(), self.backup.calls()]
    }

    /// How these calls spread.
    fn spread(&self, caller: &mut Line, calls: usize) -> [usize; 3] {
        let before = self.calls();
        (0..calls).for_each(|_| assert_eq!(caller.call("\"ok\"").status, 200));
        let after = self.calls();
        std::array::from_fn(|index| after[index] - before[index])
    }
}

/// All of the first pool are unhealthy: every call goes to the second; one is well again: it has them back within a
/// probe cycle.
#[test]
fn failover() {
    everywhere(|run| {
        let dials = [Dial::default(), Dial::default()];
        let health = "health: {interval: 20ms, timeout: 1s, unhealthy: 3, healthy: 2}";
        let pools = pools(run, &dials, &[health]);
        let mut caller = pools.gw.line("up", "x");
        assert_eq!(pools.spread(&mut caller, 10), [5, 5, 0]);
        dials[0].turn(1);
        eventually("one is out", || is_up(&pools.gw, &pools.main[0]) == 0.0);
        assert_eq!(pools.spread(&mut caller, 10), [0, 10, 0], "the pool has one left");
        dials[1].turn(1);
        eventually("both are out", || is_up(&pools.gw, &pools.main[1]) == 0.0);
        assert_eq!(pools.spread(&mut caller, 10), [0, 0, 10]);
        dials[1].turn(0);
        eventually("one is back", || is_up(&pools.gw, &pools.main[1]) == 1.0);
        assert_eq!(pools.spread(&mut caller, 10), [0, 10, 0]);
        dials[0].turn(0);
        eventually("both are back", || is_up(&pools.gw, &pools.main[0]) == 1.0);
        assert_eq!(pools.spread(&mut caller, 10), [5, 5, 0]);
    });
}

/// Feature: the record of a call names the pool that it went to, and the instance.
#[test]
fn failover_is_told_by_the_record() {
    everywhere(|run| {
        let folder = Folder::new();
        let log = folder.path().join("calls.jsonl");
        let of_log = |gw: Builder| gw.call_log(&log);
        let pools = pools_of(run, &[Dial::default(), Dial::default()], &[EJECTS, "retry: {max: 0}"], of_log);
        let mut caller = pools.gw.line("up", "x");
        let told = || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains("tools/call") && line.ends_with('}'));
            let read = |line: &str| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                [&line["pool"], &line["instance"]].map(|value| value.as_str().unwrap_or("none").to_owned())
            };
            lines.map(read).collect::<Vec<_>>()
        };
        let name = |up: &Upstream| format!("http://{}", up.address);
        assert_eq!(caller.call("\"ok\"").status, 200);
        eventually("the call is told", || told().len() == 1);
        let [pool, instance] = told().remove(0);
        assert_eq!(pool, "main");
        assert!(pools.main.iter().any(|up| name(up) == instance), "{instance}");
        pools.main.iter().for_each(Upstream::stop);
        let calls =
            2 + (0..10).find(|_| caller.call("\"ok\"").status == 200).expect("no call to the other pool");
        eventually("all calls are told", || told().len() == calls);
        let last = told().pop().unwrap();
        assert_eq!(last, ["backup".to_owned(), name(&pools.backup)]);
    });
}

/// A server without pools names none; its instance all the same.
#[test]
fn a_record_names_the_instance_of_a_server_without_pools() {
    everywhere(|run| {
        let folder = Folder::new();
        let log = folder.path().join("calls.jsonl");
        let up = upstream().on("x", obedient(&Gate::default())).run();
        let gw = run.gateway().call_log(&log).to("up", &up).run();
        assert_eq!(gw.line("up", "x").call("\"ok\"").status, 200);
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        let line = || {
            text().lines().find(|line| line.contains("tools/call") && line.ends_with('}')).map(str::to_owned)
        };
        eventually("the call is told", || line().is_some());
        let line: serde_json::Value = serde_json::from_str(&line().unwrap()).unwrap();
        assert_eq!(line["instance"], format!("http://{}", up.address), "{line}");
        assert!(line["pool"].is_null(), "{line}");
    });
}

/// The first pool's last instance refuses connections: at most one call fails before the second pool has them.
#[test]
fn failover_within_one_failed_call() {
    everywhere(|run| {
        let pools = pools(run, &[Dial::default(), Dial::default()], &[EJECTS, "retry: {max: 0}"]);
        let mut caller = pools.gw.line("up", "x");
        assert_eq!(pools.spread(&mut caller, 10), [5, 5, 0]);
        pools.main[0].stop();
        let failed = |caller: &mut Line| (0..10).filter(|_| caller.call("\"ok\"").status != 200).count();
        assert!(failed(&mut caller) <= 1);
        pools.main[1].stop();
        assert!(failed(&mut caller) <= 1);
        assert_eq!(pools.spread(&mut caller, 10), [0, 0, 10]);
    });
}

/// Open breakers count like bad health, and half-open ones take the calls back.
#[test]
fn failover_of_open_breakers() {
    everywhere(|run| {
        let breaker =
            "breaker: {window: 10, failureRatio: 0.5, minCalls: 4, open: 300ms, probes: 3, maxOpen: 1s}";
        let pools = pools(run, &[Dial::default(), Dial::default()], &[breaker]);
        let mut caller = pools.gw.line("up", "x");
        for _ in 0..8 {
            assert_eq!(caller.call("\"500\"").status, 500);
        }
        let call = caller.next();
        assert_eq!(caller.make(&call).unwrap().status, 200);
        pools.backup.once(&call.token);
        eventually("the first pool has them back", || pools.spread(&mut caller, 10) == [5, 5, 0]);
    });
}

/// Neither pool has an instance: refused at once, nothing arrives.
#[test]
fn failover_of_everything_is_a_refusal() {
    everywhere(|run| {
        let pools = pools(run, &[Dial::default(), Dial::default()], &[EJECTS, "retry: {max: 0}"]);
        let mut caller = pools.gw.line("up", "x");
        for up in [&pools.main[0], &pools.main[1], &pools.backup] {
            up.stop();
        }
        for _ in 0..6 {
            let call = caller.next();
            caller.make(&call).unwrap().refused(503, "upstream_unavailable");
        }
        assert_eq!(pools.calls(), [0, 0, 0]);
    });
}
