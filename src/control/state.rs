//! What the parts of the side thread know together: the shared memory, control's own counters, and the
//! graveyard of replaced parts.
//!
//! Not here: what workers count (`telemetry::metrics`).

#![expect(clippy::disallowed_types, reason = "control only: no worker ever sees the graveyard")]

use crate::base::clock;
use crate::base::counter::Counter;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::control::catalogue::own::OwnCatalogues;
use crate::control::credentials::Credentials;
use crate::control::decisions::Decisions;
use crate::control::fetch::Fetcher;
use crate::control::listen::deaf::Deaf;
use crate::control::resolve;
use crate::control::store::Keeper;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Catalogues;
use crate::handoff::Letter;
use crate::handoff::Question;
use crate::handoff::Shared;
use crate::telemetry::expose::ProcessFacts;
use crate::telemetry::family::Families;
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// Shared by the tasks of the side thread, the writer and the admin listener.
pub(crate) struct State {
    pub(crate) shared: Arc<Shared>,
    /// Milliseconds since the Unix epoch.
    pub(crate) started_unix_ms: u64,
    /// Written by the side thread only.
    pub(crate) reloads_ok: Counter,
    pub(crate) reloads_rejected: Counter,
    /// 1 while the newest configuration is a rejected one.
    pub(crate) last_reload_failed: Counter,
    /// Answers that found their worker's mailbox full; the worker's deadline ends the wait.
    pub(crate) answers_lost: Counter,
    /// Lines that could not be written. Written by the writer's thread only.
    pub(crate) lines_lost: Counter,
    /// Raised by SIGHUP: the writer opens its file anew, as log rotation asks.
    pub(crate) reopen: AtomicU64,
    /// The writer empties the rings once more and ends.
    pub(crate) writer_stop: AtomicBool,
    /// New names may be in the plan.
    pub(crate) names_changed: Notify,
    /// Another plan is in force, its cells too.
    pub(crate) plan_changed: watch::Sender<()>,
    /// Something is known of servers that was not known before.
    pub(crate) catalogues_changed: watch::Sender<()>,
    /// Health probes that may run at a time; all are back where none runs.
    pub(crate) probes: Arc<Semaphore>,
    /// The same for listings of servers.
    pub(crate) listings: Semaphore,
    /// All sessions on servers are to be closed: nobody is left to use them.
    pub(crate) sessions_end: watch::Sender<bool>,
    /// Has a permit of each part that keeps some, once it has closed them.
    pub(crate) sessions_ended: Semaphore,
    /// Asks for a drain, as a signal does; a second time for an end at once.
    pub(crate) stop: Notify,
    /// One change of the kill switches at a time.
    pub(crate) kills_turn: tokio::sync::Mutex<()>,
    /// What control counts as workers do. Written by the side thread only.
    pub(crate) families: Families,
    /// Asks services that the gateway needs.
    pub(crate) fetcher: Fetcher,
    /// What servers are shown of callers.
    pub(crate) credentials: Credentials,
    pub(crate) decisions: Decisions,
    /// What servers offer single callers.
    pub(crate) own_catalogues: OwnCatalogues,
    /// Servers that tell nothing by themselves.
    pub(crate) deaf: Deaf,
    keeper: Mutex<Keeper>,
    /// Questions that take time, from whoever hears the bell to whoever answers.
    asked: mpsc::Sender<Question>,
    questions: Mutex<Option<mpsc::Receiver<Question>>>,
    /// The same for what is not answered.
    told: mpsc::Sender<Question>,
    telling: Mutex<Option<mpsc::Receiver<Question>>>,
    graveyard: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl State {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (asked, questions) = mpsc::channel(limits::QUESTION_RING);
        let (told, telling) = mpsc::channel(limits::TOLD_RING);
        Self {
            asked,
            questions: Mutex::new(Some(questions)),
            told,
            telling: Mutex::new(Some(telling)),
            families: Families::new(limits::SERIES_MAX),
            fetcher: Fetcher::new(resolve::system),
            credentials: Credentials::new(shared.plan.load().state_dir.as_deref()),
            decisions: Decisions::default(),
            own_catalogues: OwnCatalogues::default(),
            deaf: Deaf::default(),
            keeper: Mutex::new(Keeper::new(&shared.plan.load())),
            shared,
            started_unix_ms: clock::unix_millis(),
            reloads_ok: Counter::new(),
            reloads_rejected: Counter::new(),
            last_reload_failed: Counter::new(),
            answers_lost: Counter::new(),
            lines_lost: Counter::new(),
            reopen: AtomicU64::new(0),
            writer_stop: AtomicBool::new(false),
            names_changed: Notify::new(),
            plan_changed: watch::Sender::new(()),
            catalogues_changed: watch::Sender::new(()),
            probes: Arc::new(Semaphore::new(limits::PROBES_MAX)),
            listings: Semaphore::new(limits::LISTINGS_MAX),
            sessions_end: watch::Sender::new(false),
            sessions_ended: Semaphore::new(0),
            stop: Notify::new(),
            kills_turn: tokio::sync::Mutex::default(),
            graveyard: Mutex::default(),
        }
    }

