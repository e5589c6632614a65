//! The loop of one core: its connections, its copy of the plan, its pools, its tick.
//!
//! Not here: tokio, locks, blocking calls. Everything in a [`Worker`] belongs to one thread; what others may
//! see is in `handoff::Post`.

pub mod address;
pub mod admit;
pub mod adopted;
pub mod aim;
pub mod allowance;
pub mod aside;
pub mod attempt;
pub mod authenticate;
pub mod body;
pub mod bridge;
pub mod budget;
pub mod callers;
pub mod calls;
pub mod client;
pub mod credential;
pub mod crossing;
pub mod denial;
pub mod dispatch;
pub mod doors;
pub mod exchange;
pub mod handshake;
pub mod hedge;
pub mod http2;
pub mod hub;
pub mod inquiry;
pub mod obstacle;
pub mod outlet;
pub mod outlook;
mod own;
pub mod pages;
pub mod parked;
pub mod passage;
pub mod permit;
pub mod post;
pub mod referral;
pub mod refuse;
pub mod relay;
pub mod replies;
pub mod reply;
pub mod session;
pub mod sight;
pub mod start;
pub mod state;
#[cfg(test)]
mod stub;
mod tasks;
pub mod watch;

use crate::base::buffer::Buffers;
use crate::base::buffer::Sizes;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::keys::KeyRing;
use crate::config::limits;
use crate::config::plan::CallLog;
use crate::handoff;
use crate::handoff::Mailbox;
use crate::handoff::Phase;
use crate::handoff::SessionNotes;
use crate::handoff::Shared;
use crate::mcp::envelope::CallKind;
use crate::mcp::scratch::Scratch;
use crate::net::ring;
use crate::net::ticker::Ticker;
use crate::policy::decide::Asked;
use crate::policy::expression::Patterns;
use crate::policy::identity::Origin;
use crate::policy::kills;
use crate::policy::kills::Kills;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::record::Outcome;
use crate::telemetry::record::Record;
use crate::telemetry::tally::Tally;
use crate::upstream::connect;
use crate::upstream::pool::Instance;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::budget::Budget;
use crate::worker::callers::Callers;
use crate::worker::calls::Calls;
use crate::worker::crossing::held::HeldSessions;
use crate::worker::handshake::Handshakes;
use crate::worker::hub::list::Rendered;
use crate::worker::hub::streams::Streams;
use crate::worker::parked::Parked;
use crate::worker::post::Questions;
use crate::worker::replies::Replies;
use crate::worker::sight::Sightings;
use crate::worker::state::Exchange;
use crate::worker::watch::Subject;
use crate::worker::watch::Watch;
use ahash::RandomState;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::task::Waker;

/// Everything that the tasks of one core share.
pub struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub watch: Watch,
    pub buffers: Rc<Buffers>,
    pub scratch: RefCell<Scratch>,
    pub budget: Budget,
    pub open_questions: Questions,
    pub callers: Callers,
    pub sightings: Sightings,
    pub handshakes: Handshakes,
    pub rendered: Rendered,
    pub held: HeldSessions,
    pub replies: Replies,
    pub calls: Calls,
    pub parked: Parked,
    pub streams: Streams,
    /// What control could not be told yet.
    untold: RefCell<VecDeque<handoff::Asked>>,
    /// The newest notes of sessions that streams have followed.
    notes: RefCell<Arc<SessionNotes>>,
    pub ticker: Ticker,
    /// Patterns that expressions of rules learn at run time.
    pub patterns: RefCell<Patterns>,
    /// Of names, to find the calls that a kill switch is about.
    subjects: RandomState,
    /// Tasks that wait for time to pass.
    pausing: RefCell<Vec<Waker>>,
    adopted: RefCell<Rc<Adopted>>,
    /// The epoch at which `adopted` was made.
    seen: Cell<u64>,
    tally: RefCell<Tally>,
    /// Spent exchanges, so that a call allocates none.
    #[expect(
        clippy::vec_box,
        reason = "taken and given back by pointer: moving 900 bytes twice a call costs more"
    )]
    spare: RefCell<Vec<Box<Exchange>>>,
    /// State of the generator of trace ids.
    trace: Cell<u128>,
    /// The number of the last request of ours.
    requests: Cell<u64>,
    /// The time of the last tick: good to `limits::TICK_MS`, free to read.
    coarse: Cell<Moment>,
    /// Unix time in nanoseconds at `Moment::ZERO`.
    wall_offset_ns: Cell<u64>,
    /// When what may be a little late was done last.
    tidied: Cell<Moment>,
    draining: Cell<bool>,
    /// When control was reminded last of lists that are old.
    reminded: Cell<Moment>,
}

