//! Reload: SIGHUP or a changed file makes a new plan, or leaves everything as it was and says why.
//!
//! One SIGHUP is one reload, counted once; signals that arrive while one runs join into one more. A
//! file event is a reload only where the content differs from what was read last, good or bad. A change and
//! the SIGHUP that was sent right after it are one reload, whichever of the two is seen first; a SIGHUP that
//! comes later is one of its own.
//!
//! Not here: reading and checking (config), and what workers do with a new plan.

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config;
use crate::config::keys::KeyRing;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::control::keys;
use crate::control::state::State;
use crate::control::systemd;
use crate::control::watch::Change;
use crate::control::watch::Files;
use crate::control::watch::Watcher;
use aws_lc_rs::digest;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::Receiver;
use tokio::time::Sleep;

/// SHA-256 over the content of the configuration's files.
type Content = [u8; 32];

/// What was read for one reload.
struct Attempt {
    content: Content,
    result: Result<Ready, String>,
}

/// A configuration that is good as a whole, its keys too.
struct Ready {
    plan: Plan,
    keys: Option<KeyRing>,
    watched: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// Why a reload runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Signal,
    File,
}

pub(crate) struct Reloader {
    state: Arc<State>,
    /// None: nothing to reload.
    path: Option<PathBuf>,
    /// Whether a plan with `faults` may be adopted.
    allow_faults: bool,
    watched: Vec<PathBuf>,
    /// The content that was read last; none before the first reload.
    content: Option<Content>,
    /// Set by a reload that a file event made: until when a signal joins it.
    joined_until: Option<Moment>,
    watcher: Option<Watcher>,
}

impl Reloader {
    pub(crate) fn new(
        state: Arc<State>,
        path: Option<PathBuf>,
        watched: Vec<PathBuf>,
        watcher: Option<Watcher>,
    ) -> Self {
        let reloader =
            Self { state, path, allow_faults: false, watched, content: None, joined_until: None, watcher };
        reloader.follow();
        reloader
    }

    /// `run --allow-faults` is said once, at the start.
    pub(crate) fn allowing_faults(self, allow_faults: bool) -> Self {
        Self { allow_faults, ..self }
    }

    /// Serves signals and changes until either source ends.
    pub(crate) async fn run(mut self, mut hangup: Signal, mut changes: Receiver<Change>) {
        let mut quiet: Option<Pin<Box<Sleep>>> = None;
        // The first change that waits for the quiet.
        let mut changed: Option<Moment> = None;
        loop {
            tokio::select! {
                biased;
                signal = hangup.recv() => {
                    if signal.is_none() {
                        return;
                    }
                    // What was about to be read for a change, keys too, is read now.
                    (quiet, changed) = (None, None);
                    while changes.try_recv().is_ok() {}
                    self.state.ask_to_reopen();
                    self.reload(Cause::Signal).await;
                }
                Some(change) = changes.recv() => match change {
                    Change::Keys => keys::reload(&self.state).await,
                    Change::Config => {
                        let now = clock::now();
                        let first = *changed.get_or_insert(now);
                        quiet = Some(Box::pin(tokio::time::sleep(until_quiet(first, now))));
                    }
                },
                () = async { if let Some(sleep) = &mut quiet { sleep.await } }, if quiet.is_some() => {
                    (quiet, changed) = (None, None);
                    self.reload(Cause::File).await;
                }
            }
        }
    }

