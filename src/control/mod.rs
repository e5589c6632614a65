//! The side thread: reload, keys, names, export, admin.
//!
//! Not here: the path of a call. Nothing on this thread takes longer than 1 ms; longer work goes to the
//! blocking pool or has a plain thread of its own (the writer of records, the watcher of files).

mod admin;
mod catalogue;
mod change;
mod collisions;
mod credentials;
mod decisions;
mod eras;
mod errand;
mod fetch;
mod gauges;
mod introspect;
mod keys;
pub mod kills;
mod listen;
pub mod logging;
mod probe;
mod process;
mod questions;
mod referrals;
mod reload;
mod resolve;
mod seal;
mod sessions;
mod signals;
mod state;
pub mod store;
#[cfg(test)]
mod stub;
mod systemd;
mod tidy;
mod token_keys;
mod watch;
mod writer;

use crate::config::limits;
use crate::control::catalogue::CatalogueKeeper;
use crate::control::change::Changes;
use crate::control::eras::EraKeeper;
use crate::control::listen::ListenKeeper;
use crate::control::probe::Prober;
use crate::control::questions::Doors;
use crate::control::reload::Reloader;
use crate::control::resolve::Resolver;
use crate::control::sessions::SessionKeeper;
use crate::control::signals::EndSignals;
use crate::control::state::State;
use crate::control::token_keys::TokenKeyKeeper;
use crate::control::watch::Watcher;
use crate::handoff::Phase;
use crate::handoff::Shared;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often replaced parts that nobody holds any more are freed.
const SWEEP_MS: u64 = 1_000;

/// What `start` needs beside the shared memory.
#[derive(Debug, Default)]
pub struct Options {
    /// None: nothing to reload (`demo`).
    pub config_path: Option<PathBuf>,
    /// Files that the configuration was made of (`Loaded::watched`): a change of one is a reload.
    pub watched: Vec<PathBuf>,
    /// The bound admin listener; none: no admin endpoints.
    pub admin: Option<TcpListener>,
    /// Whether a reload may bring `faults`, as at the start.
    pub allow_faults: bool,
}

