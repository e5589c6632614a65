//! `Watch`: every deadline of a worker and every client that may leave, looked at once a tick.
//!
//! A connection holds one slot and says in which phase it is and until when that may last: one store, no
//! timer. A slot that is over its time gets its cause written down and its socket shut down, which ends the
//! read or wait in flight; the task then finds the cause. Clients of calls that last longer than a tick are
//! put into one epoll set, so that a departure is seen without a read being posted for it.
//!
//! Not here: what a cause means for the answer (that is `exchange`). Time is an argument.

use crate::base::clock::Moment;
use crate::base::sys;
use crate::base::sys::Direction;
use crate::base::sys::HangUps;
use crate::policy::kills::Kind;
use slab::Slab;
use std::cell::Cell;
use std::cell::RefCell;
use std::os::fd::RawFd;
use std::task::Waker;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A TLS handshake.
    Handshake,
    /// The next request; nothing of it has come.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// Something that is not a socket: room in the budget, an answer of control.
    Room,
    /// A connection to the upstream.
    Connect,
    /// The upstream: to take the request, to begin its answer.
    FirstByte,
    /// The upstream: to go on with its answer.
    Relay,
    /// The client: to take what it was sent.
    Client,
    /// The rest of what a client sends on a connection that is being closed.
    Linger,
    /// Something of an HTTP/2 connection, whose socket other streams use too: the waiting task is told that the
    /// time is over, or that a drain has begun, and does what follows.
    Shared,
}

impl Phase {
    /// Whether the request is whole and the client only waits: its departure must be noticed.
    const fn client_waits(self) -> bool {
        matches!(self, Self::Room | Self::Connect | Self::FirstByte | Self::Relay)
    }
}

/// Why a wait was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    ClientIdle,
    HeadTimeout,
    BodyTimeout,
    RoomTimeout,
    ConnectTimeout,
    FirstByteTimeout,
    RelayTimeout,
    TotalTimeout,
    ClientStalled,
    ClientLeft,
    /// A kill switch of this kind names the call; none: its key was revoked.
    Killed(Option<Kind>),
    /// The drain limit has passed.
    Stopping,
}

const NONE: RawFd = -1;

/// Whom a call concerns, as hashes: what a kill switch or a revocation finds it by. Zero names nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub principal: u64,
    /// None: there is one tenant, and it has no name.
    pub tenant: Option<u64>,
    pub server: u64,
    /// Of `server.tool`.
    pub tool: u64,
    /// The id of the API key that it was let in by. None: by something else.
    pub key: Option<u64>,
}

struct Slot {
    client: RawFd,
    upstream: RawFd,
    phase: Phase,
    since: Moment,
    deadline: Moment,
    /// Ends the call whatever its phase.
    total: Moment,
    /// When the waiting task wants to be woken without anything having come.
    nudge_at: Moment,
    nudged: bool,
    waker: Option<Waker>,
    cause: Option<Cause>,
    /// Whether the call was already waiting at the last tick: only then is its client worth watching, which
    /// most calls never are.
    waited: bool,
    /// Whether `client` is in the epoll set.
    watched: bool,
    /// Whether the waiting task was told of a drain.
    told: bool,
    client_left: bool,
    /// Revision 2026-07-28: a closed connection is a cancelled call. Older ones: it is not.
    leaving_cancels: bool,
    /// None between calls.
    subject: Option<Subject>,
}

/// All slots of one worker.
pub struct Watch {
    slots: RefCell<Slab<Slot>>,
    hang_ups: RefCell<HangUps>,
    /// When a drain began.
    draining: Cell<Option<Moment>>,
}

/// How long a connection that is idle when a drain begins may still bring a request: a client that is about
/// to send one gets an answer with `Connection: close` instead of a reset.
const DRAIN_IDLE_MS: u64 = 1_000;

