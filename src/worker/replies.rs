//! Questions that the gateway puts to older clients, because a server of 2026-07-28 wants input, and their answers: these
//! come in requests of their own, at any worker.
//!
//! Not here: the messages (`mcp::crossing::questions`).

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::handoff::Letter;
use crate::mcp::crossing::questions;
use crate::mcp::crossing::questions::Answer;
use crate::mcp::crossing::questions::Answered;
use crate::worker::Worker;
use crate::worker::bridge::Next;
use crate::worker::client::Client;
use crate::worker::dispatch;
use crate::worker::outlet;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;
use ahash::HashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;
use std::task::Waker;

/// Questions of one worker that wait for their answers.
#[derive(Default)]
pub struct Replies(RefCell<HashMap<u64, Waiting>>);

struct Waiting {
    /// Whose answer it is.
    session: [u8; 8],
    answer: Option<Box<[u8]>>,
    waker: Option<Waker>,
}

const UNFIT: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint asks something that no client can be asked; tell the operator.",
);
const UNABLE: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint asks what your client did not say that it can be asked; declare that capability.",
);
const TOO_MANY: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint asks too much at once, or again and again; tell the operator.",
);
const FULL: Fault =
    Fault::new(Kind::Overloaded, "Too many questions to clients wait for answers; retry later.");
const NO_ANSWER: Fault =
    Fault::new(Kind::UpstreamProtocol, "The answer to the server's question is none that it could be given.");
/// What ids of our questions begin with.
const MARK: &str = "ringgate~";

/// Asks the client what a server wants to know, and makes of its answers the call that is sent again.
///
/// # Errors
/// Why the call cannot go on.
pub async fn answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    exchange: &mut Exchange,
    result: &str,
) -> Result<Next, Fault> {
    let wanted = questions::parse_input_required(result).map_err(|_| UNFIT)?;
    let Some(crossing) = &mut exchange.crossing else { return Err(UNFIT) };
    crossing.round += 1;
    if crossing.round > limits::QUESTION_ROUNDS_MAX || wanted.questions.len() > limits::QUESTIONS_MAX {
        return Err(TOO_MANY);
    }
    let (session, able) = exchange.own.as_ref().map(|own| (own.number, own.abilities)).ok_or(UNFIT)?;
    if wanted.questions.iter().any(|(_, question)| !able.allow(question.method, question.params)) {
        return Err(UNABLE);
    }
    outlet::open(worker, client, exchange).await?;
    let mut asked = Asking { worker, numbers: Vec::new() };
    for (_, question) in &wanted.questions {
        let number = asked.register(session)?;
        let id = format!("\"{MARK}{}~{number:x}\"", worker.index);
        let message = questions::question(&id, question).map_err(|_| UNFIT)?;
        outlet::send(worker, client, exchange, &message).await?;
    }
    asked.wait(client, exchange).await?;
    let said = asked.take();
    let mut answered = Vec::new();
    for ((key, question), message) in wanted.questions.iter().zip(&said) {
        let answer: Answer<'_> = questions::answer(message).map_err(|_| NO_ANSWER)?;
        answered.push(Answered { key, method: question.method, answer });
    }
    match questions::answers(&answered, wanted.state) {
        Ok(params) => {
            let message = client.input.get(exchange.body.clone()).unwrap_or_default();
            let Some(mut crossing) = exchange.crossing.take() else { return Err(UNFIT) };
            let spoken = crossing.speak_again(worker, exchange, message, &params);
            exchange.crossing = Some(crossing);
            spoken.map(|()| Next::Again)
        }
        Err(error) => {
            // The client does not answer, and there is no way to say so to the server.
            let id =
                exchange.crossing.as_ref().map(|crossing| crossing.client_id.clone()).unwrap_or_default();
            let message = questions::failure(&id, error);
            outlet::send(worker, client, exchange, &message).await?;
            outlet::end(worker, client, exchange).await.map(Next::Done)
        }
    }
}