/// The running side thread.
pub struct Handle {
    state: Arc<State>,
    thread: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Handle {
    /// Every worker listens: readiness is 200 from now on, and systemd is told.
    pub fn ready(&self) {
        self.state.shared.enter(Phase::Serving);
        systemd::ready();
    }

    /// Asks for a drain, as SIGTERM does; a second time for an end at once.
    pub fn stop(&self) {
        self.state.stop.notify_one();
    }

    /// Waits for the end of the drain: workers were told `Phase::Stopping`, their records are written.
    ///
    /// # Errors
    /// Where the side thread ended by a defect of ours: nothing was drained then.
    pub fn wait(self) -> io::Result<()> {
        let ended = self.thread.join().map_err(|_| io::Error::other("the side thread failed; see the log"));
        // Workers have ended: nothing is counted after this.
        self.state.keep_quotas();
        self.state.writer_stop.store(true, Ordering::Release);
        self.writer.thread().unpark();
        // A reader of stdout that stopped reading must not keep the process alive.
        let deadline = crate::base::clock::now().plus_millis(limits::STOP_MS);
        while !self.writer.is_finished() {
            if crate::base::clock::now() > deadline {
                tracing::error!("the call log takes no more lines: its last ones are lost");
                return ended;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.writer.join();
        ended
    }
}

/// What has to exist before the first signal or connection comes.
struct Parts {
    end: EndSignals,
    hangup: Signal,
    admin: Option<tokio::net::TcpListener>,
}

/// Starts the side thread and the writer. When it returns, signals are handled and the admin listener
/// answers (`/readyz` with 503 until [`Handle::ready`]).
///
/// # Errors
/// Where a thread, a signal handler or the runtime cannot be made.
pub fn start(shared: Arc<Shared>, options: Options) -> io::Result<Handle> {
    has_descriptors()?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
        .thread_name("control-work")
        .build()?;
    let Options { config_path, watched, admin, allow_faults } = options;
    let parts = {
        let _inside = runtime.enter();
        let listener = admin.map(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        });
        Parts { end: EndSignals::new()?, hangup: signal(SignalKind::hangup())?, admin: listener.transpose()? }
    };
    let state = Arc::new(State::new(shared));
    let (told, changes) = change::flags();
    let watcher = config_path.as_ref().and_then(|_| {
        Watcher::start(told)
            .inspect_err(|error| {
                tracing::warn!(%error, "files are not watched; raise the limit of threads, or send SIGHUP");
            })
            .ok()
    });
    let writer = writer::start(Arc::clone(&state))?;
    let reloader =
        Reloader::new(Arc::clone(&state), config_path, watched, watcher).allowing_faults(allow_faults);
    let thread = std::thread::Builder::new().name("control".into()).spawn({
        let state = Arc::clone(&state);
        move || run(runtime, &state, parts, reloader, changes)
    })?;
    Ok(Handle { state, thread, writer })
}

/// tokio panics where it cannot make the sockets for its signals. Descriptors that it needs are tried first.
fn has_descriptors() -> io::Result<()> {
    const PAIRS: usize = 4;
    let pairs: io::Result<Vec<_>> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    pairs.map(drop)
}

fn run(runtime: Runtime, state: &Arc<State>, parts: Parts, reloader: Reloader, changes: Changes) {
    let Parts { end, hangup, admin } = parts;
    runtime.block_on(async {
        let mut parts = JoinSet::new();
        if let Some(listener) = admin {
            parts.spawn(admin::serve(Arc::clone(state), listener));
        }
        parts.spawn(reloader.run(hangup, changes));
        parts.spawn(keys::keep_last_used(Arc::clone(state)));
        parts.spawn(store::keep_quotas(Arc::clone(state)));
        parts.spawn(catalogue::stored::keep(Arc::clone(state)));
        parts.spawn(tidy::keep_tidy(Arc::clone(state)));
        let (keys, keys_asked) = mpsc::channel(limits::QUESTION_RING);
        parts.spawn(TokenKeyKeeper::new(Arc::clone(state)).run(keys_asked));
        let (catalogues, wishes) = mpsc::channel(limits::QUESTION_RING);
        let (interests, news) = mpsc::channel(limits::QUESTION_RING);
        parts.spawn(CatalogueKeeper::new(Arc::clone(state), interests.clone()).run(wishes));
        let (eras, eras_asked) = mpsc::channel(limits::QUESTION_RING);
        parts.spawn(EraKeeper::new(Arc::clone(state)).run(eras_asked));
        let (sessions, sessions_asked) = mpsc::channel(limits::QUESTION_RING);
        parts.spawn(SessionKeeper::new(Arc::clone(state)).run(sessions_asked));
        parts.spawn(ListenKeeper::new(Arc::clone(state), catalogues.clone()).run(news));
        parts.spawn(questions::hear(Arc::clone(state), sessions.clone(), interests));
        let doors = Doors { keys, catalogues, eras, sessions };
        parts.spawn(questions::serve(Arc::clone(state), doors));
        parts.spawn(Prober::new(Arc::clone(state)).run());
        parts.spawn(systemd::feed_watchdog(Arc::clone(state)));
        parts.spawn(free_replaced_parts(Arc::clone(state)));
        parts.spawn(collisions::tell(Arc::clone(state)));
        let resolver = Resolver::new(Arc::clone(state), resolve::system);
        parts.spawn(async move {
            if let Err(error) = resolver.run().await {
                tracing::error!(%error, "names are not resolved any more; restart the gateway");
            }
        });
        tokio::spawn(async move {
            while let Some(ended) = parts.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of the side thread failed; calls go on, restart soon");
                }
            }
        });
        signals::until_stopped(state, end).await;
    });
    // A lookup may hang for long; nobody waits for it.
    runtime.shutdown_background();
}

