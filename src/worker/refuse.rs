//! Answering a fault: the one place that turns it into bytes for the client.
//!
//! Not here: which fault it is. After the head of an answer has left there is nothing to say any more: the
//! connection is cut, visibly.

use crate::base::clock;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::http::fields::Known;
use crate::http::fields::Single;
use crate::http::request::Framing;
use crate::http::request::Method as HttpMethod;
use crate::mcp::envelope;
use crate::mcp::envelope::Method;
use crate::mcp::refusal;
use crate::mcp::refusal::Denial;
use crate::worker::Worker;
use crate::worker::body::Body;
use crate::worker::body::Chunks;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::denial;
use crate::worker::permit;
use crate::worker::relay;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;
use std::borrow::Cow;

/// Answers a head that could not be read; nothing after it is parsed.
pub async fn unread(worker: &Worker, client: &mut Client, exchange: &mut Exchange, fault: Fault) -> After {
    exchange.clear();
    exchange.begun = clock::now();
    exchange.record.trace_id = worker.new_trace_id();
    let after = answer(worker, client, exchange, fault).await;
    exchange.ended = clock::now();
    worker.record(exchange);
    after
}

/// Answers a fault of a call, and says what becomes of the connection.
pub async fn answer(worker: &Worker, client: &mut Client, exchange: &mut Exchange, fault: Fault) -> After {
    exchange.fault = Some(fault);
    denial::note_kill(worker, client.slot, exchange, fault);
    let closes = fault.wire().closes;
    let wire = Denial::wire(exchange.denial.as_deref(), fault);
    worker.metrics().refuse(fault.kind);
    if let Some(bound) = fault.bound {
        worker.metrics().hit(bound);
    }
    if exchange.answered {
        relay::cut(client, exchange);
        return After::Close;
    }
    if fault.kind == Kind::ClientGone {
        return After::Close;
    }
    if exchange.begun == clock::Moment::ZERO {
        exchange.begun = clock::now();
    }
    if exchange.upstream_began != clock::Moment::ZERO && exchange.upstream_ended == clock::Moment::ZERO {
        // The upstream had the call all the while.
        exchange.waited_ns += clock::now().nanos_since(exchange.upstream_began);
    }
    exchange.record.status = wire.status;
    exchange.record.code = wire.code;
    exchange.record.reason = fault.wire().reason;
    if let Some(denial) = &exchange.denial {
        exchange.record.rule.set(&denial.rule);
    }
    permit::give_back_unsent(worker, exchange);
    take_small_body(worker, client, exchange, closes).await;
    let rest = unread_rest(client, exchange);
    let keep = !closes
        && rest.is_some()
        && exchange.head.is_some_and(|head| head.keep_alive)
        && !worker.is_draining();
    let body = render(client, exchange, fault);
    exchange.record.bytes_out = body.len() as u64;
    write_head(exchange, fault, body.len(), !keep);
    let whole = exchange.head.is_none_or(|head| head.method != HttpMethod::Head);
    let mut out = std::mem::take(&mut exchange.out);
    if whole {
        out.extend_from_slice(&body);
    }
    let now = clock::now();
    let stall = now.plus_millis(worker.adopt().plan.http.header_timeout_ms);
    worker.watch.enter(client.slot, Phase::Client, now, stall);
    let written = client.stream.write_all(&out).await;
    exchange.out = out;
    match (written, rest) {
        (Err(_), _) => After::Close,
        (Ok(()), Some(next)) if keep => {
            client.advance(next);
            After::Keep
        }
        (Ok(()), _) => After::Linger,
    }
}

/// Where the next request begins, if this one's body needs no more reading; none where it does.
fn unread_rest(client: &Client, exchange: &Exchange) -> Option<usize> {
    if exchange.moved_on {
        return Some(client.start);
    }
    if exchange.next.is_some() {
        return exchange.next;
    }
    let head = exchange.head?;
    let begin = client.start + head.len as usize;
    match head.framing {
        Framing::None => Some(begin),
        // A client that waits to be asked must not be left guessing whether its body will be read.
        Framing::Length(_) if head.expect_continue => None,
        Framing::Length(length) => {
            let end = begin.checked_add(usize::try_from(length).ok()?)?;
            (end <= client.end).then_some(end)
        }
        Framing::Chunked => None,
    }
}

