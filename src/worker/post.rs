//! What reaches a worker from other threads: wake-ups, letters, and the answers to its questions.
//!
//! Not here: what control does to find an answer.

use crate::base::bound::Bound;
use crate::config::limits;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Letter;
use crate::handoff::Question;
use crate::worker::Worker;
use crate::worker::calls;
use crate::worker::parked;
use crate::worker::watch::Cause;
use crate::worker::watch::Phase;
use monoio::net::UnixStream;
use slab::Slab;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::task::Waker;

/// The ticket of what needs no answer.
const UNASKED: u64 = u64::MAX;

/// The questions of one worker that are not answered yet.
#[derive(Default)]
pub struct Questions {
    open: RefCell<Slab<Open>>,
}

#[derive(Default)]
struct Open {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// Reads the mailbox whenever its bell rings, until the process stops.
pub async fn listen(worker: Rc<Worker>, bell: UnixStream) {
    let mut sink = [0; 256];
    loop {
        match bell.readable(false).await {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
        // Emptied first: a letter that comes after this look rings again.
        while crate::base::sys::receive_now(bell.as_raw_fd(), &mut sink)
            .is_ok_and(|count| count == sink.len())
        {}
        // A new plan is adopted although no call comes, so that the old one can go.
        worker.adopt();
        worker.follow_phase();
        while let Some(letter) = worker.mailbox().take() {
            open(&worker, letter);
        }
    }
}

fn open(worker: &Rc<Worker>, letter: Letter) {
    match letter {
        Letter::Reply { session, question, message } => {
            worker.replies.take(session, question, message);
        }
        Letter::Listen { number, from, ticket } => parked::listen(worker, number, from, ticket),
        Letter::Said { ticket, message } => parked::hear(worker, ticket, message),
        Letter::Cancel { session, id } => calls::cancel(worker, session, &id),
        Letter::Answered { ticket, answer } => worker.questions.answer(ticket, answer),
        Letter::Ping { ticket, reply: Some(sender) } => {
            let answer = Letter::Ping { ticket, reply: None };
            if worker.shared.posts.get(sender).is_some_and(|post| post.mailbox.post(answer).is_err()) {
                worker.metrics().hit(Bound::Mailbox);
            }
        }
        Letter::Updated { server, uri } => worker.streams.update(&server, &uri),
        Letter::Ping { reply: None, .. } => {}
    }
}

impl Questions {
    fn answer(&self, ticket: u64, answer: Answer) {
        let Ok(key) = usize::try_from(ticket) else { return };
        if let Some(open) = self.open.borrow_mut().get_mut(key) {
            open.answer = Some(answer);
            if let Some(waker) = open.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Worker {
    /// Asks control for the addresses of a name; none where it knows none.
    pub async fn ask_addresses(
        &self,
        host: &str,
        port: u16,
        key: &str,
        slot: usize,
    ) -> Option<Arc<[SocketAddr]>> {
        let what = Asked::Resolve { host: host.into(), port, key: key.into() };
        self.ask(what, slot).await?;
        let addresses = self.shared.addresses.load();
        addresses.by_name.get(key).map(Arc::clone)
    }

    /// Puts a question to control and waits for the answer, at most so long; the phase is one of waiting for room.
    pub async fn question(&self, what: Asked, slot: usize, patience_ms: u64) -> Option<Answer> {
        let now = self.coarse_now();
        // Control ends every question in time; the rest is for a control that does not.
        self.watch.enter(slot, Phase::Room, now, now.plus_millis(patience_ms + limits::QUESTION_MS));
        let answer = self.ask(what, slot).await;
        // An answer that does not come ends no call: what follows from that its asker knows.
        if self.watch.cause(slot) == Some(Cause::RoomTimeout) {
            self.watch.forgive(slot);
        }
        answer
    }

    /// Tells control something that needs no answer.
    pub fn tell(&self, what: Asked) {
        let question = Question { worker: self.index, ticket: UNASKED, what };
        if let Err(Question { what, .. }) = self.shared.ask(question) {
            self.metrics().hit(Bound::QuestionRing);
            // An interest that nobody ends would be one for ever.
            if matches!(what, Asked::Interest { .. }) {
                self.untold.borrow_mut().push_back(what);
            }
        }
    }

    /// Tells again what could not be told. Never more than one a stream.
    pub fn tell_again(&self) {
        let untold = std::mem::take(&mut *self.untold.borrow_mut());
        untold.into_iter().for_each(|what| self.tell(what));
    }

    /// Puts a question to control. None where the queue is full, or the deadline of the slot's phase passes before
    /// the answer. Only the asking task waits.
    pub async fn ask(&self, what: Asked, slot: usize) -> Option<Answer> {
        self.ask_all(vec![what], slot).await.pop().flatten()
    }

    /// Puts several at once; their answers in the same order.
    pub async fn ask_all(&self, whats: Vec<Asked>, slot: usize) -> Vec<Option<Answer>> {
        let tickets: Vec<Option<usize>> = whats.into_iter().map(|what| self.put(what)).collect();
        std::future::poll_fn(|cx| {
            if self.watch.poll_nudge(slot, cx.waker()) {
                return Poll::Ready(());
            }
            let mut open = self.questions.open.borrow_mut();
            let mut waits = false;
            for ticket in tickets.iter().flatten() {
                if let Some(open) = open.get_mut(*ticket).filter(|open| open.answer.is_none()) {
                    open.waker = Some(cx.waker().clone());
                    waits = true;
                }
            }
            if waits { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let mut open = self.questions.open.borrow_mut();
        tickets.into_iter().map(|ticket| open.try_remove(ticket?)?.answer).collect()
    }

    /// The ticket of a question; none where the queue is full.
    fn put(&self, what: Asked) -> Option<usize> {
        let ticket = self.questions.open.borrow_mut().insert(Open::default());
        let question = Question { worker: self.index, ticket: ticket as u64, what };
        if self.shared.ask(question).is_err() {
            self.questions.open.borrow_mut().remove(ticket);
            self.metrics().hit(Bound::QuestionRing);
            return None;
        }
        Some(ticket)
    }
}
