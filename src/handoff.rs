//! What passes between threads, and nothing else does. The only place that both planes import.
//!
//! 1. Down: [`Shared`] holds the `Plan` and the parts of `Live`; one epoch tells workers that
//!    something changed, read once a call.
//! 2. Up: one bounded ring of records per worker; full means drop and count.
//! 3. Questions: a bounded queue to control; the answer comes back as a letter, the asking task
//!    waits with its own deadline, the worker never does.
//! 4. Worker to worker: one bounded [`Mailbox`] each; a full one refuses the letter.
//!
//! Not here: a lock, an unbounded queue, a runtime. It does not know what the receiver does.

mod known;
mod mailbox;
mod question;
mod session;
#[cfg(test)]
mod tests;

pub use known::Addresses;
pub use known::Catalogues;
pub use known::Eras;
pub use known::Failing;
pub use mailbox::Letter;
pub use mailbox::Mailbox;
pub use mailbox::Parcel;
pub use mailbox::Said;
pub use question::Answer;
pub use question::Asked;
pub use question::Inquiry;
pub use question::Interest;
pub use question::OwnAsked;
pub use question::Question;
pub use question::Subscriptions;
pub use session::Hearing;
pub use session::SealedMember;
pub use session::SessionKey;
pub use session::SessionNote;
pub use session::SessionNotes;
pub use session::UpstreamSession;

use crate::base::bound::Bound;
use crate::base::clock;
use crate::config::keys::KeyRing;
use crate::config::limits;
use crate::config::plan::CallLog;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::mcp::sealed::SealKeys;
use crate::policy::kills::Kills;
use crate::policy::limits::Counters;
use crate::policy::limits::keys::Keys;
use crate::policy::token::TokenKeys;
use crate::route::cells::ServerCells;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::record::Record;
use ahash::HashMap;
use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A plan, and what workers share about its servers: cells that outlive the plan, found by the server's name.
#[derive(Debug)]
pub struct Cells {
    pub plan: Arc<Plan>,
    pub by_server: HashMap<Arc<str>, Arc<ServerCells>>,
}

impl Cells {
    /// The cells of each server of a plan; what was counted under the plan before goes on.
    fn of(plan: Arc<Plan>, before: Option<&Self>) -> Self {
        let cells = |server: &Server| {
            let labels: Vec<&str> = server.instances.iter().map(|instance| &*instance.label).collect();
            let before = before.and_then(|cells| cells.by_server.get(&server.name)).map(|cells| &**cells);
            Arc::new(ServerCells::new(&server.traffic, &labels, before, clock::now()))
        };
        let by_server = plan.servers.iter().map(|server| (Arc::clone(&server.name), cells(server)));
        Self { by_server: by_server.collect(), plan }
    }
}

/// Whether new work is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Starting = 0,
    Serving = 1,
    /// No new connections; calls in flight finish.
    Draining = 2,
    /// The drain limit has passed: whatever is still open is cut.
    Stopping = 3,
}

/// The memory that both planes share.
pub struct Shared {
    pub plan: ArcSwap<Plan>,
    pub keys: ArcSwap<KeyRing>,
    pub token_keys: ArcSwap<TokenKeys>,
    pub catalogues: ArcSwap<Catalogues>,
    pub notes: ArcSwap<SessionNotes>,
    pub addresses: ArcSwap<Addresses>,
    /// Made with each plan; workers adopt both together.
    pub cells: ArcSwap<Cells>,
    pub kills: ArcSwap<Kills>,
    /// What sessions are sealed with; kept over reloads that name no keys.
    pub seal_keys: ArcSwap<SealKeys>,
    /// What is counted for the limits of callers; the plan's are kept by their names.
    pub limits: Counters,
    /// Raised after any of them changed; workers compare it with what they saw last.
    epoch: AtomicU64,
    phase: AtomicU8,
    questions: ArrayQueue<Question>,
    /// Rings when a question came: control reads its other end. Non-blocking, both.
    bell: UnixStream,
    bell_end: UnixStream,
    pub posts: Vec<Post>,
    /// Tells this process from those before it, and from other gateways.
    pub process: u64,
}

/// The keys that a plan names, if it names any.
fn seal_keys(plan: &Plan) -> Option<SealKeys> {
    SealKeys::new(plan.seal_keys.iter().map(|secret| secret.0.as_bytes()))
}

/// A key that ends with the process, and its sessions with it.
fn passing_seal_keys() -> std::io::Result<SealKeys> {
    let mut secret = [0; 32];
    let made = aws_lc_rs::rand::fill(&mut secret).ok().and_then(|()| SealKeys::new([&secret[..]]));
    made.ok_or_else(|| std::io::Error::other("the system gives no random bytes"))
}

fn process_number() -> std::io::Result<u64> {
    let mut number = [0; 8];
    let filled = aws_lc_rs::rand::fill(&mut number);
    filled.map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    Ok(u64::from_le_bytes(number))
}

