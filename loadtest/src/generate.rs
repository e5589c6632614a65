//! One thread of the load generator: its connections, and the life of a call on them.
//! Not here: when calls are due (`schedule`), what they say (`mcp`), how results are told (`report`).

use std::collections::VecDeque;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;

use crate::completion::Completion;
use crate::completion::Received;
use crate::http;
use crate::http::Kind;
use crate::http::Message;
use crate::http::Reader;
use crate::json;
use crate::mcp;
use crate::mcp::Era;
use crate::mcp::Shape;
use crate::mcp::Target;
use crate::mcp::Wrong;
use crate::report::Counts;
use crate::ring;
use crate::ring::Ring;
use crate::schedule::Schedule;

/// What a thread does.
pub(crate) struct Job {
    pub(crate) target: Target,
    pub(crate) shape: Shape,
    pub(crate) connections: usize,
    pub(crate) schedule: Schedule,
    /// Nanoseconds after which a call without an answer is an error.
    pub(crate) timeout: u64,
    /// The answer must have this many bytes.
    pub(crate) answer: Option<usize>,
    /// The first call's id.
    pub(crate) first_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No socket.
    Closed,
    Initialize,
    /// `initialize` is answered.
    Greeted,
    Initialized,
    /// The handshake is done.
    Ready,
    /// In the queue of free connections.
    Free,
    Call,
    /// The call is answered.
    Answered,
    /// The socket ends once nothing is in flight.
    Closing,
}

struct Connection {
    phase: Phase,
    receiving: bool,
    sending: bool,
    reader: Reader,
    /// The request, while it is not being sent.
    request: Vec<u8>,
    ids: Vec<usize>,
    id: u64,
    due: u64,
    /// When the call left, for its time-out.
    left: u64,
    /// Bytes of an event stream's body that were looked at, events seen, the answer's verdict.
    seen: usize,
    events: u64,
    verdict: Option<Result<(), Wrong>>,
    session: Option<String>,
    /// Not before this time is it opened again.
    retry: u64,
}

pub(crate) struct Generator<'a> {
    job: Job,
    ring: Ring,
    connections: Vec<Connection>,
    free: VecDeque<u32>,
    counts: Counts,
    next_id: u64,
    outstanding: usize,
    live: &'a AtomicU64,
}

const RETRY: u64 = 50_000_000;
const CHECK_TIMEOUTS: u64 = 100_000_000;

/// Runs `job` to its end; `live` counts answers as they come.
///
/// # Errors
/// io_uring refused, or not one connection could be made.
pub(crate) fn generate(job: Job, live: &AtomicU64) -> anyhow::Result<Counts> {
    let count = u32::try_from(job.connections).context("too many connections")?;
    ring::raise_open_files();
    ring::precise_timers();
    let ring = Ring::new(ring::Size { sockets: count, buffers: 256, buffer_bytes: 16 * 1024 })
        .context("cannot make the generator's ring")?;
    let next_id = job.first_id;
    let connections = (0..count).map(|_| Connection::new()).collect();
    let counts = Counts::new()?;
    let mut generator =
        Generator { job, ring, connections, free: VecDeque::new(), counts, next_id, outstanding: 0, live };
    for slot in 0..count {
        generator
            .open(slot)
            .with_context(|| format!("cannot connect to {}", generator.job.target.address))?;
    }
    generator.job.schedule.connected(ring::monotonic_nanos());
    generator.counts.started = generator.job.schedule.start();
    generator.run()?;
    Ok(generator.counts)
}

impl Connection {
    fn new() -> Self {
        Self {
            phase: Phase::Closed,
            receiving: false,
            sending: false,
            reader: Reader::new(Kind::Answer),
            request: Vec::new(),
            ids: Vec::new(),
            id: 0,
            due: 0,
            left: 0,
            seen: 0,
            events: 0,
            verdict: None,
            session: None,
            retry: 0,
        }
    }

    fn load(&mut self, request: mcp::Request) {
        (self.request, self.ids) = request.into_parts();
    }
}