const BUFFERS: Sizes = Sizes {
    small: limits::BUFFER_BYTES,
    large: limits::RELAY_BUFFER_BYTES,
    front: limits::HEADROOM_BYTES,
    back: limits::TAILROOM_BYTES,
};

/// How often an operator is told that a server cannot be reached; what comes between is in the metrics.
const TELL_INTERVAL_NS: u64 = 10_000_000_000;

impl Worker {
    /// # Errors
    /// Where no descriptor is free.
    pub fn new(index: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let seen = shared.epoch();
        let adopted = Adopted::new(&shared, seen, None);
        let mut seed = [0; 16];
        // Trace ids need to differ, not to be secret; a failing random source must not stop a worker.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        let tally = Tally::new(&shared.posts[index].metrics);
        let worker = Self {
            index,
            watch: Watch::new()?,
            buffers: Rc::new(Buffers::new(BUFFERS, limits::POOLED_BUFFERS_MAX)),
            scratch: RefCell::new(Scratch::new()),
            budget: Budget::default(),
            open_questions: Questions::default(),
            callers: Callers::default(),
            sightings: Sightings::default(),
            handshakes: Handshakes::default(),
            rendered: Rendered::default(),
            held: HeldSessions::default(),
            replies: Replies::default(),
            calls: Calls::default(),
            parked: Parked::default(),
            streams: Streams::default(),
            untold: RefCell::default(),
            notes: RefCell::default(),
            adopted: RefCell::new(adopted),
            seen: Cell::new(seen),
            tally: RefCell::new(tally),
            spare: RefCell::default(),
            trace: Cell::new(u128::from_le_bytes(seed) | 1),
            requests: Cell::new(u64::from_le_bytes([seed[0], seed[1], seed[2], seed[3], seed[4], 0, 0, 0])),
            coarse: Cell::new(clock::now()),
            wall_offset_ns: Cell::new(0),
            tidied: Cell::new(Moment::ZERO),
            draining: Cell::new(false),
            reminded: Cell::new(Moment::ZERO),
            pausing: RefCell::default(),
            patterns: RefCell::default(),
            subjects: RandomState::new(),
            ticker: Ticker::new(limits::TICK_MS, limits::IDLE_TICK_MS)?,
            shared,
        };
        worker.set_wall();
        Ok(worker)
    }

    /// The newest plan, made ready for this worker. One comparison where nothing changed.
    pub fn adopt(&self) -> Rc<Adopted> {
        let epoch = self.shared.epoch();
        if epoch != self.seen.get() {
            self.seen.set(epoch);
            let newer = Adopted::new(&self.shared, epoch, Some(&self.adopted.borrow()));
            let before = self.adopted.replace(newer);
            let newest = Rc::clone(&self.adopted.borrow());
            if before.generation != newest.generation {
                self.callers.forget();
                self.sightings.forget();
                self.rendered.forget();
            }
            if !Arc::ptr_eq(&before.kills, &newest.kills) {
                self.cut_killed(&newest.kills);
            }
            if !Arc::ptr_eq(&before.keys, &newest.keys) {
                self.cut_revoked(&newest.keys);
            }
            let notes = self.shared.notes.load_full();
            let noted = self.notes.replace(Arc::clone(&notes));
            let same = Arc::ptr_eq(&before.catalogues, &newest.catalogues)
                && Arc::ptr_eq(&before.plan, &newest.plan)
                && Arc::ptr_eq(&noted.subscriptions, &notes.subscriptions);
            if !same {
                self.streams.wake_all();
            }
        }
        Rc::clone(&self.adopted.borrow())
    }

    /// Ends the calls in flight that a kill switch names.
    fn cut_killed(&self, kills: &Kills) {
        for kill in kills.iter() {
            let name = self.subjects.hash_one(&*kill.name);
            let tool = kill.name.split_once('.').map(|parts| self.subjects.hash_one(parts));
            self.watch.kill(Some(kill.kind), |subject| match kill.kind {
                kills::Kind::All => true,
                kills::Kind::Tenant => subject.tenant == Some(name),
                kills::Kind::Principal => subject.principal == name,
                kills::Kind::Server => subject.server == name,
                kills::Kind::Tool => Some(subject.tool) == tool,
            });
        }
    }

    /// Ends the calls in flight whose API key is gone.
    fn cut_revoked(&self, keys: &KeyRing) {
        let ids: HashSet<u64> =
            keys.by_hash.values().map(|entry| self.subjects.hash_one(&*entry.id)).collect();
        self.watch.kill(None, |subject| subject.key.is_some_and(|key| !ids.contains(&key)));
    }

