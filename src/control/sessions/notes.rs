//! What workers want to be remembered of the sessions that the gateway holds by itself.
//!
//! Not here: what follows from it. Pure: time is an argument.

use crate::base::clock::Moment;
use crate::config::limits;
use crate::handoff::SessionNote;
use crate::handoff::SessionNotes;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Notes {
    known: SessionNotes,
    /// The oldest first.
    ended: VecDeque<[u8; 8]>,
    levelled: VecDeque<[u8; 8]>,
    subscribed: VecDeque<[u8; 8]>,
    /// The streams of each session, the newest last.
    streams: HashMap<[u8; 8], Vec<(usize, u64)>>,
    /// When the next are published; None: all are.
    due: Option<Moment>,
    published: Moment,
}

impl Notes {
    pub(super) fn add(&mut self, session: [u8; 8], note: SessionNote, now: Moment) {
        match note {
            SessionNote::Subscribed(server, uri) => self.subscribe(session, server, uri),
            SessionNote::Unsubscribed(server, uri) => {
                let all = Arc::make_mut(&mut self.known.subscriptions);
                if let Some(own) = all.get_mut(&session) {
                    own.retain(|(known, other)| *known != server || *other != uri);
                }
            }
            SessionNote::Listens(worker, stream) => {
                if self.streams.len() < limits::INTERESTS_MAX || self.streams.contains_key(&session) {
                    self.streams.entry(session).or_default().push((worker, stream));
                    self.choose(session);
                }
            }
            SessionNote::Leaves(worker, stream) => {
                if let Some(streams) = self.streams.get_mut(&session) {
                    streams.retain(|one| *one != (worker, stream));
                    if streams.is_empty() {
                        self.streams.remove(&session);
                    }
                    self.choose(session);
                }
            }
            // Nothing to be remembered: it is said to streams, or to servers.
            SessionNote::Hears(_) | SessionNote::RootsChanged(_) => {}
            SessionNote::Ended => {
                if self.known.subscriptions.contains_key(&session) {
                    Arc::make_mut(&mut self.known.subscriptions).remove(&session);
                }
                self.known.levels.remove(&session);
                if self.known.ended.insert(session) {
                    self.ended.push_back(session);
                }
            }
            SessionNote::Level(level, _) => {
                if self.known.levels.insert(session, level).is_none() {
                    self.levelled.push_back(session);
                }
            }
        }
        if self.ended.len() > limits::SESSION_NOTES_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.known.ended.remove(&oldest);
        }
        if self.levelled.len() > limits::SESSION_NOTES_MAX
            && let Some(oldest) = self.levelled.pop_front()
        {
            self.known.levels.remove(&oldest);
        }
        let due = now.max(self.published.plus_millis(limits::SESSION_NOTES_MS));
        self.due.get_or_insert(due);
    }

    /// Which of a session's streams tells: the newest, as its client has only just opened it. Of one alone nothing is said.
    fn choose(&mut self, session: [u8; 8]) {
        let streams = self.streams.get(&session).filter(|streams| streams.len() > 1);
        let teller = streams.and_then(|streams| streams.last().copied());
        if self.known.tellers.get(&session).copied() == teller {
            return;
        }
        let tellers = Arc::make_mut(&mut self.known.tellers);
        match teller {
            Some(teller) => drop(tellers.insert(session, teller)),
            None => drop(tellers.remove(&session)),
        }
    }

    /// Past a bound the session that subscribed first hears no more.
    fn subscribe(&mut self, session: [u8; 8], server: Arc<str>, uri: Arc<str>) {
        let all = Arc::make_mut(&mut self.known.subscriptions);
        let own = all.entry(session).or_insert_with(|| {
            self.subscribed.push_back(session);
            Vec::new()
        });
        let wanted = (server, uri);
        if !own.contains(&wanted) && own.len() < limits::SUBSCRIPTIONS_MAX {
            own.push(wanted);
        }
        if self.subscribed.len() > limits::SUBSCRIBED_SESSIONS_MAX
            && let Some(oldest) = self.subscribed.pop_front()
        {
            all.remove(&oldest);
        }
    }

    /// When there is something to publish.
    pub(super) fn next(&self) -> Moment {
        self.due.unwrap_or(Moment::NEVER)
    }

    /// What is to be published now.
    pub(super) fn take(&mut self, now: Moment) -> Option<SessionNotes> {
        self.due.take_if(|due| *due <= now)?;
        self.published = now;
        Some(self.known.clone())
    }

    /// The stream of a session that tells. None: it has none.
    pub(super) fn teller(&self, session: &[u8; 8]) -> Option<(usize, u64)> {
        self.streams.get(session)?.last().copied()
    }

    /// The level from which on a session wants log messages. None: it has set none.
    pub(super) fn level(&self, session: &[u8; 8]) -> Option<u8> {
        self.known.levels.get(session).copied()
    }

    pub(super) fn is_ended(&self, session: &[u8; 8]) -> bool {
        self.known.ended.contains(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    fn level(level: u8) -> SessionNote {
        SessionNote::Level(level, Arc::default())
    }

    #[test]
    fn the_first_is_published_at_once_and_many_together() {
        let mut notes = Notes::default();
        assert!(notes.take(at(1_000)).is_none());
        notes.add([1; 8], level(3), at(1_000));
        assert_eq!(notes.take(at(1_000)).expect("at once").levels.get(&[1; 8]), Some(&3));
        notes.add([2; 8], SessionNote::Ended, at(1_001));
        notes.add([1; 8], SessionNote::Ended, at(1_002));
        assert!(notes.take(at(1_009)).is_none());
        assert_eq!(notes.next(), at(1_010));
        let both = notes.take(at(1_010)).expect("due");
        assert_eq!((both.ended.len(), both.levels.len()), (2, 0));
        assert_eq!(notes.next(), Moment::NEVER);
    }

    #[test]
    fn of_several_streams_the_newest_tells() {
        let mut notes = Notes::default();
        let mut teller = |note| {
            notes.add([1; 8], note, at(0));
            let teller = notes.known.tellers.get(&[1; 8]).copied();
            assert!(teller.is_some() || notes.known.tellers.is_empty());
            (teller, notes.streams.len())
        };
        assert_eq!(teller(SessionNote::Listens(0, 7)), (None, 1));
        assert_eq!(teller(SessionNote::Listens(1, 7)), (Some((1, 7)), 1));
        assert_eq!(teller(SessionNote::Listens(0, 8)), (Some((0, 8)), 1));
        assert_eq!(teller(SessionNote::Leaves(1, 7)), (Some((0, 8)), 1));
        assert_eq!(teller(SessionNote::Leaves(5, 5)), (Some((0, 8)), 1));
        assert_eq!(teller(SessionNote::Leaves(0, 8)), (None, 1), "one is left");
        assert_eq!(teller(SessionNote::Leaves(0, 7)), (None, 0));
        assert_eq!(teller(SessionNote::Leaves(0, 7)), (None, 0));
    }

    #[test]
    fn sessions_that_listen_have_a_bound() {
        let mut notes = Notes::default();
        for number in 0..limits::INTERESTS_MAX as u64 + 10 {
            notes.add(number.to_le_bytes(), SessionNote::Listens(0, number), at(0));
        }
        assert_eq!(notes.streams.len(), limits::INTERESTS_MAX);
        assert!(notes.known.tellers.is_empty(), "nothing is said of one alone");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut notes = Notes::default();
        for number in 0..limits::SESSION_NOTES_MAX as u64 + 10 {
            notes.add(number.to_le_bytes(), level(1), at(0));
            notes.add((number + 1_000_000).to_le_bytes(), SessionNote::Ended, at(0));
        }
        let known = notes.take(at(1_000)).expect("due");
        assert_eq!((known.ended.len(), known.levels.len()), (65_536, 65_536));
        assert!(!known.levels.contains_key(&9_u64.to_le_bytes()));
        assert!(known.levels.contains_key(&10_u64.to_le_bytes()));
    }
}
