//! An event stream to a client that the gateway writes itself: message by message, with comments while nothing comes.
//!
//! Not here: what is said, and streams that pass as they are (`relay`). Until a stream ends, the request that it answers
//! stays in the client's input: what the call still needs of it is there.

use crate::base::clock;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::http::response::AnswerFraming;
use crate::http::sse;
use crate::http::write;
use crate::http::write::AnswerHead;
use crate::http::write::BodyForm;
use crate::mcp::crossing::stream;
use crate::mcp::refusal;
use crate::worker::Worker;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::denial;
use crate::worker::reply;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;

/// A stream whose head has left.
#[derive(Clone, Copy, Debug)]
pub struct Outlet {
    pub form: BodyForm,
    pub closing: bool,
}

const LEFT: Fault = Fault::new(Kind::ClientGone, "The client left before the answer was whole.");
pub const CUT: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The operator of this gateway cuts answers on purpose; this is one of them.",
);
/// Not to be kept on the way, nor collected before it is passed on.
const FIELDS: &[u8] =
    b"Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n";

/// Sends the head, where it has not left yet.
///
/// # Errors
/// `ClientGone`.
pub async fn open(worker: &Worker, client: &mut Client, exchange: &mut Exchange) -> Result<Outlet, Fault> {
    if let Some(open) = exchange.outlet {
        return Ok(open);
    }
    let Some(request) = exchange.head else { return Err(LEFT) };
    let form = BodyForm::relaying(AnswerFraming::Chunked, request.version);
    let closing = !request.keep_alive || form == BodyForm::UntilClose || worker.is_draining();
    let own = clock::now().nanos_since(exchange.begun).saturating_sub(exchange.waited_ns);
    exchange.own_lines.extend_from_slice(FIELDS);
    let head = AnswerHead { status: 200, body: form, close: closing, version: request.version };
    let lines = write::Own { lines: &exchange.own_lines, nanos: Some(own) };
    let mut out = std::mem::take(&mut exchange.out);
    out.clear();
    write::answer_head(&mut out, head, b"", std::iter::empty(), lines);
    exchange.record.status = 200;
    exchange.answered = true;
    exchange.stream_id = reply::id(client, exchange);
    let open = Outlet { form, closing };
    exchange.outlet = Some(open);
    let sent = deliver(worker, client, &out).await;
    exchange.out = out;
    sent.map(|()| open)
}

/// Sends one message. Of a stream that the operator wants cut, the head is all that leaves.
///
/// # Errors
/// `ClientGone`, or the cut.
pub async fn send(
    worker: &Worker,
    client: &mut Client,
    exchange: &mut Exchange,
    message: &[u8],
) -> Result<(), Fault> {
    send_event(worker, client, exchange, (message, b"")).await
}

/// The same, of which the client is told an id; empty: none.
///
/// # Errors
/// As `send`.
pub async fn send_event(
    worker: &Worker,
    client: &mut Client,
    exchange: &mut Exchange,
    (message, id): (&[u8], &[u8]),
) -> Result<(), Fault> {
    let Some(outlet) = exchange.outlet else { return Err(LEFT) };
    if exchange.cut_answer {
        return Err(CUT);
    }
    let mut text = Vec::with_capacity(message.len() + id.len() + 64);
    stream::event(message, id, &mut text);
    exchange.record.bytes_out += text.len() as u64;
    exchange.payload_bytes += message.len() as u64;
    deliver(worker, client, &outlet.framed(&text)).await
}

/// Shows that the stream is still there.
///
/// # Errors
/// `ClientGone`.
pub async fn comment(worker: &Worker, client: &mut Client, exchange: &Exchange) -> Result<(), Fault> {
    let Some(outlet) = exchange.outlet else { return Ok(()) };
    worker.metrics().stream_comments.add(1);
    deliver(worker, client, &outlet.framed(sse::COMMENT)).await
}

/// Ends the stream: it was whole.
///
/// # Errors
/// `ClientGone`.
pub async fn end(worker: &Worker, client: &mut Client, exchange: &mut Exchange) -> Result<After, Fault> {
    let Some(Outlet { form, closing }) = exchange.outlet else { return Err(LEFT) };
    if form == BodyForm::Chunked {
        deliver(worker, client, write::LAST_CHUNK).await?;
    }
    let_go(client, exchange);
    Ok(if closing { After::Linger } else { After::Keep })
}

/// The refusal as the stream's last message. Nothing waits for a client that takes nothing.
pub fn last_word(worker: &Worker, client: &mut Client, exchange: &mut Exchange, fault: Fault) -> After {
    denial::note_kill(worker, client.slot, exchange, fault);
    let Some(outlet) = exchange.outlet else { return After::Close };
    let id = Some(&*exchange.stream_id).filter(|id| !id.is_empty());
    let caller = refusal::Caller { id, trace_id: &exchange.record.trace_id, requested: None };
    let mut body = Vec::new();
    refusal::render(&mut body, fault, exchange.denial.as_deref(), &caller);
    let mut text = Vec::new();
    stream::event(&body, b"", &mut text);
    let mut last = outlet.framed(&text);
    if outlet.form == BodyForm::Chunked {
        // An error is a whole answer.
        last.extend_from_slice(write::LAST_CHUNK);
    }
    let _ = client.stream.write_now(&last);
    After::Linger
}

/// The request is done with: what came behind it is next.
pub fn let_go(client: &mut Client, exchange: &mut Exchange) {
    if let Some(next) = exchange.next.take() {
        client.advance(next);
        exchange.moved_on = true;
    }
}

impl Outlet {
    fn framed(self, text: &[u8]) -> Vec<u8> {
        if self.form != BodyForm::Chunked {
            return text.to_vec();
        }
        let mut prefix = [0; 18];
        let length = write::chunk_prefix(&mut prefix, text.len());
        [prefix.get(18 - length..).unwrap_or_default(), text, b"\r\n"].concat()
    }
}

async fn deliver(worker: &Worker, client: &mut Client, bytes: &[u8]) -> Result<(), Fault> {
    match client.stream.write_now(bytes) {
        Ok(written) if written == bytes.len() => return Ok(()),
        Ok(written) => return finish(worker, client, bytes.get(written..).unwrap_or_default()).await,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(_) => return Err(LEFT),
    }
    finish(worker, client, bytes).await
}

/// Waits for a client that takes its time, as long as clients may.
async fn finish(worker: &Worker, client: &mut Client, rest: &[u8]) -> Result<(), Fault> {
    let now = worker.coarse_now();
    let stall = now.plus_millis(worker.adopt().plan.http.idle_timeout_ms);
    worker.watch.enter(client.slot, Phase::Client, now, stall);
    client.stream.write_all(rest).await.map_err(|_| LEFT)
}