/// Questions of one call. Forgotten with it.
struct Asking<'w> {
    worker: &'w Rc<Worker>,
    numbers: Vec<u64>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut waiting = self.worker.replies.0.borrow_mut();
        for number in &self.numbers {
            waiting.remove(number);
        }
    }
}

impl Asking<'_> {
    /// A number for one more question, that nobody can guess.
    fn register(&mut self, session: [u8; 8]) -> Result<u64, Fault> {
        let mut waiting = self.worker.replies.0.borrow_mut();
        if waiting.len() >= limits::REPLIES_MAX {
            return Err(FULL.at(Bound::Mailbox));
        }
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| FULL)?;
        let number = u64::from_le_bytes(random);
        waiting.insert(number, Waiting { session, answer: None, waker: None });
        self.numbers.push(number);
        Ok(number)
    }

    /// Waits until all are answered, with a comment now and then.
    async fn wait(&self, client: &mut Client, exchange: &Exchange) -> Result<(), Fault> {
        let worker = self.worker;
        let comment_ms = worker.adopt().plan.http.stream_comment_ms;
        loop {
            let now = worker.coarse_now();
            let total = exchange.begun.plus_millis(exchange.timeouts.total_ms);
            worker.watch.enter(client.slot, Phase::Room, now, total);
            if comment_ms > 0 {
                worker.watch.nudge_at(client.slot, now.plus_millis(comment_ms));
            }
            let slot = client.slot;
            let all = std::future::poll_fn(|cx| {
                if self.numbers.iter().all(|number| worker.replies.look(*number, cx.waker())) {
                    return Poll::Ready(true);
                }
                if worker.watch.poll_nudge(slot, cx.waker()) { Poll::Ready(false) } else { Poll::Pending }
            })
            .await;
            if let Some(cause) = worker.watch.cause(client.slot) {
                return Err(dispatch::timeout(cause));
            }
            if all {
                return Ok(());
            }
            outlet::comment(worker, client, exchange).await?;
        }
    }

    /// The answers, in the order of the questions.
    fn take(&self) -> Vec<Box<[u8]>> {
        let mut waiting = self.worker.replies.0.borrow_mut();
        let answers = self.numbers.iter().map(|number| waiting.remove(number).and_then(|one| one.answer));
        answers.map(Option::unwrap_or_default).collect()
    }
}

impl Replies {
    /// Whether a question is answered; whoever waits is woken when it is.
    fn look(&self, number: u64, waker: &Waker) -> bool {
        let mut waiting = self.0.borrow_mut();
        match waiting.get_mut(&number) {
            Some(one) if one.answer.is_none() => {
                one.waker = Some(waker.clone());
                false
            }
            _ => true,
        }
    }

    /// Takes an answer; false where nobody of this session waits for it.
    pub fn take(&self, session: [u8; 8], number: u64, message: Box<[u8]>) -> bool {
        let mut waiting = self.0.borrow_mut();
        let Some(one) = waiting.get_mut(&number).filter(|one| one.session == session) else { return false };
        one.answer.get_or_insert(message);
        if let Some(waker) = one.waker.take() {
            waker.wake();
        }
        true
    }
}

/// Gives a client's response to the call that waits for it. False: it answers no question of ours.
pub fn hand_on(worker: &Worker, session: [u8; 8], id: &str, message: &[u8]) -> bool {
    let Some((index, number)) = id.strip_prefix(MARK).and_then(|rest| rest.split_once('~')) else {
        return false;
    };
    let (Ok(index), Ok(number)) = (index.parse::<usize>(), u64::from_str_radix(number, 16)) else {
        return false;
    };
    if index == worker.index {
        worker.replies.take(session, number, message.into());
    } else if let Some(post) = worker.shared.posts.get(index) {
        let letter = Letter::Reply { session, question: number, message: message.into() };
        if post.mailbox.post(letter).is_err() {
            worker.metrics().hit(Bound::Mailbox);
        }
    }
    true
}
