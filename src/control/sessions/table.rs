//! Sessions on servers by what they were opened for: who waits for one, how long one is kept, and which one has to go.
//!
//! ```text
//!   (none) ──ask──▶ Opening ──opened──▶ Open ──idle, ended, no room──▶ (closed)
//!      ▲               │  ▲               │
//!      │            failed└──server knows─┘
//!      └──a while──  Failed   it no more
//! ```
//!
//! Not here: opening and closing. Pure: time is an argument.

use crate::base::clock::Moment;
use crate::config::limits;
use crate::control::sessions::open_session::OpenSession;
use crate::handoff::SessionKey;
use crate::handoff::UpstreamSession;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Worker and ticket.
pub(super) type Asker = (usize, u64);

/// A session that is open, and what it takes to close it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: Arc<UpstreamSession>,
    pub(super) closing: OpenSession,
}

impl Held {
    /// Whether somebody may come back to a question that waits in it.
    pub(super) fn is_kept(&self, now: Moment) -> bool {
        now.as_nanos() < self.session.kept_until_ns.load(Ordering::Relaxed)
    }
}

enum Slot {
    Opening {
        waiting: Vec<Asker>,
        /// The client's own session has ended meanwhile.
        is_ended: bool,
    },
    Open(Held),
    Failed {
        until: Moment,
    },
}

/// What follows from a question.
#[derive(Debug)]
pub(super) enum Step {
    Answer(Option<Arc<UpstreamSession>>),
    /// One is to be opened; the asker waits.
    Open,
    /// One is being opened; the asker waits.
    Wait,
}

/// What follows from an opening.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) waiting: Vec<Asker>,
    pub(super) answer: Option<Arc<UpstreamSession>>,
    /// What has to go.
    pub(super) closing: Option<OpenSession>,
}

#[derive(Default)]
pub(super) struct Table {
    slots: HashMap<SessionKey, Slot>,
    open: usize,
}

impl Table {
    /// `not`: the number of a session that the server knows no more.
    pub(super) fn ask(&mut self, key: &SessionKey, not: Option<u64>, asker: Asker, now: Moment) -> Step {
        let is_full = self.slots.len() >= 2 * limits::UPSTREAM_SESSIONS_MAX;
        match self.slots.get_mut(key) {
            Some(Slot::Open(held)) if not != Some(held.session.number) => {
                held.session.used_ns.fetch_max(now.as_nanos(), Ordering::Relaxed);
                return Step::Answer(Some(Arc::clone(&held.session)));
            }
            Some(Slot::Opening { waiting, .. }) if waiting.len() < limits::QUESTION_RING => {
                waiting.push(asker);
                return Step::Wait;
            }
            Some(Slot::Opening { .. }) => return Step::Answer(None),
            Some(Slot::Failed { until }) if now < *until => return Step::Answer(None),
            Some(Slot::Open(_)) => self.open -= 1,
            None if is_full => return Step::Answer(None),
            Some(Slot::Failed { .. }) | None => {}
        }
        self.slots.insert(key.clone(), Slot::Opening { waiting: vec![asker], is_ended: false });
        Step::Open
    }

    /// One was opened.
    pub(super) fn opened(&mut self, key: SessionKey, held: Held) -> Opened {
        let Some(Slot::Opening { waiting, is_ended }) = self.slots.remove(&key) else {
            return Opened { closing: Some(held.closing), ..Opened::default() };
        };
        if is_ended {
            return Opened { waiting, answer: None, closing: Some(held.closing) };
        }
        let closing =
            if self.open >= limits::UPSTREAM_SESSIONS_MAX { self.take_longest_unused() } else { None };
        let answer = Some(Arc::clone(&held.session));
        self.slots.insert(key, Slot::Open(held));
        self.open += 1;
        Opened { waiting, answer, closing }
    }

    /// None could be opened.
    pub(super) fn failed(&mut self, key: SessionKey, now: Moment) -> Vec<Asker> {
        let until = now.plus_millis(limits::SESSION_RETRY_MS);
        match self.slots.insert(key, Slot::Failed { until }) {
            Some(Slot::Opening { waiting, .. }) => waiting,
            _ => Vec::new(),
        }
    }

    /// Takes out what has not been used for long, and forgets failures that are over.
    pub(super) fn look(&mut self, now: Moment) -> Vec<OpenSession> {
        self.slots.retain(|_, slot| !matches!(slot, Slot::Failed { until } if *until <= now));
        self.take(|key, held| {
            let used = Moment::from_nanos(held.session.used_ns.load(Ordering::Relaxed));
            // One that is sealed in a client's is used without a word to us, for as long as that lives.
            let sealed = key.is_of_client();
            let idle_ms =
                if sealed { limits::SESSION_SECONDS_MAX * 1_000 } else { limits::UPSTREAM_SESSION_IDLE_MS };
            used.plus_millis(idle_ms) <= now && !held.is_kept(now)
        })
    }

