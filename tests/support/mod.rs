//! A small language for tests with real sockets: a scripted upstream, a gateway under test, raw and MCP
//! clients, in both eras and on both drivers.
//!
//! ```text
//! everywhere(|run| {
//!     let up = upstream().tool("echo").run();
//!     let gw = run.gateway().to("up", &up).run();
//!     assert_eq!(gw.call("up", "echo").send().status, 200);
//! });
//! ```
//!
//! Every wait has a deadline ([`PATIENCE`]) and waits for an event, never for time to pass; every port
//! is 0; every upstream checks at its end that all it received was strict HTTP/1.1.
//!
//! Not here: what a gateway should do. That is said by the tests.

pub mod agent;
pub mod asker;
pub mod bell;
pub mod call;
pub mod client;
pub mod conduct;
pub mod gateway;
pub mod http2;
pub mod issuer;
pub mod line;
pub mod operator;
pub mod place;
pub mod process;
pub mod reserved;
pub mod script;
pub mod shelf;
pub mod shown;
pub mod tls;
pub mod upstream;
pub mod wire;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// How long a test waits for what must happen before it fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The two families of MCP revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28: one POST a call.
    Modern,
    /// 2025-11-25: initialize, session, call.
    Legacy,
}

/// What moves the gateway's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Uring,
    Epoll,
}

impl Driver {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// One way to run a test.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub driver: Driver,
    pub era: Era,
}

impl Run {
    pub fn gateway(self) -> gateway::Builder {
        gateway::Builder::new(self)
    }
}

/// The drivers to test: the one that `RINGGATE_TEST_DRIVER` names, else both.
pub fn drivers() -> Vec<Driver> {
    match std::env::var("RINGGATE_TEST_DRIVER").as_deref() {
        Err(_) => vec![Driver::Uring, Driver::Epoll],
        Ok("uring") => vec![Driver::Uring],
        Ok("epoll") => vec![Driver::Epoll],
        Ok(other) => panic!("RINGGATE_TEST_DRIVER={other}: say uring or epoll"),
    }
}

/// Runs `test` in both eras on every driver.
pub fn everywhere(test: impl Fn(Run)) {
    for driver in drivers() {
        for era in [Era::Modern, Era::Legacy] {
            eprintln!("--- {driver:?} {era:?}");
            test(Run { driver, era });
        }
    }
}

/// Runs `test` on every driver: for what lies below MCP, or belongs to 2026-07-28 alone.
pub fn on_every_driver(test: impl Fn(Run)) {
    for driver in drivers() {
        eprintln!("--- {driver:?}");
        test(Run { driver, era: Era::Modern });
    }
}

/// The size of a test: `plain` in every `cargo test`, `full` where `RINGGATE_TEST_FULL` is set, as
/// `tests/all` does for the release binary.
pub fn size<T>(plain: T, full: T) -> T {
    if std::env::var_os("RINGGATE_TEST_FULL").is_some() { full } else { plain }
}

/// Polls until `condition` holds; panics with `what` after [`PATIENCE`].
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(PATIENCE, condition), "not within {PATIENCE:?}: {what}");
}

/// Polls until `condition` holds or `limit` has passed: for what no event announces (/proc, a counter).
pub fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How much later than meant something may be seen where others use the machine: longer than its stalls, shorter than
/// the deadlines that a gateway has by default.
pub const STALL: Duration = Duration::from_secs(3);

/// Runs `attempt`, which says how long something took, until it took less than `limit`, three times at most: a machine
/// that others use stalls now and then, a gateway that is slow is so each time.
#[track_caller]
pub fn is_quick(limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    while times.len() < 3 {
        times.push(attempt());
        if times.last() < Some(&limit) {
            return;
        }
    }
    panic!("never in less than {limit:?}: {times:?}");
}

/// Ends after `pause`: for peers whose slowness is the subject of the test, never to wait for something.
pub fn pace(pause: Duration) {
    std::thread::sleep(pause);
}

/// A door that a script waits at until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Whether the door opened within [`PATIENCE`].
    pub fn wait(&self) -> bool {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
        *open
    }
}

/// A folder of its own for one test, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringgate-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into the folder and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A word that no other call of this process carries, to find a call's bytes anywhere.
pub fn token() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("token-{:06}-end", NEXT.fetch_add(1, Ordering::Relaxed))
}