impl Watch {
    /// # Errors
    /// Where no descriptor is free.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            slots: RefCell::default(),
            hang_ups: RefCell::new(HangUps::new()?),
            draining: Cell::new(None),
        })
    }

    /// A slot for a client connection.
    pub fn register(&self, client: RawFd, now: Moment, deadline: Moment) -> usize {
        self.slots.borrow_mut().insert(Slot {
            client,
            upstream: NONE,
            phase: Phase::Idle,
            since: now,
            deadline,
            total: Moment::NEVER,
            nudge_at: Moment::NEVER,
            nudged: false,
            waker: None,
            cause: None,
            waited: false,
            watched: false,
            told: false,
            client_left: false,
            leaving_cancels: true,
            subject: None,
        })
    }

    /// Before the client's socket is closed.
    pub fn remove(&self, key: usize) {
        self.end_call(key);
        self.slots.borrow_mut().try_remove(key);
    }

    fn with<R>(&self, key: usize, f: impl FnOnce(&mut Slot) -> R) -> Option<R> {
        self.slots.borrow_mut().get_mut(key).map(f)
    }

    pub fn enter(&self, key: usize, phase: Phase, now: Moment, deadline: Moment) {
        self.with(key, |slot| {
            slot.phase = phase;
            slot.since = now;
            slot.deadline = deadline;
        });
    }

    /// The request is whole: how long the call may last, and whether leaving cancels it.
    pub fn begin_call(&self, key: usize, total: Moment, leaving_cancels: bool) {
        self.with(key, |slot| {
            slot.total = total;
            slot.leaving_cancels = leaving_cancels;
        });
    }

    /// The call was let in: a kill of its subject ends it from now on.
    pub fn concerns(&self, key: usize, subject: Subject) {
        self.with(key, |slot| slot.subject = Some(subject));
    }

    /// Ends the phase of a connection before its time.
    pub fn end(&self, key: usize, cause: Cause) {
        self.with(key, |slot| slot.end(cause, Direction::Both));
    }

    /// Ends every call whose subject is killed, by a switch of that kind or else with its key.
    pub fn kill(&self, kind: Option<Kind>, is_killed: impl Fn(&Subject) -> bool) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if slot.cause.is_none() && slot.subject.as_ref().is_some_and(&is_killed) {
                slot.end(Cause::Killed(kind), Direction::Both);
            }
        }
    }

    /// The descriptor to shut down when the upstream takes too long; none between calls.
    pub fn upstream(&self, key: usize, fd: Option<RawFd>) {
        self.with(key, |slot| slot.upstream = fd.unwrap_or(NONE));
    }

    /// The call is over; the next one starts with nothing of it.
    pub fn end_call(&self, key: usize) {
        let watched = self.with(key, |slot| {
            slot.upstream = NONE;
            slot.total = Moment::NEVER;
            slot.nudge_at = Moment::NEVER;
            slot.nudged = false;
            slot.waker = None;
            slot.cause = None;
            slot.client_left = false;
            slot.waited = false;
            slot.subject = None;
            std::mem::take(&mut slot.watched).then_some(slot.client)
        });
        if let Some(Some(client)) = watched {
            self.hang_ups.borrow().forget(client);
        }
    }

    pub fn cause(&self, key: usize) -> Option<Cause> {
        self.with(key, |slot| slot.cause).flatten()
    }

    /// Forgets that a time was over: what comes next has its own, such as a connection to the next instance.
    pub fn forgive(&self, key: usize) {
        self.with(key, |slot| slot.cause = None);
    }

    pub fn client_left(&self, key: usize) -> bool {
        self.with(key, |slot| slot.client_left).unwrap_or(true)
    }

    /// Waits until `nudge_at` (see [`Self::nudge_at`]) or the end of the phase.
    pub fn poll_nudge(&self, key: usize, waker: &Waker) -> bool {
        self.with(key, |slot| {
            let nudged = std::mem::take(&mut slot.nudged) || slot.cause.is_some();
            if !nudged && !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                slot.waker = Some(waker.clone());
            }
            nudged
        })
        .unwrap_or(true)
    }

    /// Waits for the end of the phase alone.
    pub fn poll_over(&self, key: usize, waker: &Waker) -> bool {
        self.with(key, |slot| {
            slot.waker = Some(waker.clone());
            slot.cause.is_some()
        })
        .unwrap_or(true)
    }

    pub fn nudge_at(&self, key: usize, at: Moment) {
        self.with(key, |slot| slot.nudge_at = at);
    }

    /// A drain begins, if none has: who is idle now has a moment to bring a last request.
    pub fn drain(&self, now: Moment) {
        self.draining.set(Some(self.draining.get().unwrap_or(now)));
    }

    /// Cuts everything that is still open.
    pub fn stop(&self) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            slot.end(Cause::Stopping, Direction::Both);
        }
    }

    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at every deadline and every watched client.
    pub fn tick(&self, now: Moment) {
        let mut slots = self.slots.borrow_mut();
        let mut hang_ups = self.hang_ups.borrow_mut();
        let draining = self.draining.get();
        for (key, slot) in slots.iter_mut() {
            slot.tick(now, draining);
            if slot.phase.client_waits() && !slot.watched && !slot.client_left {
                if slot.waited {
                    slot.watched = hang_ups.watch(slot.client, key as u64).is_ok();
                }
                slot.waited = true;
            }
        }
        hang_ups.look(|token| {
            let Some(slot) = usize::try_from(token).ok().and_then(|key| slots.get_mut(key)) else { return };
            slot.client_left = true;
            if slot.leaving_cancels {
                slot.end(Cause::ClientLeft, Direction::Both);
            }
        });
    }
}

