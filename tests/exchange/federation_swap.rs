//! Another address of a server, while it is called: nobody notices.
//!
//! Not here: servers that are added and removed (federation), and reloads as such (reload).

use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::pace;
use crate::support::script;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

const CALLERS: u32 = 4;

/// Calls that are due at a rate, whether those before them are answered or not.
struct Load {
    /// Between two calls of one caller.
    every: Duration,
    stop: AtomicBool,
    calls: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    fn new(calls_per_second: u32) -> Self {
        let every = Duration::from_secs(1) * CALLERS / calls_per_second;
        Self { every, stop: AtomicBool::new(false), calls: AtomicUsize::new(0), failures: Mutex::default() }
    }

    fn made(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// One caller, until all is over.
    fn run(&self, like: &Call) {
        let (mut line, begun) = (Line::new(like.again()), Instant::now());
        for number in 0.. {
            if self.stop.load(SeqCst) {
                return;
            }
            pace((self.every * number).saturating_sub(begun.elapsed()));
            let call = line.next();
            match line.make(&call) {
                Ok(answer) if answer.status == 200 && answer.text().contains(&call.token) => {
                    self.calls.fetch_add(1, SeqCst);
                }
                other => {
                    self.failures.lock().unwrap().push(format!("{other:?}"));
                    return;
                }
            }
        }
    }

    #[track_caller]
    fn failed_never(&self) {
        assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
    }
}

/// Ends the load, also where the test fails: it would go on for ever.
struct End<'a>(&'a Load);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, SeqCst);
    }
}

/// A server that echoes, and behind the gate where it is called `hold`.
fn server(run: Run, only: Option<Era>, gate: &Gate) -> Upstream {
    let up = upstream().tool("echo").on("hold", script::echo_behind(gate));
    let Some(only) = only else { return up.run() };
    let up = up.only(only);
    // What an older client has in a session of the server ends with it.
    let keeps = only == Era::Modern || run.era == Era::Modern;
    if keeps { up.run() } else { up.without_sessions().run() }
}

/// Reloads with another address of the server. So many calls are made before, and behind it.
fn swap(gw: &Gateway, load: &Load, (old, new): (&Upstream, &Upstream), calls: usize) {
    let goes_on = |until: usize| load.made() >= until || !load.failures.lock().unwrap().is_empty();
    eventually("the load runs", || goes_on(calls));
    let yaml = std::fs::read_to_string(&gw.config).unwrap();
    gw.rewrite(&yaml.replace(&old.url, &new.url));
    gw.hang_up();
    eventually("calls reach the new one", || new.calls() > 0 || !load.failures.lock().unwrap().is_empty());
    let before = load.made();
    eventually("the load goes on", || goes_on(before + calls));
}

/// One swap under load; how many calls a second were made.
fn swapped(run: Run, only: Option<Era>, calls: usize) -> f64 {
    let (gate, open) = (Gate::default(), Gate::default());
    open.open();
    let (old, new) = (server(run, only, &gate), server(run, only, &open));
    let gw = run.gateway().to("up", &old).run();
    let like = gw.call("", "up__echo").in_session();
    let held = Call { name: Some("up__hold".into()), ..like.again() };
    let token = held.token.clone();
    let mut held = held.open();
    old.until_called(&token);
    // A little more than what is promised.
    let load = Load::new(size(1_000, 5_500));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let _end = End(&load);
        (0..CALLERS).for_each(|_| drop(scope.spawn(|| load.run(&like))));
        swap(&gw, &load, (&old, &new), calls);
    });
    load.failed_never();
    let rate = load.made() as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(new.with(&token).len(), 0, "a call in flight was sent again");
    gate.open();
    let answer = held.answer();
    assert!(answer.status == 200 && answer.text().contains(&token), "{answer:?}");
    // By the new address of the server nothing goes to the old one; no agent needs to know.
    let call = like.again();
    let token = call.token.clone();
    assert_eq!(call.send().code(), 0);
    assert_eq!((old.mentions(&token), new.with(&token).len()), (0, 1));
    rate
}

/// Feature: another `url` and a reload under 5,000 calls/s: no call fails, those in flight end where they began. In both
/// eras through `/mcp`, in front of servers of the client's and of the other era.
#[test]
fn swap_backend() {
    let calls = size(400, 5_000);
    everywhere(|run| {
        let servers = match run.era {
            Era::Modern => [None, Some(Era::Legacy)],
            Era::Legacy => [Some(Era::Legacy), Some(Era::Modern)],
        };
        for only in servers {
            // A machine that others use may be too slow for the load once; no swap may ever lose a call.
            let is_loaded = || {
                let rate = swapped(run, only, calls);
                println!("{:?} in front of {only:?}: {rate:.0} calls/s", run.era);
                rate >= size(0.0, 5_000.0)
            };
            assert!((0..3).any(|_| is_loaded()), "never 5,000 calls/s");
        }
    });
}

/// A server that keeps no sessions loses none: its clients go on at its new address.
#[test]
fn swap_backend_without_sessions() {
    everywhere(|run| {
        let [old, new] = [0, 1].map(|_| upstream().only(Era::Legacy).without_sessions().tool("echo").run());
        let gw = run.gateway().to("up", &old).run();
        let first = gw.call("", "up__echo").in_session();
        assert_eq!(first.again().send().code(), 0);
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.rewrite(&yaml.replace(&old.url, &new.url));
        gw.hang_up();
        eventually("calls reach the new one", || {
            let answer = first.again().send();
            assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
            new.calls() > 0
        });
    });
}
