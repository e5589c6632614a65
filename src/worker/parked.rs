//! Calls that wait on their worker for the answer to a question: of older servers whose streams have no event ids, so that
//! nobody could go on elsewhere (2025-11-25, transports, "Resumability and Redelivery"). The stream stays here; whoever
//! brings the answer is told what comes of it, message by message.
//!
//! Not here: calls that go on by event ids, which wait nowhere (`bridge`). A call that waits has a place and a time.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::handoff::Letter;
use crate::http::chunked::Decoder;
use crate::mcp::crossing::stream::Messages;
use crate::upstream::pool::Lease;
use crate::worker::Worker;
use crate::worker::bridge;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::dispatch;
use crate::worker::outlet;
use crate::worker::relay;
use crate::worker::relay::Rest;
use crate::worker::relay::Step;
use crate::worker::start;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;
use ahash::HashMap;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;
use std::task::Waker;

const GONE: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The call that your answer is for does not wait any more, or waits at another gateway; call again.",
);
const FULL: Fault = Fault::new(Kind::Overloaded, "Too many calls wait for answers; retry later.");
const CUT: Fault = Fault::new(Kind::UpstreamProtocol, "The server behind this endpoint cut its answer.");

/// Where a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub worker: usize,
    pub number: u64,
}

/// What one worker knows of such calls: those that wait here, and those whose answers are brought here.
#[derive(Default)]
pub struct Parked {
    /// By number: who listens to a call that waits here, once somebody does.
    calls: RefCell<HashMap<u64, Call>>,
    /// By ticket: what has come of a call that waits somewhere.
    heard: RefCell<HashMap<u64, Heard>>,
}

#[derive(Default)]
struct Call {
    /// Worker and ticket.
    listener: Option<(usize, u64)>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Heard {
    messages: VecDeque<Box<[u8]>>,
    ended: bool,
    waker: Option<Waker>,
}

/// A stream that is kept open.
pub struct Stream {
    pub lease: Lease,
    pub rest: Rest,
    /// What has come and was not looked at.
    pub bytes: Vec<u8>,
    pub messages: Messages,
}

/// A place for a call.
///
/// # Errors
/// 503 where all are taken.
pub fn reserve(worker: &Worker) -> Result<Place, Fault> {
    let mut calls = worker.parked.calls.borrow_mut();
    if calls.len() >= limits::PARKED_CALLS_MAX {
        return Err(FULL);
    }
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| FULL)?;
    let number = u64::from_le_bytes(random);
    calls.insert(number, Call::default());
    Ok(Place { worker: worker.index, number })
}

/// Gives a place back that no stream came to.
pub fn give_up(worker: &Worker, place: Place) {
    worker.parked.calls.borrow_mut().remove(&place.number);
}

/// Keeps a stream in its place until its time is over or it ends.
pub fn keep(worker: &Rc<Worker>, place: Place, stream: Stream) {
    let worker = Rc::clone(worker);
    monoio::spawn(start::guard(move || async move {
        let now = clock::now();
        let until = now.plus_millis(limits::QUESTION_SECONDS_MAX * 1_000);
        // The watch ends the wait by shutting the socket down.
        let slot = worker.watch.register(stream.lease.stream.fd(), now, until);
        worker.watch.enter(slot, Phase::Handshake, now, until);
        attend(&worker, place.number, stream).await;
        worker.watch.remove(slot);
        let call = worker.parked.calls.borrow_mut().remove(&place.number);
        if let Some((to, ticket)) = call.and_then(|call| call.listener) {
            say(&worker, to, Letter::Said { ticket, message: None });
        }
    }));
}

/// Gives on what the server says, as soon as somebody listens.
async fn attend(worker: &Worker, number: u64, mut stream: Stream) {
    loop {
        let mut events = Vec::new();
        let mut bytes = std::mem::take(&mut stream.bytes);
        let done = stream.rest.decode(&mut bytes, |piece| stream.messages.feed(piece, &mut events).is_ok());
        for event in events {
            let Some((to, ticket)) = listener(worker, number).await else { return };
            say(worker, to, Letter::Said { ticket, message: Some(event.data.into()) });
        }
        if done {
            return;
        }
        match stream.lease.stream.receive(&worker.buffers).await {
            Ok(Some(arrived)) => {
                let came = arrived.buffer.get(arrived.start..arrived.end).unwrap_or_default();
                stream.bytes.extend_from_slice(came);
                worker.buffers.give_back(arrived.buffer);
            }
            _ => return,
        }
    }
}