/// Large tables take milliseconds to free: on the blocking pool, never on a worker, never here.
async fn free_replaced_parts(state: Arc<State>) {
    let mut pause = tokio::time::interval(Duration::from_millis(SWEEP_MS));
    loop {
        pause.tick().await;
        let unheld = state.unheld();
        if !unheld.is_empty() {
            tokio::task::spawn_blocking(move || drop(unheld));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config;
    use crate::config::keys::KeyRing;
    use crate::config::plan::Plan;
    use crate::handoff::Addresses;
    use crate::policy::limits::keys::Keys;
    use std::path::Path;

    /// A directory that is gone at the end of its test.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringgate-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    pub(crate) const CONFIG: &str = "listen: 127.0.0.1:0\nadmin: {address: \"127.0.0.1:0\"}\nworkers: 1\n\
         mcpServers:\n  up: {url: \"https://upstream.test:3000/mcp\"}\n";

    pub(crate) fn state(workers: usize) -> State {
        state_with(workers, |_| {})
    }

    /// State over a small plan, changed by `edit`.
    pub(crate) fn state_with(workers: usize, edit: impl FnOnce(&mut Plan)) -> State {
        let loaded = config::load_text(CONFIG, "test.yaml", Path::new("")).expect("a good config");
        let mut plan = loaded.plan;
        plan.workers = workers;
        edit(&mut plan);
        let (shared, ends) =
            Shared::new(Arc::new(plan), KeyRing::default(), Addresses::default(), Keys { seeds: [1, 2] })
                .expect("sockets");
        // Nobody reads the bells here.
        drop(ends);
        State::new(shared)
    }

    /// A worker that does nothing but turn.
    fn turning_worker(shared: &Arc<Shared>) -> JoinHandle<()> {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            while shared.phase() != Phase::Stopping {
                let closed = shared.phase() == Phase::Draining;
                shared.posts[0].closed.store(closed, Ordering::Release);
                std::thread::yield_now();
            }
        })
    }

    struct Running {
        shared: Arc<Shared>,
        handle: Handle,
        admin: std::net::SocketAddr,
        worker: JoinHandle<()>,
    }

    fn running(drain_ms: u64) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let admin = listener.local_addr().expect("bound");
        let shared = Arc::clone(&state_with(1, |plan| plan.http.drain_ms = drain_ms).shared);
        let options = Options { admin: Some(listener), ..Options::default() };
        let handle = start(Arc::clone(&shared), options).expect("started");
        let worker = turning_worker(&shared);
        Running { shared, handle, admin, worker }
    }

    impl Running {
        fn readiness(&self) -> String {
            use std::io::Read;
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect(self.admin).expect("connected");
            stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read");
            answer.split(' ').nth(1).unwrap_or_default().to_owned()
        }

        fn until(&self, phase: Phase) {
            while (self.shared.phase() as u8) < phase as u8 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_drain_waits_for_the_last_call_and_no_longer() {
        let running = running(3_600_000);
        assert_eq!(running.readiness(), "503", "starting");
        running.handle.ready();
        assert_eq!(running.readiness(), "200");
        running.shared.posts[0].metrics.inflight.set(1);
        running.handle.stop();
        running.until(Phase::Draining);
        // Many of control's looks long.
        let end = crate::base::clock::now().plus_millis(100);
        while crate::base::clock::now() < end {
            assert_eq!(running.readiness(), "503", "draining, and the admin listener still answers");
            assert_eq!(running.shared.phase(), Phase::Draining, "a call is in progress");
        }
        running.shared.posts[0].metrics.inflight.set(0);
        running.handle.wait().expect("drained");
        assert_eq!(running.shared.phase(), Phase::Stopping);
        running.worker.join().expect("no panic");
    }

    /// A worker without clients may still have one in its listener's queue: it says when it has not.
    #[test]
    fn a_drain_waits_for_the_listeners() {
        let shared = Arc::clone(&state_with(1, |plan| plan.http.drain_ms = 3_600_000).shared);
        let handle = start(Arc::clone(&shared), Options::default()).expect("started");
        handle.ready();
        handle.stop();
        // Many of control's looks long.
        let end = crate::base::clock::now().plus_millis(100);
        while crate::base::clock::now() < end {
            assert_ne!(shared.phase(), Phase::Stopping, "a listener is open");
        }
        shared.posts[0].closed.store(true, Ordering::Release);
        handle.wait().expect("drained");
        assert_eq!(shared.phase(), Phase::Stopping);
    }

    #[test]
    fn a_call_that_does_not_end_is_cut_at_the_drain_limit() {
        let running = running(20);
        running.handle.ready();
        running.shared.posts[0].metrics.inflight.set(1);
        running.handle.stop();
        running.handle.wait().expect("drained");
        assert_eq!(running.shared.phase(), Phase::Stopping);
    }

    #[test]
    fn a_second_request_to_stop_ends_the_drain() {
        let running = running(3_600_000);
        running.handle.ready();
        running.shared.posts[0].metrics.client_connections.set(1);
        running.handle.stop();
        running.until(Phase::Draining);
        running.handle.stop();
        running.handle.wait().expect("drained");
        assert_eq!(running.shared.phase(), Phase::Stopping);
    }
}