/// What belongs to one worker and is seen by others.
pub struct Post {
    pub mailbox: Mailbox,
    /// Made with the first plan that has a call log: its memory is most of what an idle gateway would hold.
    records: OnceLock<ArrayQueue<Record>>,
    pub metrics: WorkerMetrics,
    /// Set once by the worker: it accepts nobody any more, and whom it has accepted is counted.
    pub closed: AtomicBool,
}

impl Post {
    fn make_ring(&self) {
        self.records.get_or_init(|| ArrayQueue::new(limits::RECORD_RING));
    }

    /// The oldest record; only the writer takes them.
    pub fn next_record(&self) -> Option<Record> {
        self.records.get()?.pop()
    }

    /// Hands the record of a call to the writer. Only the worker that owns this post calls it, under a plan that has a
    /// call log: a full ring drops the record and counts it in the worker's own counter.
    pub fn hand_up(&self, record: Record) {
        let taken = self.records.get().is_some_and(|records| records.push(record).is_ok());
        if !taken {
            self.metrics.records_lost.add(1);
            self.metrics.hit(Bound::RecordRing);
        }
    }
}

impl Shared {
    /// The shared memory, without kill switches, and for each worker the end of its mailbox that it alone reads.
    ///
    /// # Errors
    /// Where no socket pair can be made (descriptors exhausted).
    pub fn new(
        plan: Arc<Plan>,
        keys: KeyRing,
        addresses: Addresses,
        counter_keys: Keys,
    ) -> std::io::Result<(Arc<Self>, Vec<UnixStream>)> {
        let mut posts = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..plan.workers {
            let (mailbox, end) = Mailbox::new(limits::MAILBOX)?;
            posts.push(Post {
                mailbox,
                records: OnceLock::new(),
                metrics: WorkerMetrics::new(limits::SERIES_MAX),
                closed: AtomicBool::new(false),
            });
            ends.push(end);
        }
        let (bell, bell_end) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        bell_end.set_nonblocking(true)?;
        let cells = Cells::of(Arc::clone(&plan), None);
        let seal_keys = seal_keys(&plan).map_or_else(passing_seal_keys, Ok)?;
        let shared = Self {
            cells: ArcSwap::from_pointee(cells),
            limits: Counters::new(plan.limits.table, counter_keys),
            plan: ArcSwap::new(plan),
            keys: ArcSwap::from_pointee(keys),
            token_keys: ArcSwap::default(),
            catalogues: ArcSwap::default(),
            notes: ArcSwap::default(),
            addresses: ArcSwap::from_pointee(addresses),
            kills: ArcSwap::default(),
            seal_keys: ArcSwap::from_pointee(seal_keys),
            epoch: AtomicU64::new(1),
            phase: AtomicU8::new(Phase::Starting as u8),
            questions: ArrayQueue::new(limits::QUESTION_RING),
            bell,
            bell_end,
            posts,
            process: process_number()?,
        };
        shared.make_rings(&shared.plan.load());
        Ok((Arc::new(shared), ends))
    }

    /// Before a worker sees the plan.
    fn make_rings(&self, plan: &Plan) {
        if plan.call_log != CallLog::Off {
            self.posts.iter().for_each(Post::make_ring);
        }
    }

    /// Asks control; the answer comes as a letter to the asker's mailbox, or not at all: the asking task
    /// has its own deadline.
    ///
    /// # Errors
    /// Gives the question back where the queue is full: then its rule's `onError` decides.
    pub fn ask(&self, question: Question) -> Result<(), Question> {
        self.questions.push(question)?;
        // WouldBlock: control has unread wake-ups.
        let _ = (&self.bell).write(&[1]);
        Ok(())
    }

    /// The oldest question; only control takes them.
    pub fn next_question(&self) -> Option<Question> {
        self.questions.pop()
    }

    /// The end on which control hears that there are questions: readable means look, its bytes mean
    /// nothing.
    ///
    /// # Errors
    /// Where the descriptor cannot be duplicated.
    pub fn question_bell(&self) -> std::io::Result<UnixStream> {
        self.bell_end.try_clone()
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Stores a new plan and the cells of its servers. It is not announced yet.
    /// Gives back the one before.
    pub fn set_plan(&self, plan: Arc<Plan>) -> Arc<Plan> {
        self.make_rings(&plan);
        self.cells.store(Arc::new(Cells::of(Arc::clone(&plan), Some(&self.cells.load()))));
        if let Some(keys) = seal_keys(&plan) {
            self.seal_keys.store(Arc::new(keys));
        }
        self.plan.swap(plan)
    }

    /// Control calls this after it stored a new part; it also wakes every worker.
    pub fn announce(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
        self.wake_all();
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Phases never go back: a drain that was asked for during the start is not undone by its end.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.wake_all();
    }

    fn wake_all(&self) {
        for post in &self.posts {
            post.mailbox.wake();
        }
    }
}
