//! What passes between threads, and nothing else does. The only file that both planes import.
//!
//! 1. Down: [`Shared`] holds the `Plan` and the parts of `Live`; one epoch tells workers that
//!    something changed, read once a call.
//! 2. Up: one bounded ring of records per worker; full means drop and count.
//! 3. Questions: a bounded queue to control; the answer comes back as a letter, the asking task
//!    waits with its own deadline, the worker never does.
//! 4. Worker to worker: one bounded [`Mailbox`] each; a full one refuses the letter.
//!
//! Not here: a lock, an unbounded queue, a runtime. It does not know what the receiver does.

use crate::base::bound::Bound;
use crate::config::identity::Secret;
use crate::config::keys::KeyRing;
use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::envelope::Era;
use crate::mcp::sealed::SealKeys;
use crate::policy::claims::Claims;
use crate::policy::credential::Cause;
use crate::policy::credential::Credential;
use crate::policy::credential::Needed;
use crate::policy::credential::Trouble;
use crate::policy::external::Ruling;
use crate::policy::external::Unrouted;
use crate::policy::kills::Kills;
use crate::policy::limits::Counters;
use crate::policy::limits::keys::Keys;
use crate::policy::token::TokenKeys;
use crate::route::cells::ServerCells;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::record::Record;
use ahash::HashMap;
use ahash::HashSet;
use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Addresses of upstream names, under `host:port`. A name that does not resolve keeps its old set.
#[derive(Debug, Default)]
pub struct Addresses {
    pub by_name: HashMap<Box<str>, Arc<[SocketAddr]>>,
}

/// What servers offer, by the server's name; of those that nobody needs to know about, and that could not be listed,
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Catalogues {
    pub by_server: HashMap<Arc<str>, Arc<Catalogue>>,
    /// The eras that servers have shown.
    pub eras: HashMap<Arc<str>, Eras>,
    /// Servers that could not be listed the last time: what is known of them may be old. With the cause, where they do not
    /// take what they are shown.
    pub failing: HashMap<Arc<str>, Option<Cause>>,
}

/// Which eras a server speaks: none where nobody has asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eras {
    /// It has answered `server/discover`.
    pub modern: Option<bool>,
    /// It has answered `initialize`.
    pub legacy: Option<bool>,
    /// It has, and without a session: it cannot ask its clients anything in that era.
    pub is_sessionless: bool,
}

impl Eras {
    /// It answers in no way that tells: each client is served in its own.
    pub const NEITHER: Self = Self { modern: Some(false), legacy: Some(false), is_sessionless: false };

    /// The era in which a client is served: its own, unless the server is known to speak only the other. None: it has to
    /// be asked.
    pub const fn way(self, client: Era) -> Option<Era> {
        let (own, other, other_era) = match client {
            Era::Modern => (self.modern, self.legacy, Era::Legacy),
            Era::Legacy => (self.legacy, self.modern, Era::Modern),
        };
        match (own, other) {
            (Some(true), _) | (_, Some(false)) => Some(client),
            (Some(false), Some(true)) => Some(other_era),
            _ => None,
        }
    }

    /// As a configuration pins them.
    pub const fn pinned(choice: EraChoice) -> Self {
        match choice {
            EraChoice::Auto => Self { modern: None, legacy: None, is_sessionless: false },
            EraChoice::Modern => Self { modern: Some(true), legacy: Some(false), is_sessionless: false },
            EraChoice::Legacy => Self { modern: Some(false), legacy: Some(true), is_sessionless: false },
        }
    }

    /// It was listed in this era; in the older one only because it has refused the newer.
    pub const fn learn(&mut self, era: EraChoice) {
        match era {
            EraChoice::Auto => {}
            EraChoice::Modern => self.modern = Some(true),
            EraChoice::Legacy => (self.modern, self.legacy) = (Some(false), Some(true)),
        }
    }

    pub const fn speaks(self, era: Era) -> Option<bool> {
        match era {
            Era::Modern => self.modern,
            Era::Legacy => self.legacy,
        }
    }
}

