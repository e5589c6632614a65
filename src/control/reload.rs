//! Reload: SIGHUP or a changed file makes a new plan, or leaves everything as it was and says why.
//!
//! One SIGHUP is one reload, counted once; signals that arrive while one runs join into one more. A
//! file event is a reload only where the content differs from what was read last, good or bad. A change and
//! the SIGHUP that was sent right after it are one reload, whichever of the two is seen first; a SIGHUP that
//! comes later is one of its own.
//!
//! Not here: reading and checking (config), and what workers do with a new plan.

#[cfg(test)]
mod tests;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config;
use crate::config::keys::KeyRing;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::control::change::Change;
use crate::control::change::Changes;
use crate::control::keys;
use crate::control::state::State;
use crate::control::systemd;
use crate::control::watch::Files;
use crate::control::watch::Watcher;
use aws_lc_rs::digest;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
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
    pub(crate) async fn run(mut self, mut hangup: Signal, mut changes: Changes) {
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
                    // What was about to be read for a change is read now.
                    (quiet, changed) = (None, None);
                    changes.forget_config();
                    self.state.ask_to_reopen();
                    self.reload(Cause::Signal).await;
                }
                Some(change) = changes.next() => match change {
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
        let Some(attempt) = settled(cause, self.reading(cause, path)).await else { return };
        let before = self.content.replace(attempt.content);
        if cause == Cause::File && before.is_none() && self.is_in_force(&attempt) {
            self.joined_until = None;
            return;
        }
        let counted = u64::from(!self.joins(cause, before, asked));
        systemd::reloading();
        match attempt.result {
            Ok(ready) => {
                self.adopt(ready);
                // Last: who sees the count sees the plan.
                self.state.reloads_ok.add(counted);
            }
            Err(problems) => {
                tracing::error!("reload rejected, the old configuration stays in force:\n{problems}");
                // A revocation does not wait until the configuration is mended.
                keys::reload(&self.state).await;
                self.state.last_reload_failed.set(1);
                self.state.reloads_rejected.add(counted);
            }
        }
        systemd::ready();
        if cause == Cause::File {
            self.joined_until = Some(clock::now().plus_millis(limits::RELOAD_JOIN_MS));
        }
    }

    /// None: a file event without a change.
    fn reading(&self, cause: Cause, path: PathBuf) -> impl Fn() -> Option<Attempt> + Clone + Send + 'static {
        let (watched, known) = (self.watched.clone(), self.content);
        let key_file = self.state.key_file();
        let current = self.state.shared.keys.load_full();
        let allow_faults = self.allow_faults;
        move || {
            let content = content(&path, &watched, key_file.as_deref());
            if cause == Cause::File && known == Some(content) {
                return None;
            }
            Some(Attempt { content, result: read(&path, &current, allow_faults) })
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

    /// Whether the first look at the files, once they are watched, finds what the gateway started with.
    fn is_in_force(&self, attempt: &Attempt) -> bool {
        let in_force = self.state.shared.plan.load();
        attempt.result.as_ref().is_ok_and(|ready| ready.plan.digest == in_force.digest)
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
        self.state.deaf.forget();
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

/// What was read, off this thread. After a file event a bad content is read once more: its writer may be about to write
/// the rest.
async fn settled(
    cause: Cause,
    read: impl Fn() -> Option<Attempt> + Clone + Send + 'static,
) -> Option<Attempt> {
    let first = off_thread(read.clone()).await?;
    if cause == Cause::Signal || first.result.is_ok() {
        return Some(first);
    }
    tokio::time::sleep(Duration::from_millis(limits::KEYS_SETTLE_MS)).await;
    off_thread(read).await
}

async fn off_thread(read: impl FnOnce() -> Option<Attempt> + Send + 'static) -> Option<Attempt> {
    // Only a defect of ours panics there: the old plan stays, as for any bad file.
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
        let problems = format!("reading the configuration failed: {error}");
        Some(Attempt { content: [0; 32], result: Err(problems) })
    })
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
