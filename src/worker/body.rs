//! Reading a request body whole: policy reads it, so nothing of a call leaves before the last byte came.
//!
//! Not here: what the bytes mean. Lengths are limited before a byte is read, chunked bodies at the byte that
//! passes the limit.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::http::chunked::ChunkLimits;
use crate::http::chunked::Decoder;
use crate::http::chunked::Side;
use crate::http::request::Framing;
use crate::http::request::RequestHead;
use crate::http::write;
use crate::worker::Worker;
use crate::worker::client::Client;
use crate::worker::watch::Cause;
use crate::worker::watch::Phase;
use std::ops::Range;

/// Where a body lies in the client's input, and where the next request begins.
#[derive(Clone, Debug)]
pub struct Body {
    pub bytes: Range<usize>,
    pub next: usize,
}

/// Bounds of a chunked body's framing, the same for both directions.
pub const CHUNK_LIMITS: ChunkLimits = ChunkLimits {
    line_bytes: limits::CHUNK_LINE_BYTES_MAX,
    extension_bytes: limits::CHUNK_EXTENSION_BYTES_MAX,
    trailer_bytes: limits::TRAILER_BYTES_MAX,
    trailer_fields: limits::TRAILER_FIELDS_MAX,
};

const TOO_LARGE: Fault = Fault::new(
    Kind::BodyTooLarge,
    "The request body is larger than this gateway accepts; send less or ask the operator to raise http.maxBody.",
)
.at(Bound::Body);
const LEFT: Fault = Fault::new(Kind::ClientGone, "The client left before the body was whole.");
const SLOW: Fault =
    Fault::new(Kind::BodyTimeout, "The request body did not arrive in time; send it at once.");
const NO_ROOM: Fault = Fault::new(
    Kind::Overloaded,
    "The gateway holds as many request bytes as it may; retry later or send a smaller request.",
)
.at(Bound::BodyBudget);

/// Reads the body of `head`.
///
/// # Errors
/// 413 past `max_body`, 408 on silence, 503 where the worker's budget stays used up, 400 for bad chunks.
pub async fn read(
    worker: &Worker,
    client: &mut Client,
    head: &RequestHead,
    max_body: usize,
) -> Result<Body, Fault> {
    let begin = client.start + head.len as usize;
    match head.framing {
        Framing::None => Ok(Body { bytes: begin..begin, next: begin }),
        Framing::Length(length) => {
            let length =
                usize::try_from(length).ok().filter(|length| *length <= max_body).ok_or(TOO_LARGE)?;
            let end = begin + length;
            if end > client.end {
                invite(client, head).await?;
            }
            while client.end < end {
                if client.end >= client.input.len().min(end) {
                    // Room comes with the bytes: who only announces a large body takes no room from others.
                    let room = (client.input.len() * 2).max(limits::RELAY_BUFFER_BYTES);
                    make_room(worker, client, end.min(room)).await?;
                }
                more(worker, client).await?;
            }
            Ok(Body { bytes: begin..end, next: end })
        }
        Framing::Chunked => chunked(worker, client, head, max_body).await,
    }
}

async fn chunked(
    worker: &Worker,
    client: &mut Client,
    head: &RequestHead,
    max_body: usize,
) -> Result<Body, Fault> {
    let begin = client.start + head.len as usize;
    let mut chunks = Chunks::new(begin);
    if client.end == begin {
        invite(client, head).await?;
    }
    loop {
        let body = chunks.decode(client)?;
        if chunks.decoded - begin > max_body {
            return Err(TOO_LARGE);
        }
        if let Some(body) = body {
            return Ok(body);
        }
        if client.end == client.input.len() {
            let doubled = client.input.len() * 2;
            make_room(worker, client, doubled.min(begin + max_body + CHUNK_LIMITS.line_bytes)).await?;
            if client.end == client.input.len() {
                return Err(TOO_LARGE);
            }
        }
        more(worker, client).await?;
    }
}

/// A chunked body that is decoded where it lies.
pub struct Chunks {
    decoder: Decoder,
    begin: usize,
    /// Where what is decoded ends.
    decoded: usize,
}

impl Chunks {
    /// `begin`: where the body begins in the client's input.
    pub fn new(begin: usize) -> Self {
        Self { decoder: Decoder::new(CHUNK_LIMITS, Side::Request), begin, decoded: begin }
    }

    /// Decodes what has come; the body where that is all of it.
    ///
    /// # Errors
    /// 400 for bad chunks.
    pub fn decode(&mut self, client: &mut Client) -> Result<Option<Body>, Fault> {
        let step = self.decoder.decode(&mut client.input[self.decoded..client.end])?;
        let raw = self.decoded + step.consumed;
        self.decoded += step.payload;
        if step.done {
            return Ok(Some(Body { bytes: self.begin..self.decoded, next: raw }));
        }
        // What is left of the raw bytes follows the decoded ones.
        client.input.copy_within(raw..client.end, self.decoded);
        client.end -= raw - self.decoded;
        Ok(None)
    }
}

/// Asks for the body where the client waits to be asked (RFC 9110 section 10.1.1).
async fn invite(client: &mut Client, head: &RequestHead) -> Result<(), Fault> {
    if head.expect_continue {
        client.stream.write_all(write::CONTINUE).await.map_err(|_| LEFT)?;
    }
    Ok(())
}

async fn more(worker: &Worker, client: &mut Client) -> Result<(), Fault> {
    let now = clock::now();
    worker.watch.enter(client.slot, Phase::Body, now, now.plus_millis(limits::BODY_TIMEOUT_MS_DEFAULT));
    if client.receive().await > 0 {
        return Ok(());
    }
    Err(match worker.watch.cause(client.slot) {
        Some(Cause::BodyTimeout | Cause::TotalTimeout) => SLOW,
        _ => LEFT,
    })
}

/// Room for `bytes` of input.
async fn make_room(worker: &Worker, client: &mut Client, bytes: usize) -> Result<(), Fault> {
    room(worker, client.slot, &mut client.reserved, bytes).await?;
    client.grow(bytes);
    Ok(())
}

/// Takes room for `bytes` from the worker's budget where it is more than a pooled buffer. `reserved` is what was taken
/// before; the caller gives it back.
///
/// # Errors
/// 503 where the budget stays used up.
pub async fn room(worker: &Worker, slot: usize, reserved: &mut usize, bytes: usize) -> Result<(), Fault> {
    if bytes <= limits::BUFFER_BYTES || bytes <= *reserved {
        return Ok(());
    }
    let wanted = bytes - *reserved;
    if !worker.budget.take(wanted) {
        let now = clock::now();
        worker.watch.enter(slot, Phase::Room, now, now.plus_millis(limits::BODY_BUDGET_WAIT_MS));
        if !worker.budget.wait(wanted, |waker| worker.watch.poll_nudge(slot, waker)).await {
            return Err(NO_ROOM);
        }
    }
    *reserved += wanted;
    Ok(())
}
