//! What reaches a worker from other threads: wake-ups, letters, and the answers to its questions.
//!
//! Not here: what control does to find an answer.

use crate::base::bound::Bound;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Letter;
use crate::handoff::Question;
use crate::worker::Worker;
use monoio::net::UnixStream;
use slab::Slab;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::task::Waker;

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

fn open(worker: &Worker, letter: Letter) {
    match letter {
        Letter::Answered { ticket, answer } => worker.questions.answer(ticket, answer),
        Letter::Ping { ticket, reply: Some(sender) } => {
            let answer = Letter::Ping { ticket, reply: None };
            if worker.shared.posts.get(sender).is_some_and(|post| post.mailbox.post(answer).is_err()) {
                worker.metrics().hit(Bound::Mailbox);
            }
        }
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

    /// Puts a question to control. None where the queue is full, or the deadline of the slot's phase passes before
    /// the answer. Only the asking task waits.
    pub async fn ask(&self, what: Asked, slot: usize) -> Option<Answer> {
        let ticket = self.questions.open.borrow_mut().insert(Open::default());
        let question = Question { worker: self.index, ticket: ticket as u64, what };
        if self.shared.ask(question).is_err() {
            self.questions.open.borrow_mut().remove(ticket);
            self.metrics().hit(Bound::QuestionRing);
            return None;
        }
        std::future::poll_fn(|cx| {
            let mut open = self.questions.open.borrow_mut();
            match open.get_mut(ticket) {
                Some(open) if open.answer.is_some() => Poll::Ready(()),
                _ if self.watch.poll_nudge(slot, cx.waker()) => Poll::Ready(()),
                Some(open) => {
                    open.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            }
        })
        .await;
        self.questions.open.borrow_mut().try_remove(ticket)?.answer
    }
}