    /// Whom a call concerns.
    pub fn subject(&self, asked: &Asked<'_>) -> Subject {
        Subject {
            principal: self.subjects.hash_one(&*asked.caller.name),
            tenant: (!asked.caller.tenant.is_empty()).then(|| self.subjects.hash_one(&*asked.caller.tenant)),
            server: self.subjects.hash_one(asked.server),
            tool: self.subjects.hash_one((asked.server, asked.target)),
            key: match &asked.caller.origin {
                Origin::Key(entry) => Some(self.subjects.hash_one(&*entry.id)),
                Origin::Anonymous | Origin::Token { .. } | Origin::Certificate => None,
            },
        }
    }

    pub fn metrics(&self) -> &WorkerMetrics {
        // A worker is made with an index of its own post.
        &self.shared.posts[self.index].metrics
    }

    pub fn mailbox(&self) -> &Mailbox {
        &self.shared.posts[self.index].mailbox
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Does what a new phase asks for.
    pub fn follow_phase(&self) -> Phase {
        let phase = self.shared.phase();
        match phase {
            Phase::Starting | Phase::Serving => {}
            Phase::Draining => {
                self.draining.set(true);
                // A slow tick would hold the drain up.
                self.ticker.pace(false);
                self.watch.drain(clock::now());
                self.streams.wake_all();
            }
            Phase::Stopping => {
                self.draining.set(true);
                self.watch.drain(clock::now());
                self.watch.stop();
            }
        }
        phase
    }

    fn exchange(&self) -> Box<Exchange> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    fn give_back(&self, exchange: Box<Exchange>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < limits::POOLED_BUFFERS_MAX {
            spare.push(exchange);
        }
    }

    /// 16 bytes that differ from call to call and from worker to worker (W3C Trace Context section 3.2.2.3).
    pub fn new_trace_id(&self) -> [u8; 16] {
        // A 128-bit linear congruential step, its high half folded over the low one.
        let state = self
            .trace
            .get()
            .wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645)
            .wrapping_add(0x5851_F42D_4C95_7F2D_1405_7B7E_F767_814F);
        self.trace.set(state);
        (state ^ (state >> 64)).to_be_bytes()
    }

    /// The id of a request of ours on a session that calls share: unique over workers, and over gateways as good as
    /// always.
    pub fn next_request_id(&self) -> u64 {
        // So many bits are exact in every JSON reader.
        const BITS: u32 = 53;
        let number = self.requests.get().wrapping_add(1);
        self.requests.set(number);
        let worker = self.index as u64 & 0xFF;
        ((number << 8) | worker) & ((1 << BITS) - 1)
    }

    /// Bits that differ from call to call; nothing that is guessed at rests on them.
    pub fn random(&self) -> u64 {
        let state = self.trace.get();
        // The state moves with each call's trace id.
        (state >> 64) as u64
    }

    /// The time of the last tick.
    pub fn coarse_now(&self) -> Moment {
        self.coarse.get()
    }

    /// Seconds since the Unix epoch at `now`.
    pub fn wall_seconds(&self, now: Moment) -> u64 {
        self.wall_millis(now) / 1_000
    }

    pub fn wall_millis(&self, now: Moment) -> u64 {
        (self.wall_offset_ns.get() + now.as_nanos()) / 1_000_000
    }

    /// When the wall clock will show this many seconds since the Unix epoch; `u64::MAX` is never.
    pub fn moment_of(&self, unix_seconds: u64) -> Moment {
        match unix_seconds.checked_mul(1_000_000_000) {
            Some(nanos) => Moment::from_nanos(nanos.saturating_sub(self.wall_offset_ns.get())),
            None => Moment::NEVER,
        }
    }

    fn set_wall(&self) {
        // Not in milliseconds: two roundings would move the clock by one, and who waits for a quota as told come early.
        self.wall_offset_ns.set(clock::unix_nanos().saturating_sub(clock::now().as_nanos()));
    }

