//! The hold mode of design: an answer that may be a list, or each event of a stream, is whole before any of it passes,
//! and passes without what its caller may not see.
//!
//! Not here: what that is (`sight`), and taking it out (`mcp::listing`). Over a bound nothing passes unchecked.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::http::fields::Known;
use crate::http::fields::Single;
use crate::http::response::AnswerFraming;
use crate::http::response::ContentType;
use crate::http::response::ResponseHead;
use crate::http::write;
use crate::http::write::BodyForm;
use crate::mcp::listing;
use crate::mcp::listing::Unfit;
use crate::mcp::listing::events::Events;
use crate::worker::body;
use crate::worker::relay::CUT;
use crate::worker::relay::Relay;
use crate::worker::relay::Rest;
use crate::worker::relay::flow::CHUNK_PREFIX_BYTES;
use crate::worker::watch::Phase;
use std::ops::Range;

/// How an answer is held.
#[derive(Default)]
pub(super) enum Hold {
    /// It passes as it comes.
    #[default]
    Off,
    /// Until it is whole.
    Whole,
    /// Each event until that is whole.
    Events(Box<Events>),
}

/// What frames a chunk, and the last one.
const FRAMING_BYTES: usize = CHUNK_PREFIX_BYTES + 2 + write::LAST_CHUNK.len();

const TOO_LARGE: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server's answer is too long to look for what you may not see; ask its operator for shorter pages.",
)
.at(Bound::HeldAnswer);
const BROKEN: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server's answer is no readable JSON, so that nobody can tell what of it you may see; tell the operator.",
);
const UNTYPED: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server answered a list with something that is neither JSON nor an event stream; tell the operator.",
);
pub(super) const CODED: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server compressed its answer, which nobody asked for, so that it cannot be looked at; tell the operator.",
);

pub(super) const fn fault(unfit: Unfit) -> Fault {
    match unfit {
        Unfit::Broken => BROKEN,
        Unfit::TooLarge => TOO_LARGE,
    }
}

impl Relay<'_> {
    /// How the answer has to be held, whose body would otherwise leave in this form.
    pub(super) fn hold_of(&self, head: &ResponseHead) -> Result<Hold, Fault> {
        let Some(sight) = &self.exchange.sight else { return Ok(Hold::Off) };
        let hold = match head.content_type {
            _ if head.framing == AnswerFraming::None => Hold::Off,
            ContentType::EventStream => Hold::Events(Box::default()),
            _ if sight.is_whole => Hold::Whole,
            _ => Hold::Off,
        };
        let coded = self.exchange.answer_fields.single(Known::ContentEncoding) != Single::Missing;
        if coded && !matches!(hold, Hold::Off) { Err(CODED) } else { Ok(hold) }
    }

    /// Reads the answer to its end; afterwards it is as if what may pass of it had come in one piece behind its head.
    pub(super) async fn hold(&mut self, head: &mut ResponseHead) -> Result<(), Fault> {
        let head_range = self.at..self.at + head.len as usize;
        self.at = head_range.end;
        let mut held = Vec::new();
        let mut done = self.gather(&mut held).await?;
        let more = self.at != self.end;
        // The fields of the head are places in its buffer.
        let front = std::mem::take(&mut self.buffer);
        if !done {
            self.streaming_since = clock::now();
        }
        while !done {
            self.give_back_buffer();
            self.enter(Phase::Relay);
            done = match (self.receive().await?, &self.rest) {
                (0, Rest::UntilClose) => true,
                (0, _) => return Err(CUT),
                _ => self.gather(&mut held).await?,
            };
        }
        head.keep_alive &= !more && self.at == self.end;
        self.give_back_buffer();
        let body = self.screened(held, head)?;
        let (at, end) = (limits::HEADROOM_BYTES, limits::HEADROOM_BYTES + head_range.len());
        let mut whole = self.worker.buffers.at_least(end + body.len() + limits::TAILROOM_BYTES);
        whole[at..end].copy_from_slice(&front[head_range]);
        whole[end..end + body.len()].copy_from_slice(&body);
        self.worker.buffers.give_back(front);
        (self.buffer, self.at, self.end) = (whole, at, end + body.len());
        self.rest = Rest::Bytes(body.len() as u64);
        self.form = BodyForm::Length(body.len() as u64);
        Ok(())
    }

    /// Takes what came to what is held; whether that is all.
    pub(super) async fn gather(&mut self, held: &mut Vec<u8>) -> Result<bool, Fault> {
        let (piece, done) = self.decode()?;
        let bytes = held.len() + piece.len();
        if bytes > limits::HELD_ANSWER_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        body::room(self.worker, self.client.slot, &mut self.reserved, bytes).await?;
        held.extend_from_slice(&self.buffer[piece]);
        Ok(done)
    }

    /// What may pass of a whole answer.
    fn screened(&mut self, held: Vec<u8>, head: &ResponseHead) -> Result<Vec<u8>, Fault> {
        let Some(sight) = &mut self.exchange.sight else { return Ok(held) };
        if !listing::may_be_message(&held) {
            let typed = head.content_type == ContentType::Json || !(200..300).contains(&head.status);
            return if typed || held.is_empty() { Ok(held) } else { Err(UNTYPED) };
        }
        let mut out = Vec::new();
        let changed = sight.look(self.worker, |screen| listing::screen(&held, screen, &mut out));
        Ok(if changed.map_err(fault)? { out } else { held })
    }

    /// Passes what is whole of an event stream, the head before it where it is the first piece.
    pub(super) async fn put_events(
        &mut self,
        piece: Range<usize>,
        done: bool,
        first: bool,
    ) -> Result<(), Fault> {
        let bytes = self.held_bytes() + piece.len();
        body::room(self.worker, self.client.slot, &mut self.reserved, bytes).await?;
        // A client may take its time: it holds one copy of what it is given, with room for what frames that.
        let mut text = Vec::with_capacity(bytes + FRAMING_BYTES);
        text.resize(CHUNK_PREFIX_BYTES, 0);
        let fit = self.pass(piece, done, &mut text);
        if !done {
            self.give_back_buffer();
        }
        let passed = text.get(CHUNK_PREFIX_BYTES..).unwrap_or_default();
        self.note(passed);
        self.exchange.record.bytes_out += passed.len() as u64;
        let begin = self.frame_behind(CHUNK_PREFIX_BYTES, &mut text);
        if done && fit.is_ok() && self.form == BodyForm::Chunked {
            text.extend_from_slice(write::LAST_CHUNK);
        }
        if first {
            let head = std::mem::take(&mut self.exchange.out);
            let delivered = self.deliver(&head).await;
            self.exchange.out = head;
            delivered?;
        }
        self.deliver(text.get(begin..).unwrap_or_default()).await?;
        if self.held_bytes() == 0 {
            self.worker.budget.give_back(std::mem::take(&mut self.reserved));
        }
        self.unfit = fit.is_err();
        fit.map_err(fault)
    }

    fn held_bytes(&self) -> usize {
        if let Hold::Events(events) = &self.hold { events.held_bytes() } else { 0 }
    }

    /// Appends what may pass now that a piece has come; whether the rest may.
    fn pass(&mut self, piece: Range<usize>, done: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let (Hold::Events(events), Some(sight)) = (&mut self.hold, &mut self.exchange.sight) else {
            return Ok(());
        };
        let bytes = &self.buffer[piece];
        sight.look(self.worker, |screen| {
            events.feed(bytes, screen, out)?;
            if done { events.finish(screen, out) } else { Ok(()) }
        })
    }
}