impl Slot {
    fn tick(&mut self, now: Moment, draining: Option<Moment>) {
        if self.cause.is_some() {
            return;
        }
        if now >= self.nudge_at {
            self.nudge_at = Moment::NEVER;
            self.nudge();
        }
        if self.phase == Phase::Shared && draining.is_some() && !std::mem::replace(&mut self.told, true) {
            self.nudge();
        }
        let idle_in_drain = self.phase == Phase::Idle
            && draining.is_some_and(|began| now >= began.max(self.since).plus_millis(DRAIN_IDLE_MS));
        if now >= self.total {
            self.end(Cause::TotalTimeout, Direction::Both);
        } else if now >= self.deadline || idle_in_drain {
            match self.phase {
                Phase::Idle | Phase::Linger => self.end(Cause::ClientIdle, Direction::Both),
                Phase::Handshake => self.end(Cause::HeadTimeout, Direction::Both),
                Phase::Head => self.end(Cause::HeadTimeout, Direction::Read),
                Phase::Body => self.end(Cause::BodyTimeout, Direction::Read),
                Phase::Room => self.end(Cause::RoomTimeout, Direction::Both),
                Phase::Connect => self.end(Cause::ConnectTimeout, Direction::Both),
                Phase::FirstByte => self.end(Cause::FirstByteTimeout, Direction::Both),
                Phase::Relay => self.end(Cause::RelayTimeout, Direction::Both),
                Phase::Client => self.end(Cause::ClientStalled, Direction::Both),
                Phase::Shared => self.end(Cause::ClientIdle, Direction::Both),
            }
        }
    }

    /// Writes down the cause and ends the wait in flight.
    fn end(&mut self, cause: Cause, how: Direction) {
        // A connection that was not made in time does not end the call; what comes after it does.
        if matches!(self.cause, None | Some(Cause::ConnectTimeout)) {
            self.cause = Some(cause);
        }
        match self.phase {
            Phase::Shared if cause != Cause::Stopping => {}
            Phase::Handshake | Phase::Idle | Phase::Head | Phase::Body | Phase::Linger | Phase::Shared => {
                sys::shut(self.client, how);
            }
            Phase::Client => {
                sys::abort(self.client);
                self.shut_upstream();
            }
            Phase::Room | Phase::Connect | Phase::FirstByte | Phase::Relay => self.shut_upstream(),
        }
        self.nudge();
    }

    fn shut_upstream(&self) {
        if self.upstream != NONE {
            sys::shut(self.upstream, Direction::Both);
        }
    }