    /// Takes out what was opened for a client's session.
    pub(super) fn ended(&mut self, client: [u8; 8]) -> Vec<OpenSession> {
        for (key, slot) in &mut self.slots {
            if let Slot::Opening { is_ended, .. } = slot {
                *is_ended |= key.client == client;
            }
        }
        self.take(|key, _| key.client == client)
    }

    /// There is a new plan, which gives servers these places: what is open serves its calls.
    pub(super) fn follow(&mut self, place: impl Fn(&SessionKey) -> Option<u64>) {
        let moves = |key: &SessionKey, slot: &Slot| match slot {
            Slot::Open(_) => place(key).filter(|place| *place != key.place),
            Slot::Opening { .. } | Slot::Failed { .. } => None,
        };
        let moved: Vec<_> = self.slots.extract_if(|key, slot| moves(key, slot).is_some()).collect();
        for (key, slot) in moved {
            let there = SessionKey { place: place(&key).unwrap_or(key.place), ..key.clone() };
            // What a call of the new plan had opened meanwhile stays, and this one ends by being idle.
            let at = if self.slots.contains_key(&there) { key } else { there };
            self.slots.insert(at, slot);
        }
    }

    /// What was opened for a client's session.
    pub(super) fn of_client(&self, client: [u8; 8]) -> Vec<OpenSession> {
        let own = self.slots.iter().filter(|(key, _)| key.client == client);
        let open = own.filter_map(|(_, slot)| match slot {
            Slot::Open(held) => Some(held.closing.clone()),
            Slot::Opening { .. } | Slot::Failed { .. } => None,
        });
        open.collect()
    }

    /// Takes out what this says.
    pub(super) fn take(&mut self, mut which: impl FnMut(&SessionKey, &Held) -> bool) -> Vec<OpenSession> {
        let taken = self.slots.extract_if(|key, slot| matches!(slot, Slot::Open(held) if which(key, held)));
        let taken: Vec<OpenSession> = taken
            .filter_map(|(_, slot)| match slot {
                Slot::Open(held) => Some(held.closing),
                Slot::Opening { .. } | Slot::Failed { .. } => None,
            })
            .collect();
        self.open -= taken.len();
        taken
    }

    fn take_longest_unused(&mut self) -> Option<OpenSession> {
        let open = self.slots.iter().filter_map(|(key, slot)| match slot {
            Slot::Open(held) => Some((held.session.used_ns.load(Ordering::Relaxed), key)),
            Slot::Opening { .. } | Slot::Failed { .. } => None,
        });
        let oldest = open.min_by_key(|(used, _)| *used)?.1.clone();
        self.take(|key, _| *key == oldest).pop()
    }