/// The JSON-RPC error with the caller's id, where its bytes are at hand.
fn render(client: &Client, exchange: &Exchange, fault: Fault) -> Vec<u8> {
    let mut body = Vec::new();
    let call = exchange.call;
    // Clients take an error here for a server of the older revisions and remember it: say nothing.
    if fault.wire().status >= 500 && call.is_some_and(|call| call.method == Method::Discover) {
        return body;
    }
    let text = client.input.get(exchange.body.clone()).unwrap_or_default();
    let id = envelope::raw_id(text).and_then(|range| text.get(range));
    let requested = requested_revision(client, exchange);
    let caller = refusal::Caller { id, trace_id: &exchange.record.trace_id, requested: requested.as_deref() };
    refusal::render(&mut body, fault, exchange.denial.as_deref(), &caller);
    body
}

/// The revision that the request asked for: where an unknown one is refused, header and body name the same.
fn requested_revision<'a>(client: &'a Client, exchange: &Exchange) -> Option<Cow<'a, str>> {
    let source = client.input.get(client.start..client.end)?;
    match exchange.fields.single(Known::ProtocolVersion) {
        // Bytes above ASCII may stand in a field without being UTF-8; JSON takes none that are not.
        Single::One(value) => Some(String::from_utf8_lossy(value.of(source))),
        Single::Missing | Single::Twice => None,
    }
}

/// A refusal that comes before the body was read names the caller's id all the same, where the body is small
/// and on its way: without it clients cannot tell which call was refused.
async fn take_small_body(worker: &Worker, client: &mut Client, exchange: &mut Exchange, closes: bool) {
    let Some(head) = exchange.head else { return };
    if closes || exchange.moved_on || exchange.body_begun || head.expect_continue {
        return;
    }
    let now = clock::now();
    // One deadline for all of it: a stranger's body may not dribble in.
    let deadline = now.plus_millis(worker.adopt().plan.http.header_timeout_ms);
    worker.watch.enter(client.slot, Phase::Body, now, deadline);
    let begin = client.start + head.len as usize;
    match head.framing {
        Framing::None => {}
        Framing::Length(length) => {
            let length = usize::try_from(length).ok();
            if let Some(end) = length.and_then(|length| begin.checked_add(length))
                && receive_until(client, end).await
            {
                exchange.body = begin..end;
            }
        }
        Framing::Chunked => {
            if let Some(body) = receive_chunks(client, begin).await {
                exchange.body = body.bytes;
                exchange.next = Some(body.next);
            }
        }
    }
}

/// Whether the input reaches so far, in the room that there is.
async fn receive_until(client: &mut Client, end: usize) -> bool {
    while client.end < end {
        if end > client.input.len() || client.receive().await == 0 {
            return false;
        }
    }
    true
}

/// A whole chunked body, in the room that there is.
async fn receive_chunks(client: &mut Client, begin: usize) -> Option<Body> {
    let mut chunks = Chunks::new(begin);
    loop {
        if let Some(body) = chunks.decode(client).ok()? {
            return Some(body);
        }
        if client.end == client.input.len() || client.receive().await == 0 {
            return None;
        }
    }
}

fn write_head(exchange: &mut Exchange, fault: Fault, length: usize, close: bool) {
    let wire = Denial::wire(exchange.denial.as_deref(), fault);
    let own = clock::now().nanos_since(exchange.begun).saturating_sub(exchange.waited_ns);
    let out = &mut exchange.out;
    out.clear();
    crate::http::write::status_line(out, wire.status);
    if length > 0 {
        out.extend_from_slice(b"Content-Type: application/json\r\n");
    }
    match fault.kind {
        Kind::MethodNotAllowed => out.extend_from_slice(b"Allow: GET, POST, DELETE\r\n"),
        Kind::Unauthenticated | Kind::InsufficientScope => {
            let challenge = exchange.denial.as_ref().map_or("", |denial| &denial.challenge);
            let challenge = if challenge.is_empty() { "Bearer realm=\"ringgate\"" } else { challenge };
            out.extend_from_slice(b"WWW-Authenticate: ");
            out.extend_from_slice(challenge.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        _ => {}
    }
    if wire.retry_ms > 0 {
        out.extend_from_slice(b"Retry-After: ");
        out.extend_from_slice(itoa::Buffer::new().format(wire.retry_seconds()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(&exchange.own_lines);
    crate::http::write::server_timing(out, own);
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(if close { b"\r\nConnection: close\r\n\r\n" } else { b"\r\n\r\n" });
}