    fn nudge(&mut self) {
        self.nudged = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    struct Bench {
        watch: Watch,
        key: usize,
        client: UnixStream,
        peer: UnixStream,
        upstream: UnixStream,
        _server: UnixStream,
    }

    fn bench() -> Bench {
        let watch = Watch::new().unwrap();
        let (client, peer) = UnixStream::pair().unwrap();
        let (upstream, server) = UnixStream::pair().unwrap();
        let key = watch.register(client.as_raw_fd(), at(0), at(100));
        Bench { watch, key, client, peer, upstream, _server: server }
    }

    #[test]
    fn each_phase_ends_with_its_own_cause_and_not_before() {
        let table = [
            (Phase::Idle, Cause::ClientIdle),
            (Phase::Handshake, Cause::HeadTimeout),
            (Phase::Head, Cause::HeadTimeout),
            (Phase::Body, Cause::BodyTimeout),
            (Phase::Room, Cause::RoomTimeout),
            (Phase::Connect, Cause::ConnectTimeout),
            (Phase::FirstByte, Cause::FirstByteTimeout),
            (Phase::Relay, Cause::RelayTimeout),
            (Phase::Client, Cause::ClientStalled),
            (Phase::Linger, Cause::ClientIdle),
            (Phase::Shared, Cause::ClientIdle),
        ];
        for (phase, cause) in table {
            let b = bench();
            b.watch.upstream(b.key, Some(b.upstream.as_raw_fd()));
            b.watch.enter(b.key, phase, at(0), at(50));
            b.watch.tick(at(49));
            assert_eq!(b.watch.cause(b.key), None, "{phase:?}");
            b.watch.tick(at(50));
            assert_eq!(b.watch.cause(b.key), Some(cause), "{phase:?}");
        }
    }

    #[test]
    fn a_client_that_left_cancels_a_modern_call_within_three_ticks() {
        let b = bench();
        b.watch.upstream(b.key, Some(b.upstream.as_raw_fd()));
        b.watch.begin_call(b.key, Moment::NEVER, true);
        b.watch.enter(b.key, Phase::FirstByte, at(0), Moment::NEVER);
        drop(b.peer);
        b.watch.tick(at(10));
        b.watch.tick(at(20));
        assert_eq!(b.watch.cause(b.key), Some(Cause::ClientLeft));
        assert_eq!(sys::queue(b.upstream.as_raw_fd()), sys::Queue::Closed);
        drop(b.client);
    }

    #[test]
    fn a_client_that_left_does_not_cancel_a_legacy_call() {
        let b = bench();
        b.watch.upstream(b.key, Some(b.upstream.as_raw_fd()));
        b.watch.begin_call(b.key, Moment::NEVER, false);
        b.watch.enter(b.key, Phase::Relay, at(0), Moment::NEVER);
        b.watch.tick(at(10));
        drop(b.peer);
        b.watch.tick(at(20));
        b.watch.tick(at(30));
        assert_eq!((b.watch.cause(b.key), b.watch.client_left(b.key)), (None, true));
        assert_eq!(sys::queue(b.upstream.as_raw_fd()), sys::Queue::Empty);
    }

    #[test]
    fn the_total_ends_a_call_that_always_moves() {
        let b = bench();
        b.watch.begin_call(b.key, at(30), true);
        for now in (0..30).step_by(10) {
            b.watch.enter(b.key, Phase::Relay, at(now), at(now + 50));
            b.watch.tick(at(now));
        }
        assert_eq!(b.watch.cause(b.key), None);
        b.watch.tick(at(30));
        assert_eq!(b.watch.cause(b.key), Some(Cause::TotalTimeout));
    }

    #[test]
    fn a_finished_call_leaves_nothing_for_the_next() {
        let b = bench();
        b.watch.begin_call(b.key, at(30), true);
        b.watch.enter(b.key, Phase::Relay, at(0), at(20));
        b.watch.tick(at(25));
        b.watch.end_call(b.key);
        assert_eq!(b.watch.cause(b.key), None);
        b.watch.enter(b.key, Phase::Idle, at(26), at(1_000));
        b.watch.tick(at(40));
        assert_eq!(b.watch.cause(b.key), None);
    }

    #[test]
    fn a_drain_closes_idle_connections_after_a_grace() {
        let b = bench();
        b.watch.enter(b.key, Phase::Idle, at(0), Moment::NEVER);
        b.watch.drain(at(0));
        b.watch.tick(at(DRAIN_IDLE_MS - 1));
        assert_eq!(b.watch.cause(b.key), None);
        b.watch.tick(at(DRAIN_IDLE_MS));
        assert_eq!(b.watch.cause(b.key), Some(Cause::ClientIdle));
    }

    /// Other streams use the socket: nothing is shut but when all is.
    #[test]
    fn who_shares_a_socket_is_told_and_not_cut() {
        let b = bench();
        let waker = Waker::noop();
        b.watch.enter(b.key, Phase::Shared, at(0), at(500));
        b.watch.tick(at(10));
        assert!(!b.watch.poll_nudge(b.key, waker));
        b.watch.drain(at(20));
        b.watch.tick(at(20));
        assert!(b.watch.poll_nudge(b.key, waker), "not told of the drain");
        b.watch.tick(at(30));
        assert!(!b.watch.poll_nudge(b.key, waker), "told twice");
        b.watch.tick(at(500));
        assert!(b.watch.poll_nudge(b.key, waker), "not told that the time is over");
        assert_eq!(sys::queue(b.client.as_raw_fd()), sys::Queue::Empty);
        b.watch.stop();
        assert_eq!(sys::queue(b.client.as_raw_fd()), sys::Queue::Closed);
    }

    #[test]
    fn the_grace_of_a_drain_begins_with_the_drain() {
        let b = bench();
        let began = at(60_000);
        b.watch.enter(b.key, Phase::Idle, at(0), Moment::NEVER);
        b.watch.drain(began);
        // Told again, once a tick and by the next phase.
        b.watch.drain(began.plus_millis(500));
        b.watch.tick(began.plus_millis(DRAIN_IDLE_MS - 1));
        assert_eq!(b.watch.cause(b.key), None);
        b.watch.tick(began.plus_millis(DRAIN_IDLE_MS));
        assert_eq!(b.watch.cause(b.key), Some(Cause::ClientIdle));
    }
}