    /// Reads everything again, off this thread, and adopts it where all of it is good.
    pub(crate) async fn reload(&mut self, cause: Cause) {
        let asked = clock::now();
        let Some(path) = self.path.clone() else {
            tracing::info!("nothing to reload: the gateway runs without a config file");
            return;
        };
        let (watched, known) = (self.watched.clone(), self.content);
        let key_file = self.state.key_file();
        let current = self.state.shared.keys.load_full();
        let allow_faults = self.allow_faults;
        let read = tokio::task::spawn_blocking(move || {
            let content = content(&path, &watched, key_file.as_deref());
            if cause == Cause::File && known == Some(content) {
                return None;
            }
            Some(Attempt { content, result: read(&path, &current, allow_faults) })
        });
        let attempt = match read.await {
            Ok(None) => return,
            Ok(Some(attempt)) => attempt,
            // Only a defect of ours panics there: the old plan stays, as for any bad file.
            Err(error) => Attempt {
                content: [0; 32],
                result: Err(format!("reading the configuration failed: {error}")),
            },
        };
        let before = self.content.replace(attempt.content);
        let counted = u64::from(!self.joins(cause, before, asked));
        let mut acted = true;
        systemd::reloading();
        match attempt.result {
            Ok(ready) if cause == Cause::File && before.is_none() && self.is_in_force(&ready) => {
                acted = false
            }
            Ok(ready) => {
                self.adopt(ready);
                // Last: who sees the count sees the plan.
                self.state.reloads_ok.add(counted);
            }
            Err(problems) => {
                self.state.last_reload_failed.set(1);
                self.state.reloads_rejected.add(counted);
                tracing::error!("reload rejected, the old configuration stays in force:\n{problems}");
            }
        }
        systemd::ready();
        if cause == Cause::File {
            self.joined_until = acted.then(|| clock::now().plus_millis(limits::RELOAD_JOIN_MS));
        }
    }

    /// Whether this reload was counted already: a signal that was sent at once after a file event was acted on
    /// and finds nothing new. All is read again even so, the keys too. One signal joins a file event at most.
    fn joins(&mut self, cause: Cause, before: Option<Content>, asked: Moment) -> bool {
        let open = self.joined_until.take().filter(|end| asked < *end);
        if cause == Cause::File || open.is_none() {
            return false;
        }
        let joins = before == self.content;
        if !joins {
            // Late, it finds the change after its own: that one's signal is still to come, and joins instead.
            self.joined_until = open;
        }
        joins
    }

    /// Whether a file event tells of a change that was there before the gateway started.
    fn is_in_force(&self, ready: &Ready) -> bool {
        ready.plan.digest == self.state.shared.plan.load().digest
    }

    fn adopt(&mut self, ready: Ready) {
        let Ready { mut plan, keys, watched, warnings } = ready;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let shared = &self.state.shared;
        keep_what_needs_a_restart(&mut plan, &shared.plan.load());
        let digest = plan.digest.clone();
        self.state.bury(shared.set_plan(Arc::new(plan)));
        if let Some(keys) = keys {
            self.state.bury(shared.keys.swap(Arc::new(keys)));
        }
        shared.announce();
        self.watched = watched;
        self.follow();
        self.state.names_changed.notify_one();
        self.state.plan_changed.send_replace(());
        self.state.last_reload_failed.set(0);
        tracing::info!(plan = digest, "reloaded the configuration");
    }

    fn follow(&self) {
        let (Some(watcher), Some(path)) = (&self.watcher, &self.path) else { return };
        let keys = self.state.key_file();
        let mut config = vec![path.clone()];
        config.extend(self.watched.iter().filter(|path| Some(*path) != keys.as_ref()).cloned());
        watcher.follow(Files { config, keys });
    }
}

/// How long to wait after a change, so that a file is read whole: until writes pause, but not for ever.
fn until_quiet(first: Moment, now: Moment) -> Duration {
    let latest = first.plus_millis(limits::RELOAD_DEBOUNCE_MS_MAX).nanos_since(now);
    Duration::from_millis(limits::RELOAD_DEBOUNCE_MS).min(Duration::from_nanos(latest))
}

/// Threads and sockets were made at the start; the rest of a new plan applies without them.
fn keep_what_needs_a_restart(new: &mut Plan, old: &Plan) {
    let later =
        |what: &str| tracing::warn!("{what} changed: takes effect after a restart, the rest is in force");
    if new.workers != old.workers {
        later("workers");
        new.workers = old.workers;
    }
    if !new.keep_listeners(old) {
        later("listen");
    }
    if new.admin != old.admin {
        later("admin.address");
        new.admin = old.admin;
    }
    if new.state_dir != old.state_dir {
        later("state.dir");
        new.state_dir.clone_from(&old.state_dir);
    }
    if new.limits.table.buckets != old.limits.table.buckets {
        later("limitTable.buckets");
        new.limits.table.buckets = old.limits.table.buckets;
    }
}

