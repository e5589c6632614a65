//! The open streams of one worker: whom to wake, and what waits for each.
//!
//! Not here: what is said on them (`stream`).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Hearing;
use crate::handoff::Interest;
use crate::handoff::Parcel;
use crate::handoff::SessionNote;
use crate::handoff::Subscriptions;
use crate::worker::Worker;
use ahash::HashMap;
use slab::Slab;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::task::Waker;

const NO_PLACE: Fault =
    Fault::new(Kind::Overloaded, "Too many streams are open at this gateway; close some, or retry later.");

/// Resources that have changed, by server and the server's own URI.
type Updates = VecDeque<(Arc<str>, Arc<str>)>;

/// What has come for a stream since it looked last.
#[derive(Default)]
pub struct News {
    /// What is known of servers, or of sessions, may be another.
    pub is_due: bool,
    /// Resources that have changed, of those that it wants to hear of.
    pub updated: Updates,
    /// What servers said to this client alone.
    pub said: VecDeque<Parcel>,
}

/// The open streams of one worker.
#[derive(Default)]
pub struct Streams {
    open: RefCell<Slab<Open>>,
    /// Their places by number.
    places: RefCell<HashMap<u64, usize>>,
}

#[derive(Default)]
struct Open {
    waker: Option<Waker>,
    /// Resources that it wants to hear of, by server and the server's own URI.
    wanted: Subscriptions,
    news: News,
}

impl Open {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Streams {
    /// Something that is known of servers, or of sessions, is another now.
    pub fn wake_all(&self) {
        for (_, open) in self.open.borrow_mut().iter_mut() {
            open.news.is_due = true;
            open.wake();
        }
    }

    /// A resource has changed. What is told already need not be told twice.
    pub fn update(&self, server: &Arc<str>, uri: &Arc<str>) {
        for (_, open) in self.open.borrow_mut().iter_mut() {
            let wants = |(known, other): &(Arc<str>, Arc<str>)| known == server && is_part_of(uri, other);
            if !open.wanted.iter().any(wants) || open.news.updated.len() >= limits::SUBSCRIPTIONS_MAX {
                continue;
            }
            let news = (Arc::clone(server), Arc::clone(uri));
            if !open.news.updated.contains(&news) {
                open.news.updated.push_back(news);
            }
            open.wake();
        }
    }

    /// A server says something to the client of one of them. What finds no place is let go: its sender comes again.
    pub fn deliver(&self, number: u64, parcel: Parcel) {
        let place = self.places.borrow().get(&number).copied();
        let mut all = self.open.borrow_mut();
        let Some(open) = place.and_then(|place| all.get_mut(place)) else { return };
        if open.news.said.len() < limits::HUB_MESSAGES_MAX {
            open.news.said.push_back(parcel);
            open.wake();
        }
    }
}

/// Whether a resource is one that was subscribed to, or lies below it (2025-11-25, resources, "Subscriptions").
fn is_part_of(uri: &str, wanted: &str) -> bool {
    let below = |rest: &str| wanted.ends_with('/') || rest.starts_with('/');
    uri.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || below(rest))
}

/// One stream; its place goes with it.
pub struct Stream<'w> {
    worker: &'w Rc<Worker>,
    key: usize,
    /// Tells it from others of this worker that had its place.
    number: u64,
    /// Of an older client.
    session: Option<[u8; 8]>,
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.worker.streams.places.borrow_mut().remove(&self.number);
        self.worker.streams.open.borrow_mut().try_remove(self.key);
        self.worker.tell(Asked::Interest { stream: self.number, what: None });
        if let Some(session) = self.session {
            let note = SessionNote::Leaves(self.worker.index, self.number);
            self.worker.tell(Asked::Note { session, note });
        }
    }
}

impl<'w> Stream<'w> {
    pub fn open(worker: &'w Rc<Worker>) -> Result<Self, Fault> {
        let mut open = worker.streams.open.borrow_mut();
        if open.len() >= limits::HUB_STREAMS_MAX {
            return Err(NO_PLACE);
        }
        let (key, number) = (open.insert(Open::default()), worker.next_request_id());
        worker.streams.places.borrow_mut().insert(number, key);
        Ok(Self { worker, key, number, session: None })
    }

    /// Is one of a session's streams, of which one alone tells; returns once that is known.
    pub async fn join(&mut self, slot: usize, session: [u8; 8]) {
        self.session = Some(session);
        let note = SessionNote::Listens(self.worker.index, self.number);
        self.worker.question(Asked::Note { session, note }, slot, limits::QUESTION_MS).await;
    }

    /// Whether it is the one of its session that tells.
    pub fn tells(&self) -> bool {
        let Some(session) = &self.session else { return true };
        let notes = self.worker.shared.notes.load();
        notes.tellers.get(session).is_none_or(|teller| *teller == (self.worker.index, self.number))
    }

    /// What the stream wants to hear of from now on.
    fn interest(&self, servers: Vec<Arc<str>>, resources: Subscriptions) -> Asked {
        if let Some(open) = self.worker.streams.open.borrow_mut().get_mut(self.key) {
            open.wanted.clone_from(&resources);
        }
        Asked::Interest { stream: self.number, what: Some(Interest { servers, resources }) }
    }

    /// Says what it wants to hear of, and waits until somebody listens. The resources that its servers say are none.
    pub async fn begin(
        &self,
        slot: usize,
        servers: Vec<Arc<str>>,
        resources: Subscriptions,
    ) -> Subscriptions {
        let what = self.interest(servers, resources);
        match self.worker.question(what, slot, limits::LISTEN_WAIT_MS).await {
            Some(Answer::Listening { refused }) => refused,
            _ => Subscriptions::new(),
        }
    }

    /// The same without waiting.
    pub fn wants(&self, servers: Vec<Arc<str>>, resources: Subscriptions) {
        let what = self.interest(servers, resources);
        self.worker.tell(what);
    }

    /// Says who may speak to the client of its session by themselves.
    pub fn hears(&self, hearing: Arc<Hearing>) {
        if let Some(session) = self.session {
            self.worker.tell(Asked::Note { session, note: SessionNote::Hears(hearing) });
        }
    }

    /// Waits until there is news (true), or it is time for a comment.
    pub async fn news(&self, slot: usize) -> bool {
        std::future::poll_fn(|cx| {
            let mut all = self.worker.streams.open.borrow_mut();
            let Some(open) = all.get_mut(self.key) else { return Poll::Ready(false) };
            if open.news.is_due || !open.news.updated.is_empty() || !open.news.said.is_empty() {
                return Poll::Ready(true);
            }
            open.waker = Some(cx.waker().clone());
            if self.worker.watch.poll_nudge(slot, cx.waker()) { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }

    /// What has come since it was asked last.
    pub fn take(&self) -> News {
        let mut all = self.worker.streams.open.borrow_mut();
        all.get_mut(self.key).map(|open| std::mem::take(&mut open.news)).unwrap_or_default()
    }
}