    /// Counts a finished call and hands its record up.
    fn record(&self, exchange: &mut Exchange) {
        let now = exchange.ended;
        let outcome = outcome(exchange);
        let record = &mut exchange.record;
        record.outcome = outcome;
        if let Some(code) = exchange.facts.error_code {
            record.code = code;
        }
        record.at_unix_ms = self.wall_millis(exchange.begun);
        record.total_ns = now.nanos_since(exchange.begun);
        if exchange.upstream_began != Moment::ZERO {
            record.upstream_ns = now.nanos_since(exchange.upstream_began);
        }
        record.own_ns = record.total_ns.saturating_sub(exchange.waited_ns);
        record.worker = u16::try_from(self.index).unwrap_or(u16::MAX);
        let logged = self.adopted.borrow().plan.call_log != CallLog::Off;
        let hand_up = |record: &Record| {
            if logged {
                self.shared.posts[self.index].hand_up(*record);
            }
        };
        let mut tally = self.tally.borrow_mut();
        // Each call of a batch is one (2025-03-26); what they share is told with the first.
        let mut calls = exchange.batch.iter();
        if let Some(first) = calls.next() {
            record.name(first);
        }
        // Without an answer of others they are empty already.
        let answers = &exchange.answers;
        if !answers.is_empty() {
            record.decisions = inquiry::told(answers, 0);
        }
        tally.observe(self.metrics(), record);
        hand_up(record);
        for (number, call) in (1..).zip(calls) {
            record.name(call);
            if !answers.is_empty() {
                record.decisions = inquiry::told(answers, number);
            }
            (record.bytes_in, record.bytes_out, record.tokens) = (0, 0, None);
            tally.count(self.metrics(), record);
            hand_up(record);
        }
    }

    /// Tells the operator why a server cannot be reached, at most once in a while for each instance.
    pub fn tell_failure(&self, server: &ServerState, instance: &Instance, error: &io::Error, now: Moment) {
        let last = instance.told.get();
        if last != Moment::ZERO && now.nanos_since(last) < TELL_INTERVAL_NS {
            return;
        }
        instance.told.set(now);
        tracing::warn!(
            server = &*server.config().name,
            instance = &*instance.endpoint.label,
            "cannot connect: {error}; {}",
            connect::cure(error)
        );
    }

    /// A connection came: the clock ticks fast again, and deadlines count from now and not from a slow tick.
    pub fn wake_up(&self) {
        self.coarse.set(clock::now());
        self.ticker.pace(false);
    }

    /// Whether control may be reminded of lists that are old: now and then is enough.
    pub fn may_remind(&self, now: Moment) -> bool {
        let may = now >= self.reminded.get().plus_millis(limits::REMINDER_MS);
        if may {
            self.reminded.set(now);
        }
        may
    }

    /// Waits for at least `millis`, in steps of a tick.
    pub async fn pause(&self, millis: u64) {
        let until = self.coarse_now().plus_millis(millis);
        std::future::poll_fn(|cx| {
            if self.coarse_now() >= until {
                return Poll::Ready(());
            }
            self.pausing.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What is done once a tick.
    fn tick(&self) {
        let now = clock::now();
        self.coarse.set(now);
        self.pausing.borrow_mut().drain(..).for_each(Waker::wake);
        self.watch.tick(now);
        ring::tick();
        self.metrics().heartbeat.add(1);
        // Every second: what may be a little late.
        if now.nanos_since(self.tidied.get()) >= 1_000_000_000 {
            self.tidied.set(now);
            self.tell_again();
            self.set_wall();
            self.buffers.trim();
            let (mut used, mut idle) = (0, 0);
            for instance in self.adopted.borrow().servers.iter().flat_map(|server| &server.instances) {
                instance.trim(now);
                let counts = instance.counts();
                used += counts.0;
                idle += counts.1;
            }
            self.metrics().upstream_connections.set((used + idle) as u64);
            self.metrics().upstream_idle.set(idle as u64);
            self.metrics().buffered_body_bytes.set(self.budget.used() as u64);
        }
    }
}

/// What became of a call, from what its stages left behind.
fn outcome(exchange: &Exchange) -> Outcome {
    use crate::base::fault::Kind;
    if let Some(fault) = exchange.fault {
        return match fault.kind {
            Kind::ClientGone => Outcome::Cancelled,
            _ if exchange.answered => Outcome::Cut,
            Kind::UpstreamUnavailable if exchange.was_kept_away() => Outcome::Refused,
            Kind::UpstreamUnavailable
            | Kind::UpstreamTimeout
            | Kind::UpstreamProtocol
            | Kind::UpstreamUnauthorized => Outcome::UpstreamFailed,
            _ => Outcome::Refused,
        };
    }
    let facts = &exchange.facts;
    let notification = exchange.call.is_none_or(|call| call.kind != CallKind::Request);
    match exchange.record.status {
        _ if facts.error_code.is_some() => Outcome::RpcError,
        _ if facts.is_error => Outcome::ToolError,
        200..300 => Outcome::Ok,
        405 if notification => Outcome::Ok,
        _ => Outcome::HttpError,
    }
}