/// A session of an older revision that the gateway has opened on a server, for one owner. It is closed by control, a
/// while after its last use.
#[derive(Debug)]
pub struct UpstreamSession {
    /// Tells it from those before it that were opened for the same purpose.
    pub number: u64,
    /// As the server calls it; empty: it keeps no sessions.
    pub name: Box<[u8]>,
    /// The revision that was agreed on.
    pub revision: Box<str>,
    /// Which instance it lives on (`sealed_name` of it).
    pub instance: u32,
    /// When it was used last, in nanoseconds of the clock. Written by workers, with each use.
    pub used_ns: AtomicU64,
    /// Until when somebody may come back to a question that was put in it: until then it outlives even the process, as
    /// the sealed state of the question does. The same clock.
    pub kept_until_ns: AtomicU64,
}

/// What a session is opened for. Equal ones share one session; different ones never do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub server: Arc<str>,
    /// Which instances it has by the plan of the call (`Server::place`): one that began before a reload and one that began
    /// after it cannot use each other's.
    pub place: u64,
    /// Whose it is (`mcp::sealed::owner`).
    pub owner: [u8; 16],
    /// Of the client's own session; all zero for a client of the newest revision, which has none.
    pub client: [u8; 8],
    /// What the client can do (`mcp::crossing::Abilities`), as bits.
    pub abilities: u8,
    /// Which of its server's pools it is for, by name; None: the first.
    pub pool: Option<Box<str>>,
}

/// What a worker wants control to remember of a session that the gateway holds by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionNote {
    /// It has ended; control closes the sessions on servers that were opened for it.
    Ended,
    /// Log messages from this level on, of the eight in the order of RFC 5424: 0 is `debug`.
    Level(u8),
    /// It wants to hear of a resource, by its server and the server's own URI; or no more.
    Subscribed(Arc<str>, Arc<str>),
    Unsubscribed(Arc<str>, Arc<str>),
    /// A stream of its begins to hear of changes, or ends: its worker and number.
    Listens(usize, u64),
    Leaves(usize, u64),
}

/// What is known of sessions beside what is sealed in their names, by their numbers. Bounded: the oldest go first.
#[derive(Clone, Debug, Default)]
pub struct SessionNotes {
    pub ended: HashSet<[u8; 8]>,
    pub levels: HashMap<[u8; 8], u8>,
    /// Resources that sessions want to hear of. Another pointer: something changed.
    pub subscriptions: Arc<HashMap<[u8; 8], Subscriptions>>,
    /// Of sessions with several streams the one that tells of changes, by worker and number: no message may come on more
    /// than one (2025-11-25, transports, "Multiple Connections").
    pub tellers: Arc<HashMap<[u8; 8], (usize, u64)>>,
}

/// Resources, by server and the server's own URI.
pub type Subscriptions = Vec<(Arc<str>, Arc<str>)>;

/// What a stream of a client wants to hear of.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    pub servers: Vec<Arc<str>>,
    /// Resources, by server and the server's own URI.
    pub resources: Vec<(Arc<str>, Arc<str>)>,
}

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
            Arc::new(ServerCells::new(&server.traffic, &labels, before))
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
    pub records: ArrayQueue<Record>,
    pub metrics: WorkerMetrics,
    /// Set once by the worker: it accepts nobody any more, and whom it has accepted is counted.
    pub closed: AtomicBool,
}

