//! The body of an answer on its way: read, framed in place, written, with the client's pace.
//!
//! Not here: the head, and how the answer ends for the connections (`relay`).

use crate::base::bound::Bound;
use crate::base::buffer::Arrived;
use crate::base::buffer::Buffer;
use crate::base::clock;
use crate::base::fault::Fault;
use crate::config::limits;
use crate::http::sse;
use crate::http::sse::EventBoundary;
use crate::http::write;
use crate::http::write::BodyForm;
use crate::mcp::refusal;
use crate::net::stream::Stream;
use crate::worker::Worker;
use crate::worker::denial;
use crate::worker::dispatch;
use crate::worker::relay::CUT;
use crate::worker::relay::LEFT;
use crate::worker::relay::NO_ANSWER;
use crate::worker::relay::Relay;
use crate::worker::relay::Rest;
use crate::worker::relay::hold::Hold;
use crate::worker::watch::Cause;
use crate::worker::watch::Phase;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;

/// Room for the line before a chunk.
pub(super) const CHUNK_PREFIX_BYTES: usize = 18;

impl Relay<'_> {
    /// What follows the first piece, to the end of the answer.
    pub(super) async fn rest(&mut self) -> Result<(), Fault> {
        while !self.step().await? {}
        Ok(())
    }

    /// One read and the write that follows from it; true when the answer is complete.
    async fn step(&mut self) -> Result<bool, Fault> {
        let long = matches!(self.rest, Rest::Bytes(left) if left > limits::BUFFER_BYTES as u64);
        // A TLS session holds as much again, so a small one has to do.
        let large = long && self.boundary.is_none() && !matches!(self.client.stream, Stream::Tls(_));
        if large {
            self.at = limits::HEADROOM_BYTES;
            self.end = limits::HEADROOM_BYTES;
            if self.buffer.len() < limits::RELAY_BUFFER_BYTES {
                self.give_back_buffer();
                self.buffer = self.worker.buffers.large();
            }
        } else {
            self.give_back_buffer();
        }
        if self.receive().await? == 0 {
            return match self.rest {
                Rest::UntilClose => {
                    if self.buffer.is_empty() {
                        self.buffer = self.worker.buffers.small();
                    }
                    let at = limits::HEADROOM_BYTES;
                    self.put(at..at, true, false).await?;
                    Ok(true)
                }
                _ => Err(CUT),
            };
        }
        let (piece, done) = self.take()?;
        self.put(piece, done, false).await?;
        self.enter(Phase::Relay);
        Ok(done)
    }

    pub(super) fn give_back_buffer(&mut self) {
        if !self.buffer.is_empty() {
            self.worker.buffers.give_back(std::mem::take(&mut self.buffer));
        }
        self.at = 0;
        self.end = 0;
    }

    /// Waits for an event stream to go on, and keeps it alive meanwhile.
    async fn quiet(&mut self) -> Result<io::Result<usize>, Fault> {
        loop {
            let at = self.worker.coarse_now().plus_millis(self.terms.comment_ms);
            self.worker.watch.nudge_at(self.client.slot, at);
            if let Some(came) = wait(self.worker, self.client.slot, &mut self.lease.stream).await {
                return Ok(came.map(|arrived| self.arrived(arrived)));
            }
            if self.cause().is_some() {
                return Ok(Ok(0));
            }
            // Inside an event no comment can tell.
            if self.worker.watch.client_left(self.client.slot) && !self.discarding {
                self.client_left()?;
            }
            self.comment().await?;
        }
    }

    async fn comment(&mut self) -> Result<(), Fault> {
        if !self.may_speak() {
            return Ok(());
        }
        self.worker.metrics().stream_comments.add(1);
        self.deliver(&self.framed(sse::COMMENT)).await
    }

    /// Whether something of ours may stand here: inside an event nothing may.
    fn may_speak(&self) -> bool {
        // Where events are held, none has passed in part.
        let between = matches!(self.hold, Hold::Events(_));
        !self.discarding && (between || self.boundary.as_ref().is_some_and(EventBoundary::at_boundary))
    }

    /// Text of ours, framed to stand between two events.
    fn framed(&self, text: &[u8]) -> Vec<u8> {
        let mut framed = [&[0; CHUNK_PREFIX_BYTES], text].concat();
        let begin = self.frame_behind(CHUNK_PREFIX_BYTES, &mut framed);
        framed.split_off(begin)
    }

    /// Frames what stands behind the first `front` bytes, which are free; where it begins now.
    pub(super) fn frame_behind(&self, front: usize, text: &mut Vec<u8>) -> usize {
        let length = text.len() - front;
        if self.form != BodyForm::Chunked || length == 0 {
            return front;
        }
        let mut prefix = [0; CHUNK_PREFIX_BYTES];
        let length = write::chunk_prefix(&mut prefix, length);
        // Callers leave room for a whole prefix.
        let begin = front - length;
        text[begin..front].copy_from_slice(&prefix[CHUNK_PREFIX_BYTES - length..]);
        text.extend_from_slice(b"\r\n");
        begin
    }

    /// The refusal as the stream's last message; where none may stand, the stream is cut visibly.
    /// Nothing waits for a client that takes nothing.
    pub(super) fn last_word(&mut self, fault: Fault) {
        if !self.exchange.answered || !self.may_speak() {
            return;
        }
        denial::note_kill(self.worker, self.client.slot, self.exchange, fault);
        let id = Some(&*self.exchange.stream_id).filter(|id| !id.is_empty());
        let caller = refusal::Caller { id, trace_id: &self.exchange.record.trace_id, requested: None };
        let mut event = b"event: message\ndata: ".to_vec();
        refusal::render(&mut event, fault, self.exchange.denial.as_deref(), &caller);
        event.extend_from_slice(b"\n\n");
        let mut last = self.framed(&event);
        if self.form == BodyForm::Chunked {
            // An error is a whole answer.
            last.extend_from_slice(write::LAST_CHUNK);
        }
        let _ = self.client.stream.write_now(&last);
    }

    /// Takes the next payload out of what came: where it lies, and whether it is the last.
    pub(super) fn take(&mut self) -> Result<(Range<usize>, bool), Fault> {
        let (piece, done) = self.decode()?;
        if !matches!(self.hold, Hold::Events(_)) {
            let buffer = std::mem::take(&mut self.buffer);
            self.note(&buffer[piece.clone()]);
            self.buffer = buffer;
        }
        Ok((piece, done))
    }

    /// The same, unseen.
    pub(super) fn decode(&mut self) -> Result<(Range<usize>, bool), Fault> {
        let came = self.at..self.end;
        let (payload, used, done) = match &mut self.rest {
            Rest::Bytes(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(came.len());
                *left -= length as u64;
                (length, length, *left == 0)
            }
            Rest::Chunks(decoder) => {
                let step = decoder.decode(&mut self.buffer[came.clone()])?;
                (step.payload, step.consumed, step.done)
            }
            Rest::UntilClose => (came.len(), came.len(), false),
        };
        let piece = came.start..came.start + payload;
        self.at = came.start + used;
        Ok((piece, done))
    }

    /// Notes what passes.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        self.scan.feed(bytes);
        if let Some(boundary) = &mut self.boundary {
            boundary.feed(bytes);
        }
        match &mut self.data {
            Some(data) => {
                data.feed(bytes);
                self.exchange.payload_bytes = data.bytes();
            }
            None => self.exchange.payload_bytes += bytes.len() as u64,
        }
    }

    /// Frames a piece in place and writes it: the head before it where it is the first.
    pub(super) async fn put(&mut self, piece: Range<usize>, done: bool, first: bool) -> Result<(), Fault> {
        if matches!(self.hold, Hold::Events(_)) {
            // Boxed: most answers are not held.
            return Box::pin(self.put_events(piece, done, first)).await;
        }
        let (mut begin, mut end) = (piece.start, piece.end);
        // What follows the payload is framing of ours; bytes behind a finished answer belong to nobody.
        if self.form == BodyForm::Chunked {
            if !piece.is_empty() {
                let mut prefix = [0; 18];
                let length = write::chunk_prefix(&mut prefix, piece.len());
                begin -= length;
                self.buffer[begin..piece.start].copy_from_slice(&prefix[18 - length..]);
                self.buffer[end..end + 2].copy_from_slice(b"\r\n");
                end += 2;
            }
            if done {
                self.buffer[end..end + write::LAST_CHUNK.len()].copy_from_slice(write::LAST_CHUNK);
                end += write::LAST_CHUNK.len();
            }
        }
        self.exchange.record.bytes_out += piece.len() as u64;
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = self.put_framed(buffer, begin..end, first, done).await?;
        Ok(())
    }

    async fn put_framed(
        &mut self,
        mut buffer: Buffer,
        range: Range<usize>,
        first: bool,
        done: bool,
    ) -> Result<Buffer, Fault> {
        let mut begin = range.start;
        if first {
            let head = self.exchange.out.len();
            match begin.checked_sub(head) {
                Some(before) => {
                    buffer[before..begin].copy_from_slice(&self.exchange.out);
                    begin = before;
                }
                None => {
                    let head = std::mem::take(&mut self.exchange.out);
                    let written = self.deliver(&head).await;
                    self.exchange.out = head;
                    written?;
                }
            }
        }
        if self.discarding {
            self.deliver(&buffer[begin..range.end]).await?;
            return Ok(buffer);
        }
        self.enter(Phase::Client);
        // An answer in one piece needs no look at how it leaves: it fits the socket's buffer, and the next use
        // of the connection tells what became of it.
        let short = range.len() <= limits::RELAY_BUFFER_BYTES;
        let (written, buffer) = if first && done && short && !self.closing {
            self.client.stream.write_behind(buffer, begin..range.end).await
        } else {
            self.client.stream.write(buffer, begin..range.end).await
        };
        match written {
            Ok(()) => Ok(buffer),
            Err(_) => {
                self.buffer = buffer;
                self.client_left()?;
                Ok(std::mem::take(&mut self.buffer))
            }
        }
    }

    /// Writes to the client; a client that takes nothing more stops the reading with it (back-pressure).
    pub(super) async fn deliver(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.discarding {
            self.discarded += bytes.len() as u64;
            let over = self.discarded > limits::ABANDONED_ANSWER_BYTES_MAX;
            return if over { Err(LEFT.at(Bound::AbandonedAnswer)) } else { Ok(()) };
        }
        let rest = match self.client.stream.write_now(bytes) {
            Ok(written) if written == bytes.len() => return Ok(()),
            Ok(written) => &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => bytes,
            Err(_) => return self.client_left(),
        };
        self.enter(Phase::Client);
        match self.client.stream.write_all(rest).await {
            Ok(()) => {
                self.enter(Phase::Relay);
                Ok(())
            }
            Err(_) => self.client_left(),
        }
    }

    /// The client is gone: a modern call ends with it; an older one is drained within bounds, because a
    /// disconnect there is no cancellation (2025-11-25, transports, "Sending Messages").
    pub(super) fn client_left(&mut self) -> Result<(), Fault> {
        if self.terms.intent.leaving_cancels || self.worker.watch.cause(self.client.slot).is_some() {
            return Err(LEFT);
        }
        self.discarding = true;
        let total = self.worker.coarse_now().plus_millis(limits::ABANDONED_ANSWER_MS);
        self.worker.watch.begin_call(self.client.slot, total, false);
        self.enter(Phase::Relay);
        Ok(())
    }

    pub(super) fn enter(&self, phase: Phase) {
        let idle_ms = match phase {
            // A stream lasts as long as both sides keep it; a client that takes nothing does not.
            Phase::Relay if self.terms.intent.stream_only => limits::NEVER_MS,
            Phase::Relay if self.streams() => self.exchange.timeouts.stream_idle_ms,
            _ => self.exchange.timeouts.idle_ms,
        };
        let now = self.worker.coarse_now();
        self.worker.watch.enter(self.client.slot, phase, now, now.plus_millis(idle_ms));
    }

    /// Reads once more; 0 at the end of the connection.
    pub(super) async fn receive(&mut self) -> Result<usize, Fault> {
        let result = match (self.buffer.is_empty(), self.streams()) {
            (true, true) => self.quiet().await?,
            (true, false) => {
                let came = self.lease.stream.receive(&self.worker.buffers).await;
                came.map(|arrived| self.arrived(arrived))
            }
            (false, _) => self.receive_more().await,
        };
        match result {
            Ok(received) if received > 0 => Ok(received),
            // A reset is no end: what was cut must not look whole.
            Err(_) => Err(self
                .cause()
                .map_or(if self.exchange.answered { CUT } else { NO_ANSWER }, dispatch::timeout)),
            Ok(_) => self.cause().map_or(Ok(0), |cause| Err(dispatch::timeout(cause))),
        }
    }

    /// Takes over what came; 0 for nothing, at the end.
    pub(super) fn arrived(&mut self, arrived: Option<Arrived>) -> usize {
        let Some(arrived) = arrived else { return 0 };
        (self.buffer, self.at, self.end, self.came) =
            (arrived.buffer, arrived.start, arrived.end, arrived.at);
        self.end - self.at
    }

    async fn receive_more(&mut self) -> io::Result<usize> {
        let buffer = std::mem::take(&mut self.buffer);
        let range = self.end..buffer.len() - limits::TAILROOM_BYTES;
        let (result, buffer) = self.lease.stream.read(buffer, range).await;
        self.buffer = buffer;
        self.end += *result.as_ref().unwrap_or(&0);
        self.came = clock::now();
        result
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        self.worker.watch.cause(self.client.slot)
    }
}

/// What the upstream sends next; none where a nudge of the watch came first. Dropping the wait for it loses nothing.
pub(super) async fn wait(
    worker: &Worker,
    slot: usize,
    stream: &mut Stream,
) -> Option<io::Result<Option<Arrived>>> {
    let mut receive = pin!(stream.receive(&worker.buffers));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(came) = receive.as_mut().poll(cx) {
            return Poll::Ready(Some(came));
        }
        if worker.watch.poll_nudge(slot, cx.waker()) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