/// Waits until somebody listens to a call; none: its place is gone.
async fn listener(worker: &Worker, number: u64) -> Option<(usize, u64)> {
    std::future::poll_fn(|cx| {
        let mut calls = worker.parked.calls.borrow_mut();
        let Some(call) = calls.get_mut(&number) else { return Poll::Ready(None) };
        match call.listener {
            Some(listener) => Poll::Ready(Some(listener)),
            None => {
                call.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

/// Posts a letter, to this worker as to any other.
fn say(worker: &Worker, to: usize, letter: Letter) {
    if worker.shared.posts.get(to).is_some_and(|post| post.mailbox.post(letter).is_err()) {
        worker.metrics().hit(Bound::Mailbox);
    }
}

/// Somebody wants to hear a call that waits here.
pub fn listen(worker: &Worker, number: u64, from: usize, ticket: u64) {
    let mut calls = worker.parked.calls.borrow_mut();
    let Some(call) = calls.get_mut(&number) else {
        drop(calls);
        return say(worker, from, Letter::Said { ticket, message: None });
    };
    call.listener = Some((from, ticket));
    if let Some(waker) = call.waker.take() {
        waker.wake();
    }
}

/// A message of a call that waits somewhere; none: it is over.
pub fn hear(worker: &Worker, ticket: u64, message: Option<Box<[u8]>>) {
    let mut all = worker.parked.heard.borrow_mut();
    let Some(heard) = all.get_mut(&ticket) else { return };
    match message {
        Some(message) if heard.messages.len() < limits::PARKED_MESSAGES_MAX => {
            heard.messages.push_back(message)
        }
        // It cannot be whole any more.
        _ => heard.ended = true,
    }
    if let Some(waker) = heard.waker.take() {
        waker.wake();
    }
}

/// Hears a call that waits, from the answer on that was brought to it.
///
/// # Errors
/// 503 where it waits no more.
pub async fn go_on(
    worker: &Rc<Worker>,
    client: &mut Client,
    exchange: &mut Exchange,
    place: Place,
) -> Result<After, Fault> {
    let ticket = worker.next_request_id();
    worker.parked.heard.borrow_mut().insert(ticket, Heard::default());
    let listening = Listening { worker, ticket };
    say(worker, place.worker, Letter::Listen { number: place.number, from: worker.index, ticket });
    relay::send_notes(worker, exchange).await;
    let total = exchange.begun.plus_millis(exchange.timeouts.total_ms);
    let mut first = true;
    loop {
        let asks = exchange.crossing.as_ref().is_some_and(|crossing| !crossing.asked.is_empty());
        let now = worker.coarse_now();
        worker.watch.enter(client.slot, Phase::Room, now, total);
        let pause_ms = if asks { limits::QUESTION_SILENCE_MS } else { limits::STREAM_COMMENT_MS_DEFAULT };
        worker.watch.nudge_at(client.slot, now.plus_millis(pause_ms));
        let news = listening.next(client.slot).await;
        if let Some(cause) = worker.watch.cause(client.slot) {
            return Err(dispatch::timeout(cause));
        }
        match news {
            News::Ended if first => return Err(GONE),
            News::Ended => return Err(CUT),
            News::Silence if asks => {
                let message = bridge::ask(worker, client, exchange, Some(place))?;
                outlet::open(worker, client, exchange).await?;
                outlet::send(worker, client, exchange, &message).await?;
                return outlet::end(worker, client, exchange).await;
            }
            News::Silence => outlet::comment(worker, client, exchange).await?,
            News::Said(message) => {
                first = false;
                let (step, message) = relay::see(worker, exchange, &message, b"")?;
                if let Some(message) = message {
                    outlet::open(worker, client, exchange).await?;
                    outlet::send(worker, client, exchange, &message).await?;
                }
                if let Step::Answered = step {
                    return outlet::end(worker, client, exchange).await;
                }
            }
        }
    }
}

enum News {
    Said(Box<[u8]>),
    Ended,
    Silence,
}

/// Who hears a call. Forgotten with it.
struct Listening<'w> {
    worker: &'w Worker,
    ticket: u64,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.worker.parked.heard.borrow_mut().remove(&self.ticket);
    }
}

impl Listening<'_> {
    async fn next(&self, slot: usize) -> News {
        std::future::poll_fn(|cx| {
            let mut all = self.worker.parked.heard.borrow_mut();
            let Some(heard) = all.get_mut(&self.ticket) else { return Poll::Ready(News::Ended) };
            if let Some(message) = heard.messages.pop_front() {
                return Poll::Ready(News::Said(message));
            }
            if heard.ended {
                return Poll::Ready(News::Ended);
            }
            heard.waker = Some(cx.waker().clone());
            if self.worker.watch.poll_nudge(slot, cx.waker()) {
                Poll::Ready(News::Silence)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

impl Rest {
    /// Takes the payload out of what came; whether that was all. `take` says whether to go on.
    fn decode(&mut self, bytes: &mut [u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let mut at = 0;
        loop {
            let came = bytes.get_mut(at..).unwrap_or_default();
            let (payload, used, done) = match self {
                Self::Bytes(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(came.len());
                    *left -= length as u64;
                    (length, length, *left == 0)
                }
                Self::Chunks(decoder) => {
                    let decoder: &mut Decoder = decoder;
                    // What breaks the framing ends it.
                    let Ok(step) = decoder.decode(came) else { return true };
                    (step.payload, step.consumed, step.done)
                }
                Self::UntilClose => (came.len(), came.len(), false),
            };
            if !take(came.get(..payload).unwrap_or_default()) || done {
                return true;
            }
            at += used;
            if used == 0 || at >= bytes.len() {
                return false;
            }
        }
    }
}