fn read(path: &Path, current: &KeyRing, allow_faults: bool) -> Result<Ready, String> {
    let loaded = config::load(path).map_err(|problems| problems.to_string())?;
    loaded.plan.check_faults(allow_faults)?;
    let keys = match &loaded.plan.identity.api_keys {
        Some(file) => {
            let ring = config::keys::read(file).map_err(|problems| problems.to_string())?;
            ring.inherit(current);
            Some(ring)
        }
        // Keys that no configuration names are refused again.
        None if current.by_hash.is_empty() => None,
        None => Some(KeyRing::default()),
    };
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok(Ready { plan: loaded.plan, keys, watched: loaded.watched, warnings })
}

/// The key file is not part of it: it has a way of its own, without delay.
fn content(path: &Path, watched: &[PathBuf], key_file: Option<&Path>) -> Content {
    let mut all = digest::Context::new(&digest::SHA256);
    let others = watched.iter().map(PathBuf::as_path).filter(|path| Some(*path) != key_file);
    for path in std::iter::once(path).chain(others) {
        // A file that cannot be read is a content of its own.
        let bytes = std::fs::read(path).unwrap_or_default();
        all.update(digest::digest(&digest::SHA256, &bytes).as_ref());
    }
    let mut content = [0; 32];
    content.copy_from_slice(all.finish().as_ref());
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::CONFIG;
    use crate::control::tests::Folder;
    use crate::control::tests::state;
    use std::fs;
    use tokio::signal::unix::SignalKind;
    use tokio::signal::unix::signal;
    use tokio::sync::mpsc;

    fn reloader(folder: &Folder) -> Reloader {
        let path = folder.path("gw.yaml");
        fs::write(&path, CONFIG).expect("written");
        Reloader::new(Arc::new(state(1)), Some(path), Vec::new(), None)
    }

    fn counts(reloader: &Reloader) -> (u64, u64) {
        (reloader.state.reloads_ok.read(), reloader.state.reloads_rejected.read())
    }

    fn with_header(value: &str) -> String {
        CONFIG.replace("/mcp\"}", &format!("/mcp\", headers: {{X-Version: \"{value}\"}}}}"))
    }

    fn header(reloader: &Reloader) -> Vec<u8> {
        let plan = reloader.state.plan();
        plan.servers[0].headers.first().map(|header| header.value.to_vec()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_good_file_is_adopted_and_announced() {
        let folder = Folder::new("reload-good");
        let mut reloader = reloader(&folder);
        let epoch = reloader.state.shared.epoch();
        fs::write(folder.path("gw.yaml"), with_header("1")).expect("written");
        reloader.reload(Cause::Signal).await;
        assert_eq!((counts(&reloader), header(&reloader)), ((1, 0), b"1".to_vec()));
        assert_eq!(reloader.state.shared.epoch(), epoch + 1);
    }

    #[tokio::test]
    async fn faults_are_adopted_only_where_they_are_allowed() {
        let folder = Folder::new("reload-faults");
        let reloader = reloader(&folder);
        let faulty = CONFIG.replace("/mcp\"}", "/mcp\", faults: [{ratio: 0.5, cut: true}]}");
        fs::write(folder.path("gw.yaml"), faulty).expect("written");
        let mut strict = reloader.allowing_faults(false);
        strict.reload(Cause::Signal).await;
        assert_eq!((counts(&strict), strict.state.plan().has_faults()), ((0, 1), false));
        let mut allowing = strict.allowing_faults(true);
        allowing.reload(Cause::Signal).await;
        assert_eq!((counts(&allowing), allowing.state.plan().has_faults()), ((1, 1), true));
    }

    #[tokio::test]
    async fn a_bad_file_changes_nothing_and_is_counted() {
        let folder = Folder::new("reload-bad");
        let mut reloader = reloader(&folder);
        let (plan, epoch) = (reloader.state.plan(), reloader.state.shared.epoch());
        let bad = [CONFIG.replace("url", "urll"), "{".to_owned(), String::from("\0")];
        for text in &bad {
            fs::write(folder.path("gw.yaml"), text).expect("written");
            reloader.reload(Cause::Signal).await;
        }
        fs::remove_file(folder.path("gw.yaml")).expect("removed");
        reloader.reload(Cause::Signal).await;
        assert_eq!(counts(&reloader), (0, 4));
        assert!(Arc::ptr_eq(&plan, &reloader.state.plan()));
        assert_eq!(reloader.state.shared.epoch(), epoch);
        assert_eq!(reloader.state.last_reload_failed.read(), 1);
        fs::write(folder.path("gw.yaml"), with_header("2")).expect("written");
        reloader.reload(Cause::Signal).await;
        assert_eq!((counts(&reloader), reloader.state.last_reload_failed.read()), ((1, 4), 0));
    }

    #[tokio::test]
    async fn a_file_event_without_a_change_is_no_reload_and_a_signal_always_is() {
        let folder = Folder::new("reload-same");
        let mut reloader = reloader(&folder);
        fs::write(folder.path("gw.yaml"), with_header("1")).expect("written");
        let table = [
            (Cause::Signal, (1, 0)),
            (Cause::File, (1, 0)),
            (Cause::File, (1, 0)),
            (Cause::Signal, (2, 0)),
            (Cause::File, (2, 0)),
        ];
        for (cause, expected) in table {
            reloader.reload(cause).await;
            assert_eq!(counts(&reloader), expected, "{cause:?}");
        }
        fs::write(folder.path("gw.yaml"), "{").expect("written");
        reloader.reload(Cause::File).await;
        reloader.reload(Cause::File).await;
        assert_eq!(counts(&reloader), (2, 1), "one bad content is rejected once");
    }

    /// On a loaded machine a file event is acted on before the signal comes: the change was counted twice.
    #[tokio::test]
    async fn a_signal_after_the_file_event_of_its_change_is_the_same_reload() {
        let folder = Folder::new("reload-join");
        let mut reloader = reloader(&folder);
        let good = with_header("1");
        for (text, joined, later) in [(good.as_str(), (1, 0), (2, 0)), ("{", (2, 1), (2, 2))] {
            fs::write(folder.path("gw.yaml"), text).expect("written");
            for cause in [Cause::File, Cause::Signal] {
                reloader.reload(cause).await;
                assert_eq!(counts(&reloader), joined, "{cause:?} {text}");
            }
            reloader.reload(Cause::Signal).await;
            assert_eq!(counts(&reloader), later, "only one signal joins: {text}");
        }
        fs::write(folder.path("gw.yaml"), with_header("3")).expect("written");
        reloader.reload(Cause::File).await;
        fs::write(folder.path("gw.yaml"), with_header("4")).expect("written");
        reloader.reload(Cause::Signal).await;
        assert_eq!((counts(&reloader), header(&reloader)), ((4, 2), b"4".to_vec()), "the signal of 3, late");
        reloader.reload(Cause::Signal).await;
        assert_eq!(counts(&reloader), (4, 2), "the signal of 4");
        fs::write(folder.path("gw.yaml"), with_header("5")).expect("written");
        reloader.reload(Cause::File).await;
        reloader.joined_until = Some(Moment::ZERO);
        reloader.reload(Cause::Signal).await;
        assert_eq!(counts(&reloader), (6, 2), "much later");
    }

    /// A bare SIGHUP seconds after a file event was taken for its signal, and not counted.
    #[tokio::test]
    async fn a_signal_long_after_the_file_event_is_a_reload_of_its_own() {
        let folder = Folder::new("reload-late");
        let mut reloader = reloader(&folder);
        for (value, count) in [("1", 1), ("2", 3)] {
            fs::write(folder.path("gw.yaml"), with_header(value)).expect("written");
            reloader.reload(Cause::File).await;
            assert_eq!(counts(&reloader), (count, 0));
            let later = clock::now().plus_millis(1_500);
            while clock::now() < later {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            reloader.reload(Cause::Signal).await;
            assert_eq!(counts(&reloader), (count + 1, 0), "1.5 s later");
        }
    }

    /// A file that is written all the time was never read: each write put the reload off again.
    #[tokio::test]
    async fn writes_without_a_pause_do_not_put_a_reload_off_for_ever() {
        let folder = Folder::new("reload-busy");
        let reloader = reloader(&folder);
        let state = Arc::clone(&reloader.state);
        fs::write(folder.path("gw.yaml"), with_header("1")).expect("written");
        let (told, changes) = mpsc::channel(16);
        // Other tests of this process send SIGHUP.
        let signals = signal(SignalKind::user_defined1()).expect("a handler");
        let running = tokio::spawn(reloader.run(signals, changes));
        let start = clock::now();
        while state.reloads_ok.read() == 0 {
            assert!(clock::now() < start.plus_millis(6_000), "put off for 6 s");
            let _ = told.try_send(Change::Config);
            tokio::time::sleep(Duration::from_millis(limits::RELOAD_DEBOUNCE_MS / 10)).await;
        }
        let waited = clock::now().nanos_since(start) / 1_000_000;
        assert!(waited > limits::RELOAD_DEBOUNCE_MS, "not put off at all: {waited} ms");
        running.abort();
    }

    #[tokio::test]
    async fn a_bad_key_file_rejects_the_whole() {
        let folder = Folder::new("reload-keys");
        let mut reloader = reloader(&folder);
        fs::write(folder.path("keys.yaml"), "keys: 7").expect("written");
        let text = format!("{}identity: {{apiKeys: {{file: keys.yaml}}}}\n", with_header("1"));
        fs::write(folder.path("gw.yaml"), &text).expect("written");
        reloader.reload(Cause::Signal).await;
        assert_eq!((counts(&reloader), header(&reloader)), ((0, 1), Vec::new()));
    }

    #[tokio::test]
    async fn what_needs_a_restart_stays_and_the_rest_applies() {
        let folder = Folder::new("reload-restart");
        let mut reloader = reloader(&folder);
        let before = reloader.state.plan();
        let text = with_header("1")
            .replace("workers: 1", "workers: 2")
            .replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:9");
        fs::write(folder.path("gw.yaml"), text).expect("written");
        reloader.reload(Cause::Signal).await;
        let after = reloader.state.plan();
        let addresses = |plan: &Plan| plan.listeners.iter().map(|one| one.address).collect::<Vec<_>>();
        assert_eq!((after.workers, addresses(&after)), (before.workers, addresses(&before)));
        assert_eq!(header(&reloader), b"1");
    }

    #[tokio::test]
    async fn an_old_plan_lives_as_long_as_a_worker_holds_it_and_dies_with_control() {
        let folder = Folder::new("reload-graveyard");
        let mut reloader = reloader(&folder);
        let held = reloader.state.plan();
        for version in ["1", "2", "3"] {
            fs::write(folder.path("gw.yaml"), with_header(version)).expect("written");
            reloader.reload(Cause::Signal).await;
        }
        assert_eq!(reloader.state.unheld().len(), 2);
        drop(held);
        assert_eq!(reloader.state.unheld().len(), 1);
        assert_eq!(reloader.state.unheld().len(), 0);
    }

    /// Sends SIGHUP to this process; the handler was set by `signal` before.
    fn hangup() {
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP).expect("sent");
    }

    /// Watched at the same time: the events of the writes must not count once more.
    #[tokio::test]
    async fn a_thousand_signals_one_after_another_are_a_thousand_reloads() {
        let folder = Folder::new("reload-signals");
        let (told, changes) = mpsc::channel(16);
        let path = folder.path("gw.yaml");
        fs::write(&path, CONFIG).expect("written");
        let watcher = Watcher::start(told).expect("inotify");
        let reloader = Reloader::new(Arc::new(state(1)), Some(path), Vec::new(), Some(watcher));
        let state = Arc::clone(&reloader.state);
        let signals = signal(SignalKind::hangup()).expect("a handler");
        let running = tokio::spawn(reloader.run(signals, changes));
        for count in 1..=1_000 {
            // In one step, as editors and volume mounts do: an event of before may be acted on now.
            fs::write(folder.path("next"), with_header(&count.to_string())).expect("written");
            fs::rename(folder.path("next"), folder.path("gw.yaml")).expect("renamed");
            hangup();
            while state.reloads_ok.read() < count {
                tokio::task::yield_now().await;
            }
            assert_eq!(state.plan().servers[0].headers[0].value.as_ref(), count.to_string().as_bytes());
        }
        assert_eq!((state.reloads_ok.read(), state.reloads_rejected.read()), (1_000, 0));
        running.abort();
    }
}