impl Generator<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut check_at = 0;
        loop {
            let now = ring::monotonic_nanos();
            self.dispatch(now);
            if now >= check_at {
                check_at = now + CHECK_TIMEOUTS;
                self.check_all(now);
            }
            let next = self.job.schedule.next_due(now);
            if ring::stopped() || (next.is_none() && self.outstanding == 0) {
                break;
            }
            let wake = match next {
                Some(due) if self.job.schedule.is_open_loop() && !self.free.is_empty() => due.min(check_at),
                _ => check_at,
            };
            self.ring.wait(Some(Duration::from_nanos(wake.saturating_sub(now).max(1))))?;
            while let Some(completion) = self.ring.next() {
                self.completed(completion);
            }
        }
        let unsent = self.job.schedule.unsent();
        self.counts.error("not sent", unsent);
        self.wind_down()
    }

    /// Closes all connections, so that nothing is in flight when the ring goes.
    fn wind_down(&mut self) -> anyhow::Result<()> {
        let slots = u32::try_from(self.connections.len()).unwrap_or(u32::MAX);
        for slot in 0..slots {
            self.close(slot);
        }
        let until = ring::monotonic_nanos() + 2_000_000_000;
        while self.connections.iter().any(|connection| connection.phase == Phase::Closing)
            && ring::monotonic_nanos() < until
        {
            self.ring.wait(Some(Duration::from_millis(100)))?;
            while let Some(completion) = self.ring.next() {
                self.completed(completion);
            }
        }
        Ok(())
    }

    fn at(&mut self, slot: u32) -> &mut Connection {
        &mut self.connections[slot as usize]
    }

    fn open(&mut self, slot: u32) -> std::io::Result<()> {
        let socket = TcpStream::connect_timeout(&self.job.target.address, Duration::from_secs(2))?;
        self.ring.adopt(slot, socket)?;
        let target = &self.job.target;
        let request = match self.job.shape.era {
            Era::Modern => mcp::call(target, &self.job.shape, None),
            Era::Legacy => mcp::initialize(target),
        };
        let connection = &mut self.connections[slot as usize];
        connection.reader = Reader::new(Kind::Answer);
        connection.session = None;
        connection.receiving = true;
        if connection.request.is_empty() || self.job.shape.era == Era::Legacy {
            connection.load(request);
        }
        self.ring.receive(slot);
        match self.job.shape.era {
            Era::Modern => self.set_free(slot),
            Era::Legacy => {
                self.next_id += 1;
                self.at(slot).id = self.next_id;
                self.send(slot, Phase::Initialize);
            }
        }
        Ok(())
    }

    fn set_free(&mut self, slot: u32) {
        self.at(slot).phase = Phase::Free;
        self.free.push_back(slot);
    }

    /// Sends the loaded request with the connection's id.
    fn send(&mut self, slot: u32, phase: Phase) {
        let connection = &mut self.connections[slot as usize];
        connection.phase = phase;
        connection.sending = true;
        let mut bytes = std::mem::take(&mut connection.request);
        mcp::Request::set_id(&mut bytes, &connection.ids, connection.id);
        self.counts.bytes_sent += bytes.len() as u64;
        self.ring.send_bytes(slot, bytes, 0);
    }

    /// Gives due calls to free connections.
    fn dispatch(&mut self, now: u64) {
        while !self.free.is_empty() {
            let Some(due) = self.job.schedule.take(now) else { return };
            if let Some(slot) = self.free.pop_front() {
                self.start_call(slot, due, now);
            }
        }
    }

    fn start_call(&mut self, slot: u32, due: u64, now: u64) {
        self.next_id += 1;
        let id = self.next_id;
        let connection = self.at(slot);
        connection.id = id;
        connection.due = due;
        connection.left = now;
        connection.seen = 0;
        connection.events = 0;
        connection.verdict = None;
        self.outstanding += 1;
        self.send(slot, Phase::Call);
    }

    fn completed(&mut self, completion: Completion) {
        match completion {
            Completion::Received { slot, received: Received::Bytes(lease), armed } => {
                self.at(slot).receiving = armed;
                self.counts.bytes_received += lease.len() as u64;
                self.bytes(slot, &lease);
                self.ring.give_back(lease);
                if !armed {
                    self.receive(slot);
                }
                self.settle(slot);
            }
            Completion::Received { slot, received, .. } => {
                self.at(slot).receiving = false;
                match received {
                    Received::NoBuffers => self.receive(slot),
                    _ => self.ended(slot),
                }
                self.settle(slot);
            }
            Completion::SentBytes { slot, bytes, result } => self.sent(slot, bytes, result.unwrap_or(0)),
            Completion::Accepted(_) | Completion::SentLease { .. } | Completion::Internal => {}
        }
    }

    fn receive(&mut self, slot: u32) {
        let connection = self.at(slot);
        if !matches!(connection.phase, Phase::Closed | Phase::Closing) && !connection.receiving {
            connection.receiving = true;
            self.ring.receive(slot);
        }
    }

    fn sent(&mut self, slot: u32, bytes: Vec<u8>, count: usize) {
        let whole = count >= bytes.len();
        let connection = self.at(slot);
        connection.request = bytes;
        connection.sending = false;
        if !whole {
            // MSG_WAITALL: a short send means that the connection is broken.
            self.fail(slot, "send failed");
        }
        self.settle(slot);
    }

    /// Bytes of an answer.
    fn bytes(&mut self, slot: u32, lease: &ring::Lease) {
        let connection = &mut self.connections[slot as usize];
        let bytes = self.ring.bytes(lease);
        let mut events = 0;
        let fed = connection.reader.feed(bytes);
        let message = match fed {
            Ok(Some(message)) => {
                let outcome = judge(&message, connection.id, connection.seen, &mut events, self.job.answer);
                let session = message.head.session.clone();
                Some((message.head.status, message.head.closes, outcome, session))
            }
            Ok(None) => None,
            Err(_) => {
                self.fail(slot, "broken answer");
                return;
            }
        };
        if let Some((status, closes, outcome, session)) = message {
            self.count_events(slot, events);
            self.answered(slot, status, outcome, session);
            if closes {
                self.close(slot);
            }
            return;
        }
        self.partial(slot);
    }

    /// Looks at the events of a stream that goes on.
    fn partial(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let (id, answer) = (connection.id, self.job.answer);
        let Some((head, body)) = connection.reader.partial() else { return };
        if !head.event_stream {
            return;
        }
        let now = ring::monotonic_nanos();
        let (mut events, mut verdict) = (0, None);
        let lag = &mut self.counts.event_lag;
        let seen = http::events(body, connection.seen, |data| match written_at(data) {
            Some(at) => {
                events += 1;
                let _ = lag.record(now.saturating_sub(at));
            }
            None => verdict = Some(mcp::check_answer(data, id, answer)),
        });
        connection.seen = seen;
        if verdict.is_some() {
            connection.verdict = verdict;
        }
        self.count_events(slot, events);
    }

    fn count_events(&mut self, slot: u32, events: u64) {
        if events == 0 {
            return;
        }
        let connection = &mut self.connections[slot as usize];
        if connection.events == 0 {
            let _ = self.counts.first_event.record(ring::monotonic_nanos().saturating_sub(connection.due));
        }
        connection.events += events;
        self.counts.events += events;
        self.counts.joined_events += events - 1;
    }

    fn answered(
        &mut self,
        slot: u32,
        status: u16,
        outcome: Option<Result<(), Wrong>>,
        session: Option<String>,
    ) {
        let now = ring::monotonic_nanos();
        let connection = &mut self.connections[slot as usize];
        match connection.phase {
            Phase::Initialize if status == 200 => {
                connection.session = session;
                connection.phase = Phase::Greeted;
            }
            Phase::Initialized if status == 202 => connection.phase = Phase::Ready,
            Phase::Initialize | Phase::Initialized => self.fail(slot, "handshake refused"),
            Phase::Call => {
                let outcome = outcome.or(connection.verdict).unwrap_or(Err(Wrong::Malformed));
                let events = connection.events;
                let (due, right) = (connection.due, events == u64::from(self.job.shape.events));
                self.outstanding -= 1;
                self.live.fetch_add(1, Ordering::Relaxed);
                match (status, outcome) {
                    (200, Ok(())) if right => {
                        self.counts.calls += 1;
                        let _ = self.counts.latency.record(now.saturating_sub(due));
                    }
                    (200, Ok(())) => self.counts.error("events missing", 1),
                    (200, Err(Wrong::Error)) => self.counts.error("JSON-RPC error", 1),
                    (200, Err(Wrong::Id)) => self.counts.error("wrong id", 1),
                    (200, Err(Wrong::Length)) => self.counts.error("wrong length", 1),
                    (200, Err(Wrong::Malformed)) => self.counts.error("malformed answer", 1),
                    (400..500, _) => self.counts.error("status 4xx", 1),
                    (500.., _) => self.counts.error("status 5xx", 1),
                    _ => self.counts.error("other status", 1),
                }
                self.at(slot).phase = Phase::Answered;
            }
            _ => self.fail(slot, "answer without a call"),
        }
    }

    /// The connection is free: the next call that is due, or it waits its turn.
    fn next_call(&mut self, slot: u32) {
        let now = ring::monotonic_nanos();
        match if self.free.is_empty() { self.job.schedule.take(now) } else { None } {
            Some(due) => self.start_call(slot, due, now),
            None => self.set_free(slot),
        }
    }

    /// What waits until its send has handed the request back goes on.
    fn settle(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.sending {
            return;
        }
        match connection.phase {
            Phase::Greeted => {
                connection.load(mcp::initialized(&self.job.target, connection.session.as_deref()));
                self.send(slot, Phase::Initialized);
            }
            Phase::Ready => {
                connection.load(mcp::call(&self.job.target, &self.job.shape, connection.session.as_deref()));
                self.next_call(slot);
            }
            Phase::Answered => self.next_call(slot),
            Phase::Closing if !connection.receiving => {
                connection.phase = Phase::Closed;
                connection.retry = ring::monotonic_nanos() + RETRY;
                self.ring.release(slot);
            }
            _ => {}
        }
    }

    /// The peer ended the connection.
    fn ended(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.phase == Phase::Call
            && let Some(message) = connection.reader.end()
        {
            let mut events = 0;
            let outcome = judge(&message, connection.id, connection.seen, &mut events, self.job.answer);
            let status = message.head.status;
            self.answered(slot, status, outcome, None);
        }
        self.fail(slot, "connection closed");
    }

    /// The call in flight failed; the connection is of no more use.
    fn fail(&mut self, slot: u32, why: &'static str) {
        match self.at(slot).phase {
            Phase::Call => {
                self.outstanding -= 1;
                self.live.fetch_add(1, Ordering::Relaxed);
                self.counts.error(why, 1);
            }
            Phase::Initialize | Phase::Greeted | Phase::Initialized | Phase::Ready => {
                self.counts.error("handshake failed", 1);
            }
            Phase::Free | Phase::Answered | Phase::Closing | Phase::Closed => {}
        }
        self.close(slot);
    }

    fn close(&mut self, slot: u32) {
        let connection = self.at(slot);
        if matches!(connection.phase, Phase::Closed | Phase::Closing) {
            return;
        }
        connection.phase = Phase::Closing;
        self.free.retain(|&free| free != slot);
        self.ring.shutdown(slot, Shutdown::Both);
        self.settle(slot);
    }

    /// Calls that take too long fail, closed connections are opened again.
    fn check_all(&mut self, now: u64) {
        let more = self.job.schedule.next_due(now).is_some();
        for slot in 0..u32::try_from(self.connections.len()).unwrap_or(u32::MAX) {
            let connection = &self.connections[slot as usize];
            let late = now.saturating_sub(connection.left) > self.job.timeout;
            match connection.phase {
                Phase::Call if late => self.fail(slot, "timed out"),
                Phase::Closed if more && now >= connection.retry => {
                    self.counts.reconnects += 1;
                    if self.open(slot).is_err() {
                        self.counts.error("connect failed", 1);
                        self.at(slot).retry = now + RETRY * 4;
                    }
                }
                _ => {}
            }
        }
    }
}

/// The verdict on a complete message: of its body, or of the last event that is an answer.
fn judge(
    message: &Message<'_>,
    id: u64,
    seen: usize,
    events: &mut u64,
    length: Option<usize>,
) -> Option<Result<(), Wrong>> {
    if !message.head.event_stream {
        return Some(mcp::check_answer(message.body, id, length));
    }
    let mut verdict = None;
    http::events(message.body, seen, |data| match written_at(data) {
        Some(_) => *events += 1,
        None => verdict = Some(mcp::check_answer(data, id, length)),
    });
    verdict
}

/// When the mock upstream wrote this progress event; `None` if it is none.
fn written_at(event: &[u8]) -> Option<u64> {
    if json::member(event, "method") != Some(b"\"notifications/progress\"") {
        return None;
    }
    let params = json::member(event, "params")?;
    Some(json::member(params, "message").and_then(json::number).unwrap_or(u64::MAX))
}