impl Post {
    /// Hands the record of a call to the writer. Only the worker that owns this post calls it: a full
    /// ring drops the record and counts it in the worker's own counter.
    pub fn hand_up(&self, record: Record) {
        if self.records.push(record).is_err() {
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
                records: ArrayQueue::new(limits::RECORD_RING),
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
        Ok((Arc::new(shared), ends))
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

/// Something that a worker cannot know and control can find out.
#[derive(Debug)]
pub struct Question {
    /// Worker that asked, and its name for the waiting task.
    pub worker: usize,
    pub ticket: u64,
    pub what: Asked,
}

#[derive(Debug)]
pub enum Asked {
    /// The addresses of a name that has none yet, under `host:port`.
    Resolve { host: Box<str>, port: u16, key: Box<str> },
    /// The signing keys of an issuer, because a token names one that is not known.
    TokenKeys { issuer: Box<str>, kid: Box<str> },
    /// What an issuer knows of a token that is no JWT (RFC 7662).
    Introspect { issuer: Box<str>, token: Secret },
    /// Whether a call may pass, as somebody else decides.
    Decide(Box<Inquiry>),
    /// Which pool a call is for, as a hook of `route` says.
    Route(Box<Inquiry>),
    /// What a server offers, because a caller names something that is not known.
    Catalogue { server: Arc<str> },
    /// What each of these offers: answered once every one was listed or could not be, within two seconds. From now on
    /// they are kept listed.
    Catalogues { servers: Box<[Arc<str>]> },
    /// What a server offers a caller that it is shown a credential of: answered within two seconds.
    OwnCatalogue(Box<OwnAsked>),
    /// Whether a server speaks the era of a client; where it does not, whether it speaks the other. `doubted`: what is
    /// known of it has just failed.
    Era { server: Arc<str>, client: Era, doubted: bool },
    /// A session on a server of this plan; `not`: the number of one that the server knows no more.
    Session { key: SessionKey, not: Option<u64>, shown: Option<Arc<Credential>>, plan: Arc<Plan> },
    /// What is to be remembered of a client's session: answered once every worker can know it.
    Note { session: [u8; 8], note: SessionNote },
    /// A stream wants to hear of changes; in place of what it said before. None: it has ended. Answered, if anybody waits,
    /// once the servers are listened to, or cannot be within a second.
    Interest { stream: u64, what: Option<Interest> },
    /// What a server is to be shown of a caller.
    Credential(Box<Needed>),
    /// Somebody comes back from a token service with this query: it holds a code.
    Consent { query: Secret },
}

/// A caller that a server is to be listed for.
#[derive(Debug)]
pub struct OwnAsked {
    pub needed: Needed,
    /// What the server is shown; None: control obtains it.
    pub shown: Option<Arc<Credential>>,
    /// A list that is fresh is asked for again, at most once a second.
    pub anew: bool,
}

/// A call that an external decision point or a hook of `route` is asked about.
#[derive(Debug)]
pub struct Inquiry {
    /// The rule that wants to know.
    pub rule: Box<str>,
    pub url: Box<str>,
    pub timeout_ms: u64,
    /// How long an answer stands for equal questions.
    pub cache_ms: u64,
    /// A JSON object.
    pub input: Box<str>,
}

/// What control has found out.
#[derive(Debug)]
pub enum Answer {
    /// Whether what was asked for is in `Live` now.
    Known(bool),
    /// None: the token is not active, or nobody could be asked.
    Introspected(Option<Box<Claims>>),
    Credential(Result<Arc<Credential>, Box<Trouble>>),
    /// An error is why the server is not listed for this caller; None: it cannot be, or not in time.
    OwnCatalogue(Result<Arc<Catalogue>, Option<Box<Trouble>>>),
    /// An error is what to tell whoever came.
    Consent(Result<(), &'static str>),
    /// None: nobody has answered in time.
    Decided(Option<Ruling>),
    /// The name of a pool, which the server need not have.
    Routed(Result<Box<str>, Unrouted>),
    /// None: the server opens none.
    Session(Option<Arc<UpstreamSession>>),
}

/// What a mailbox carries.
#[derive(Debug)]
pub enum Letter {
    /// The answer to a question of this worker.
    Answered { ticket: u64, answer: Answer },
    /// Another worker asks whether this one still turns; answered by the same letter with `reply: None`.
    Ping { ticket: u64, reply: Option<usize> },
    /// A resource has changed, by its server and the server's own URI.
    Updated { server: Arc<str>, uri: Arc<str> },
    /// A client's answer to a question that a call of this worker has put to it.
    Reply { session: [u8; 8], question: u64, message: Box<[u8]> },
    /// Somebody brings the answer to a question of a call that waits at this worker, and wants to hear what comes of it.
    Listen { number: u64, from: usize, ticket: u64 },
    /// What came of such a call: a message, or none where it is over.
    Said { ticket: u64, message: Option<Box<[u8]>> },
    /// A client wants a call ended that may be one of this worker's: its session, and its id as it was written.
    Cancel { session: [u8; 8], id: Box<[u8]> },
}

/// A bounded queue of letters and a descriptor that wakes its reader.
pub struct Mailbox {
    letters: ArrayQueue<Letter>,
    /// Non-blocking: a full pipe means that the reader is already being woken.
    bell: UnixStream,
}

impl Mailbox {
    /// # Errors
    /// Where no socket pair can be made.
    pub fn new(capacity: usize) -> std::io::Result<(Self, UnixStream)> {
        let (bell, end) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok((Self { letters: ArrayQueue::new(capacity), bell }, end))
    }

    /// # Errors
    /// Gives the letter back where the box is full: the sender decides, nothing is lost unseen.
    pub fn post(&self, letter: Letter) -> Result<(), Letter> {
        self.letters.push(letter)?;
        self.wake();
        Ok(())
    }

    pub fn take(&self) -> Option<Letter> {
        self.letters.pop()
    }

    pub fn wake(&self) {
        // WouldBlock: the reader has unread wake-ups. Any other error: the reader is gone.
        let _ = (&self.bell).write(&[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::io::Read;
    use std::path::Path;
    use std::thread;

    const CONFIG: &str = "listen: 127.0.0.1:0\nmcpServers: {up: {url: \"https://upstream.test/mcp\"}}\n";

    fn plan(workers: usize) -> Plan {
        let mut plan = config::load_text(CONFIG, "test.yaml", Path::new("")).expect("a good config").plan;
        plan.workers = workers;
        plan
    }

    fn shared(workers: usize) -> (Arc<Shared>, Vec<UnixStream>) {
        Shared::new(Arc::new(plan(workers)), KeyRing::default(), Addresses::default(), Keys { seeds: [1, 2] })
            .expect("sockets")
    }

    /// Reads the bell until `done`: how a worker waits.
    fn wait(end: &mut UnixStream, mut done: impl FnMut() -> bool) {
        let mut rings = [0; 64];
        while !done() {
            assert!(end.read(&mut rings).expect("the bell") > 0, "the other side is gone");
        }
    }

    /// Path 1: a plan and its epoch, seen by a worker that only reads.
    #[test]
    fn a_new_plan_wakes_the_worker_and_is_whole() {
        let (shared, mut ends) = shared(1);
        let mut end = ends.remove(0);
        let control = Arc::clone(&shared);
        let worker = thread::spawn(move || {
            let (mut seen, mut plans) = (shared.epoch(), 0);
            while plans < 100 {
                wait(&mut end, || shared.epoch() != seen);
                // The epoch first: a plan that comes after it is announced again.
                seen = shared.epoch();
                let number = shared.plan.load().digest.parse::<u64>().expect("a number");
                assert!(number >= plans, "plans never go back");
                plans = number;
            }
        });
        for number in 1..=100 {
            let mut next = plan(1);
            next.digest = format!("{number}");
            control.plan.store(Arc::new(next));
            control.announce();
        }
        worker.join().expect("no panic");
    }

    #[test]
    fn the_end_of_the_start_does_not_undo_a_drain() {
        let (shared, _ends) = shared(1);
        for (entered, expected) in [
            (Phase::Draining, Phase::Draining),
            (Phase::Serving, Phase::Draining),
            (Phase::Stopping, Phase::Stopping),
            (Phase::Draining, Phase::Stopping),
        ] {
            shared.enter(entered);
            assert_eq!(shared.phase(), expected, "{entered:?}");
        }
    }

    /// Path 2: what does not fit is counted, what fits arrives in order.
    #[test]
    fn records_arrive_in_order_and_losses_are_exact() {
        let (shared, _ends) = shared(1);
        let total = 200_000;
        let worker = Arc::clone(&shared);
        let pushing = thread::spawn(move || {
            for number in 0..total {
                worker.posts[0].hand_up(Record { bytes_in: number, ..Record::default() });
            }
        });
        let (mut taken, mut newest) = (0, None);
        loop {
            let over = pushing.is_finished();
            while let Some(record) = shared.posts[0].records.pop() {
                assert!(newest < Some(record.bytes_in), "in order");
                (taken, newest) = (taken + 1, Some(record.bytes_in));
            }
            if over {
                break;
            }
        }
        pushing.join().expect("no panic");
        assert_eq!(taken + shared.posts[0].metrics.records_lost.read(), total);
    }

    #[test]
    fn a_full_ring_counts_each_record_it_refuses() {
        let (shared, _ends) = shared(1);
        for _ in 0..limits::RECORD_RING + 7 {
            shared.posts[0].hand_up(Record::default());
        }
        let metrics = &shared.posts[0].metrics;
        assert_eq!((metrics.records_lost.read(), metrics.hits(Bound::RecordRing)), (7, 7));
    }

    fn question(ticket: u64) -> Question {
        Question { worker: 0, ticket, what: Asked::Resolve { host: "a".into(), port: 1, key: "a:1".into() } }
    }

    /// Path 3: a question rings control, its answer rings the asker.
    #[test]
    fn every_question_is_answered_to_its_asker() {
        let (shared, mut ends) = shared(1);
        let mut end = ends.remove(0);
        let control = Arc::clone(&shared);
        let mut bell = control.question_bell().expect("a descriptor");
        let answering = thread::spawn(move || {
            bell.set_nonblocking(false).expect("blocking");
            let mut answered = 0;
            while answered < 1_000 {
                let mut next = None;
                wait(&mut bell, || {
                    next = control.next_question();
                    next.is_some()
                });
                let Question { worker, ticket, .. } = next.expect("just seen");
                control.posts[worker]
                    .mailbox
                    .post(Letter::Answered { ticket, answer: Answer::Known(true) })
                    .expect("room");
                answered += 1;
            }
        });
        for ticket in 0..1_000 {
            shared.ask(question(ticket)).expect("room");
            let mut letter = None;
            wait(&mut end, || {
                letter = shared.posts[0].mailbox.take();
                letter.is_some()
            });
            assert!(
                matches!(letter, Some(Letter::Answered { ticket: of, answer: Answer::Known(true) }) if of == ticket)
            );
        }
        answering.join().expect("no panic");
    }

    #[test]
    fn a_full_queue_gives_the_question_back() {
        let (shared, _ends) = shared(1);
        for ticket in 0..limits::QUESTION_RING as u64 {
            shared.ask(question(ticket)).expect("room");
        }
        assert_eq!(shared.ask(question(7_777_777)).expect_err("full").ticket, 7_777_777);
        assert_eq!(shared.next_question().expect("the oldest").ticket, 0);
    }

    /// Path 4: letters between workers, both ways at the same time.
    #[test]
    fn workers_answer_each_others_letters() {
        let (shared, ends) = shared(2);
        let workers: Vec<_> = (0..2_usize)
            .zip(ends)
            .map(|(own, mut end)| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let other = &shared.posts[1 - own].mailbox;
                    let (mut answers, mut served) = (0, 0);
                    other.post(Letter::Ping { ticket: 0, reply: Some(own) }).expect("room");
                    while answers < 1_000 || served < 1_000 {
                        let mut letter = None;
                        wait(&mut end, || {
                            letter = shared.posts[own].mailbox.take();
                            letter.is_some()
                        });
                        match letter {
                            Some(Letter::Ping { ticket, reply: Some(asker) }) => {
                                let answer = Letter::Ping { ticket, reply: None };
                                shared.posts[asker].mailbox.post(answer).expect("room");
                                served += 1;
                            }
                            Some(Letter::Ping { ticket, reply: None }) => {
                                assert_eq!(ticket, answers, "each answer once, in order");
                                answers += 1;
                                if answers < 1_000 {
                                    let next = Letter::Ping { ticket: answers, reply: Some(own) };
                                    other.post(next).expect("room");
                                }
                            }
                            other => panic!("unexpected {other:?}"),
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("no panic");
        }
    }

    #[test]
    fn a_full_mailbox_gives_the_letter_back() {
        let (mailbox, _end) = Mailbox::new(2).expect("sockets");
        for ticket in 0..2 {
            mailbox.post(Letter::Ping { ticket, reply: None }).expect("room");
        }
        let back = mailbox.post(Letter::Ping { ticket: 9, reply: None }).expect_err("full");
        assert!(matches!(back, Letter::Ping { ticket: 9, .. }));
    }

    #[test]
    fn waking_a_reader_that_does_not_read_never_blocks() {
        let (mailbox, _end) = Mailbox::new(1).expect("sockets");
        for _ in 0..100_000 {
            mailbox.wake();
        }
    }
}