    /// Hands a question on to whoever answers it; a full channel leaves it to the asker's deadline.
    pub(crate) fn hand_on(&self, question: Question) {
        let is_told = matches!(question.what, Asked::Note { .. } | Asked::Interest { .. });
        let way = if is_told { &self.told } else { &self.asked };
        if way.try_send(question).is_err() {
            self.answers_lost.add(1);
        }
    }

    /// What was told; the first one to ask gets it.
    pub(crate) fn telling(&self) -> Option<mpsc::Receiver<Question>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The questions that were handed on; the first one to ask gets them.
    pub(crate) fn questions(&self) -> Option<mpsc::Receiver<Question>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells a worker what it asked.
    pub(crate) fn reply(&self, worker: usize, ticket: u64, answer: Answer) {
        let Some(post) = self.shared.posts.get(worker) else { return };
        if post.mailbox.post(Letter::Answered { ticket, answer }).is_err() {
            // The asker's own deadline ends its wait.
            self.answers_lost.add(1);
        }
    }

    /// The key file of the plan in force.
    pub(crate) fn key_file(&self) -> Option<PathBuf> {
        self.shared.plan.load().identity.api_keys.clone()
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.shared.plan.load_full()
    }

    /// Writes what quotas have used. Waits for the disk.
    pub(crate) fn keep_quotas(&self) {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).keep(&self.shared.limits);
    }

    /// Publishes what is known of servers, changed. One at a time: only tasks of the side thread do it.
    pub(crate) fn edit_catalogues(&self, edit: impl FnOnce(&mut Catalogues)) {
        let mut catalogues = (**self.shared.catalogues.load()).clone();
        edit(&mut catalogues);
        let old = self.shared.catalogues.swap(Arc::new(catalogues));
        self.bury(old);
        self.shared.announce();
        self.catalogues_changed.send_replace(());
    }

    pub(crate) fn sessions_ends(&self) -> bool {
        *self.sessions_end.borrow()
    }

    /// Keeps a replaced part until no worker holds it, so that no worker ever frees a large table.
    pub(crate) fn bury(&self, old: Arc<dyn Any + Send + Sync>) {
        self.graves().push(old);
    }

    /// Takes out what nobody else holds; the caller drops it where time does not matter.
    pub(crate) fn unheld(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        self.graves().extract_if(.., |old| Arc::strong_count(old) == 1).collect()
    }

    fn graves(&self) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Any + Send + Sync>>> {
        self.graveyard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads `/proc`: slow with many descriptors, so only on the blocking pool.
    pub(crate) fn process_facts(&self) -> ProcessFacts {
        let usage = crate::control::process::usage();
        ProcessFacts {
            version: env!("CARGO_PKG_VERSION"),
            reloads_ok: self.reloads_ok.read(),
            reloads_rejected: self.reloads_rejected.read(),
            last_reload_successful: self.last_reload_failed.read() == 0,
            call_log_lost: self.lines_lost.read(),
            resident_bytes: usage.resident_bytes,
            cpu_seconds: usage.cpu_seconds,
            open_fds: usage.open_fds,
            start_unix_seconds: self.started_unix_ms / 1000,
        }
    }

    pub(crate) fn ask_to_reopen(&self) {
        self.reopen.fetch_add(1, Ordering::Release);
    }
}