    #[cfg(test)]
    pub(super) const fn open(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    fn key(client: u8) -> SessionKey {
        SessionKey {
            server: "up".into(),
            place: 0,
            owner: [1; 16],
            client: [client; 8],
            abilities: 0,
            pool: None,
        }
    }

    fn held(number: u64, now: Moment) -> Held {
        let (name, revision): (Box<[u8]>, Box<str>) = (format!("s{number}").into_bytes().into(), "r".into());
        let closing = OpenSession {
            server: "up".into(),
            label: "http://up".into(),
            name: name.clone(),
            revision: revision.clone(),
            shown: None,
        };
        let (used_ns, kept_until_ns) = (AtomicU64::new(now.as_nanos()), AtomicU64::new(0));
        let session = UpstreamSession { number, name, revision, instance: 0, used_ns, kept_until_ns };
        Held { session: Arc::new(session), closing }
    }

    fn names(closing: &[OpenSession]) -> Vec<&str> {
        closing.iter().map(|one| std::str::from_utf8(&one.name).expect("text")).collect()
    }

    fn number(step: &Step) -> Option<u64> {
        match step {
            Step::Answer(session) => session.as_ref().map(|session| session.number),
            Step::Open | Step::Wait => panic!("{step:?}"),
        }
    }

    #[test]
    fn all_who_ask_share_one_opening_and_one_session() {
        let mut table = Table::default();
        assert!(matches!(table.ask(&key(1), None, (0, 0), at(0)), Step::Open));
        for ticket in 1..100 {
            assert!(matches!(table.ask(&key(1), None, (0, ticket), at(0)), Step::Wait));
        }
        assert!(matches!(table.ask(&key(2), None, (0, 0), at(0)), Step::Open), "another client's");
        let opened = table.opened(key(1), held(7, at(0)));
        assert_eq!((opened.waiting.len(), opened.answer.map(|one| one.number)), (100, Some(7)));
        assert_eq!(number(&table.ask(&key(1), None, (0, 0), at(1))), Some(7));
    }

    #[test]
    fn a_session_that_its_server_forgot_is_opened_anew_once() {
        let mut table = Table::default();
        table.ask(&key(1), None, (0, 0), at(0));
        table.opened(key(1), held(1, at(0)));
        assert!(matches!(table.ask(&key(1), Some(1), (0, 1), at(1)), Step::Open));
        assert!(matches!(table.ask(&key(1), Some(1), (0, 2), at(1)), Step::Wait));
        assert!(table.opened(key(1), held(2, at(1))).closing.is_none());
        assert_eq!(number(&table.ask(&key(1), Some(1), (0, 3), at(2))), Some(2), "opened anew already");
        assert_eq!(table.open(), 1);
    }

    #[test]
    fn a_failure_stands_for_a_moment() {
        let mut table = Table::default();
        table.ask(&key(1), None, (0, 5), at(0));
        assert_eq!(table.failed(key(1), at(10)), [(0, 5)]);
        assert_eq!(number(&table.ask(&key(1), None, (0, 6), at(259))), None);
        assert!(matches!(table.ask(&key(1), None, (0, 7), at(260)), Step::Open));
        table.failed(key(1), at(260));
        assert!(table.look(at(1_000)).is_empty() && table.slots.is_empty(), "forgotten");
    }

    /// Of two modern clients.
    fn of_owner(owner: u8) -> SessionKey {
        SessionKey { owner: [owner; 16], ..key(0) }
    }

    #[test]
    fn idle_ones_go_and_used_ones_stay() {
        let mut table = Table::default();
        for owner in [1, 2] {
            table.ask(&of_owner(owner), None, (0, 0), at(0));
            table.opened(of_owner(owner), held(u64::from(owner), at(0)));
        }
        assert!(table.look(at(599_999)).is_empty());
        table.ask(&of_owner(2), None, (0, 0), at(599_999));
        assert_eq!(names(&table.look(at(600_000))), ["s1"]);
        assert_eq!(table.open(), 1);
    }

    #[test]
    fn how_long_a_session_may_be_idle_depends_on_whose_it_is() {
        const IDLE: u64 = limits::UPSTREAM_SESSION_IDLE_MS;
        const LONG: u64 = limits::SESSION_SECONDS_MAX * 1_000;
        for (client, kept_until, goes, what) in [
            (0, 0, IDLE, "a modern client's"),
            (0, 1, IDLE, "a question waited in it, and waits no more"),
            (0, IDLE + 1, IDLE + 1, "a question waits in it"),
            (0, LONG, LONG, "the same for long"),
            (1, 0, LONG, "one that is sealed in a client's own"),
            (1, IDLE, LONG, "the same, in which a question waited"),
            (1, LONG + 1, LONG + 1, "the same, in which a question waits to the last"),
        ] {
            let mut table = Table::default();
            table.ask(&key(client), None, (0, 0), at(0));
            let one = held(1, at(0));
            one.session.kept_until_ns.store(at(kept_until).as_nanos(), Ordering::Relaxed);
            table.opened(key(client), one);
            assert!(table.look(at(goes - 1)).is_empty(), "{what}: too early");
            assert_eq!((names(&table.look(at(goes))), table.open()), (vec!["s1"], 0), "{what}");
        }
    }

    #[test]
    fn what_was_opened_for_a_client_that_left_goes_too() {
        let mut table = Table::default();
        table.ask(&key(1), None, (0, 0), at(0));
        table.opened(key(1), held(1, at(0)));
        let other = SessionKey { abilities: 3, ..key(1) };
        table.ask(&other, None, (0, 9), at(0));
        assert_eq!(names(&table.ended([1; 8])), ["s1"]);
        let late = table.opened(other, held(2, at(0)));
        assert!(late.answer.is_none() && late.waiting == [(0, 9)] && late.closing.is_some());
        assert_eq!(table.open(), 0);
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let mut table = Table::default();
        let key = |number: u64| SessionKey { client: number.to_le_bytes(), ..key(0) };
        for number in 0..limits::UPSTREAM_SESSIONS_MAX as u64 {
            table.ask(&key(number), None, (0, 0), at(number));
            assert!(table.opened(key(number), held(number, at(number))).closing.is_none());
        }
        table.ask(&key(0), None, (0, 0), at(1_000_000));
        let more = u64::MAX;
        table.ask(&key(more), None, (0, 0), at(1_000_000));
        let opened = table.opened(key(more), held(more, at(1_000_000)));
        assert_eq!(names(opened.closing.as_slice()), ["s1"]);
        assert_eq!(table.open(), limits::UPSTREAM_SESSIONS_MAX);
        (0..1_000_000).find(|number| {
            let step = table.ask(&key(number + 1_000_000), None, (0, 0), at(1_000_001));
            matches!(step, Step::Answer(None))
        });
        assert_eq!(table.slots.len(), 2 * limits::UPSTREAM_SESSIONS_MAX, "openings have a bound");
    }
}
