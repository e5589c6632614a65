//! What reaches a worker from other threads: wake-ups, letters, and the answers to its questions.
//!
//! Not here: what control does to find an answer.

use crate::base::bound::Bound;
use crate::config::limits;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Letter;
use crate::handoff::Question;
use crate::handoff::SessionNote;
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
        Letter::Answered { ticket, answer } => worker.open_questions.answer(ticket, answer),
        Letter::Ping { ticket, reply: Some(sender) } => {
            let answer = Letter::Ping { ticket, reply: None };
            if worker.shared.posts.get(sender).is_some_and(|post| post.mailbox.post(answer).is_err()) {
                worker.metrics().hit(Bound::Mailbox);
            }
        }
        Letter::Updated { server, uri } => worker.streams.update(&server, &uri),
        Letter::Message { stream, parcel } => worker.streams.deliver(stream, parcel),
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
        self.ask_all(vec![what], slot).await.pop()??;
        let addresses = self.shared.addresses.load();
        addresses.by_name.get(key).map(Arc::clone)
    }

    /// Puts a question to control and waits for the answer, which control gives within `patience_ms`; the phase is one
    /// of waiting for room. None: there was no answer in time, or the call has ended meanwhile.
    pub async fn question(&self, what: Asked, slot: usize, patience_ms: u64) -> Option<Answer> {
        self.questions(vec![what], slot, patience_ms).await.pop().flatten()
    }

    /// Puts several at once; their answers in the same order.
    pub async fn questions(&self, whats: Vec<Asked>, slot: usize, patience_ms: u64) -> Vec<Option<Answer>> {
        let now = self.coarse_now();
        // Control ends every question in time; the rest is for a control that does not.
        self.watch.enter(slot, Phase::Room, now, now.plus_millis(patience_ms + limits::QUESTION_MS));
        let answers = self.ask_all(whats, slot).await;
        // An answer that does not come ends no call: what follows from that its asker knows.
        if self.watch.cause(slot) == Some(Cause::RoomTimeout) {
            self.watch.forgive(slot);
        }
        answers
    }

    /// Tells control something that needs no answer.
    pub fn tell(&self, what: Asked) {
        let question = Question { worker: self.index, ticket: UNASKED, what };
        if let Err(Question { what, .. }) = self.shared.ask(question) {
            self.metrics().hit(Bound::QuestionRing);
            // An interest that nobody ends would be one for ever, as would the stream that tells.
            let is_kept = match &what {
                Asked::Interest { .. } => true,
                Asked::Note { note, .. } => matches!(note, SessionNote::Leaves(..) | SessionNote::Hears(_)),
                _ => false,
            };
            if is_kept {
                self.untold.borrow_mut().push_back(what);
            }
        }
    }

    /// Tells again what could not be told. Never more than three a stream.
    pub fn tell_again(&self) {
        let untold = std::mem::take(&mut *self.untold.borrow_mut());
        untold.into_iter().for_each(|what| self.tell(what));
    }

    /// Puts questions to control. None where the queue is full, or the deadline of the slot's phase passes before the
    /// answer. Only the asking task waits.
    async fn ask_all(&self, whats: Vec<Asked>, slot: usize) -> Vec<Option<Answer>> {
        let tickets: Vec<Option<usize>> = whats.into_iter().map(|what| self.put(what)).collect();
        std::future::poll_fn(|cx| {
            if self.watch.poll_nudge(slot, cx.waker()) {
                return Poll::Ready(());
            }
            let mut open = self.open_questions.open.borrow_mut();
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
        let mut open = self.open_questions.open.borrow_mut();
        tickets.into_iter().map(|ticket| open.try_remove(ticket?)?.answer).collect()
    }

    /// The ticket of a question; none where the queue is full.
    fn put(&self, what: Asked) -> Option<usize> {
        let ticket = self.open_questions.open.borrow_mut().insert(Open::default());
        let question = Question { worker: self.index, ticket: ticket as u64, what };
        if self.shared.ask(question).is_err() {
            self.open_questions.open.borrow_mut().remove(ticket);
            self.metrics().hit(Bound::QuestionRing);
            return None;
        }
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use crate::base::clock::Moment;
    use crate::base::fault::Kind;
    use crate::net::runtime::Driver;
    use crate::policy::access::Standing;
    use crate::policy::identity::Caller;
    use crate::policy::identity::Offered;
    use crate::worker::authenticate;
    use crate::worker::authenticate::BUSY;
    use crate::worker::callers::Known;
    use crate::worker::inquiry;
    use crate::worker::state::Exchange;
    use crate::worker::stub::on_worker;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    const CONFIG: &str = "mcpServers: {up: {url: \"http://127.0.0.1:1/mcp\"}}";

    /// What a call gets from a control that never answers, once `end` has happened; and whether the call has ended.
    fn unanswered<T>(
        ask: impl AsyncFnOnce(&Worker, usize) -> T,
        end: impl FnOnce(&Worker, usize),
    ) -> (T, Option<Cause>) {
        unanswered_by(CONFIG, ask, end)
    }

    fn unanswered_by<T>(
        config: &str,
        ask: impl AsyncFnOnce(&Worker, usize) -> T,
        end: impl FnOnce(&Worker, usize),
    ) -> (T, Option<Cause>) {
        on_worker(Driver::Epoll, config, async |worker| {
            let slot = worker.watch.register(-1, clock::now(), Moment::NEVER);
            let mut asking = pin!(ask(&worker, slot));
            let mut context = Context::from_waker(Waker::noop());
            assert!(asking.as_mut().poll(&mut context).is_pending());
            end(&worker, slot);
            let Poll::Ready(answer) = asking.as_mut().poll(&mut context) else { panic!("it waits for ever") };
            (answer, worker.watch.cause(slot))
        })
    }

    fn out_of_time(worker: &Worker, _: usize) {
        worker.watch.tick(clock::now().plus_millis(60_000));
    }

    /// A control that is silent ends no call by itself: what follows is the asker's to say.
    #[test]
    fn an_answer_that_does_not_come_ends_no_call() {
        let what = || Asked::Catalogue { server: "up".into() };
        let (answer, cause) =
            unanswered(async |worker, slot| worker.question(what(), slot, 0).await, out_of_time);
        assert!(answer.is_none());
        assert_eq!(cause, None);
        let ask = async |worker: &Worker, slot| worker.questions(vec![what(), what()], slot, 0).await;
        let (answers, cause) = unanswered(ask, out_of_time);
        assert!(matches!(answers[..], [None, None]));
        assert_eq!(cause, None);
        let ask = async |worker: &Worker, slot| {
            let mut findings = inquiry::Findings::default();
            let (adopted, mut exchange) = (worker.adopt(), Exchange::default());
            exchange.record.server.set("up");
            let caller = Caller::of_certificate("a");
            let standing = Standing::new(&adopted.plan.access, &caller, &worker.patterns);
            let visitor = (slot, &Known::new(caller, standing));
            let told = (inquiry::Open::Again, &mut findings);
            inquiry::pursue(worker, &adopted, &mut exchange, visitor, told).await;
            findings.is_relisted
        };
        assert_eq!(unanswered(ask, out_of_time), (true, None));
    }

    /// Found in an audit: the 257th call that waited for a new key, or to hear what an issuer knows of its token, was told
    /// that its token is bad. Only an answer makes it so.
    #[test]
    fn regression_a_bound_of_ours_makes_no_token_a_bad_one() {
        let issuer = "mcpServers: {up: {url: \"http://127.0.0.1:1/mcp\"}}\nidentity: {jwt: [{issuer: \"https://idp.test\", \
                      audiences: [\"https://gw.test/mcp\"], jwks: {url: \"https://idp.test/keys\"}, introspection: {url: \
                      \"https://idp.test/i\", clientId: a, secret: b}}]}";
        let part = |text: &str| crate::base::base64url::encode(text.as_bytes());
        let claims = r#"{"iss":"https://idp.test","aud":"https://gw.test/mcp","sub":"a","exp":9000000000}"#;
        let head = part(r#"{"alg":"ES256","kid":"new"}"#);
        let jwt = format!("{head}.{}.{}", part(claims), part(&"x".repeat(64)));
        let kind = |token: &str, end: &dyn Fn(&Worker, usize)| {
            let ask = async |worker: &Worker, slot| {
                let offered = Offered::Token(token.as_bytes());
                authenticate::ask(worker, &worker.adopt(), slot, &offered).await.err().map(|fault| fault.kind)
            };
            unanswered_by(issuer, ask, |worker, slot| end(worker, slot)).0
        };
        let says =
            |answer: fn() -> Answer| move |worker: &Worker, _| worker.open_questions.answer(0, answer());
        for token in [&*jwt, "opaque-1"] {
            assert_eq!(kind(token, &says(|| Answer::Busy)), Some(Kind::Overloaded), "{token}");
            assert_eq!(kind(token, &out_of_time), Some(Kind::Overloaded), "{token}");
        }
        assert_eq!(kind(&jwt, &says(|| Answer::Known(false))), Some(Kind::Unauthenticated));
        assert_eq!(kind("opaque-1", &says(|| Answer::Introspected(None))), Some(Kind::Unauthenticated));
        assert_eq!(BUSY.wire().retry_after_seconds, 1);
    }

    #[test]
    fn a_call_that_has_ended_meanwhile_stays_ended() {
        let ask = async |worker: &Worker, slot| {
            worker.question(Asked::Catalogue { server: "up".into() }, slot, 0).await.is_none()
        };
        let killed = |worker: &Worker, slot| worker.watch.end(slot, Cause::Killed(None));
        assert_eq!(unanswered(ask, killed), (true, Some(Cause::Killed(None))));
    }
}
