//! The answer, as it comes: its head is checked and rewritten, its bytes pass untouched (scan mode), or is held
//! (`hold`).
//!
//! Not here: what the answer means beyond the few facts that the scanner picks out as the bytes pass. The
//! third mode of design (rewrite) has its place in `flow`, between reading and writing.

mod cross;
mod flow;
mod hold;
mod step;

use crate::base::bound::Bound;
use crate::base::buffer::Buffer;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::base::sys;
use crate::config::limits;
use crate::http::chunked::Decoder;
use crate::http::chunked::Side;
use crate::http::fields::Field;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::http::request::Method;
use crate::http::request::RequestHead;
use crate::http::request::Version;
use crate::http::response;
use crate::http::response::AnswerFraming;
use crate::http::response::ContentType;
use crate::http::response::ResponseHead;
use crate::http::sse::DataBytes;
use crate::http::sse::EventBoundary;
use crate::http::write;
use crate::http::write::AnswerHead;
use crate::http::write::BodyForm;
use crate::mcp::answer::AnswerScan;
use crate::mcp::answer::Form;
use crate::mcp::crossing::stream::Messages;
use crate::mcp::envelope;
use crate::mcp::envelope::Era;
use crate::upstream::pool::Lease;
use crate::worker::Worker;
use crate::worker::admit::Intent;
use crate::worker::attempt;
use crate::worker::body::CHUNK_LIMITS;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::credential;
use crate::worker::dispatch::Dispatched;
use crate::worker::outlook;
use crate::worker::parked;
use crate::worker::parked::Place;
use crate::worker::parked::Stream;
use crate::worker::relay::hold::Hold;
use crate::worker::session;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;
use std::rc::Rc;

pub use self::cross::send_notes;
pub use self::step::Step;
pub use self::step::see;

/// What the relay needs to know of the plan; it pins none.
#[derive(Clone, Copy)]
pub struct Terms {
    /// Silence on an event stream after which a comment is sent; 0: never.
    pub comment_ms: u64,
    pub intent: Intent,
}

const NO_ANSWER: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint closed the connection without an answer; the call may have happened.",
);
const HEAD_TOO_LARGE: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The head of the server's answer is larger than this gateway accepts.",
)
.at(Bound::AnswerHead);
const ENDLESS: Fault =
    Fault::new(Kind::UpstreamProtocol, "The server behind this endpoint sent interim answers without end.")
        .at(Bound::InterimAnswers);
const REDIRECT: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint answered with a redirect; tell the operator to correct its url.",
);
const CUT: Fault = Fault::new(Kind::UpstreamProtocol, "The server behind this endpoint cut its answer.");
const LEFT: Fault = Fault::new(Kind::ClientGone, "The client left before the answer was whole.");

/// How much of the answer is still to come.
pub enum Rest {
    Bytes(u64),
    Chunks(Box<Decoder>),
    UntilClose,
}

struct Relay<'a> {
    worker: &'a Rc<Worker>,
    client: &'a mut Client,
    exchange: &'a mut Exchange,
    lease: Lease,
    terms: Terms,
    rest: Rest,
    form: BodyForm,
    scan: AnswerScan,
    /// Only for event streams: comments may stand between events.
    boundary: Option<EventBoundary>,
    /// Only where tokens are counted and framing is not.
    data: Option<DataBytes>,
    hold: Hold,
    /// Something of a stream may not pass: it ends with our word.
    unfit: bool,
    /// What is taken of the worker's budget for what is held.
    reserved: usize,
    /// Empty while nothing has come.
    buffer: Buffer,
    /// Bytes that came and were not looked at yet.
    at: usize,
    end: usize,
    /// The head said that the connection ends with this answer; a drain that begins later changes nothing.
    closing: bool,
    /// When the newest of them came.
    came: Moment,
    /// When the relay began to wait for more than came with the head.
    streaming_since: Moment,
    /// The client has left a call that its leaving does not cancel.
    discarding: bool,
    discarded: u64,
    /// The stream is kept open for a call that waits for an answer of its client.
    parks: Option<(Place, Messages)>,
}

/// Relays the answer to what was dispatched, and lets go of the plan once its head has come.
///
/// # Errors
/// What went wrong at the upstream; `exchange.answered` says whether a head had left by then.
pub async fn answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    exchange: &mut Exchange,
    sent: Dispatched,
    terms: Terms,
) -> Result<After, Fault> {
    let Some(request) = exchange.head else { return Err(NO_ANSWER) };
    let mut relay = Relay {
        worker,
        client,
        exchange,
        lease: sent.lease,
        terms,
        rest: Rest::UntilClose,
        form: BodyForm::None,
        scan: AnswerScan::new(Form::Opaque),
        boundary: None,
        data: None,
        hold: Hold::Off,
        unfit: false,
        reserved: 0,
        buffer: Buffer::default(),
        at: 0,
        end: 0,
        closing: false,
        came: Moment::ZERO,
        streaming_since: Moment::ZERO,
        discarding: false,
        discarded: 0,
        parks: None,
    };
    let outcome = relay.whole(&request).await;
    if let Err(fault) = outcome
        && (relay.unfit || fault.kind == Kind::Killed)
    {
        relay.last_word(fault);
    }
    relay.finish(outcome, sent.whole)
}

/// What is true of a connection after an answer on it.
#[derive(Clone, Copy)]
struct Ended {
    upstream_reusable: bool,
}

impl Relay<'_> {
    async fn whole(&mut self, request: &RequestHead) -> Result<Ended, Fault> {
        let mut head = self.head(request.method == Method::Head).await?;
        self.exchange.upstream_ended = self.came;
        let source = &self.buffer[self.at..self.end];
        if let Some(fault) = credential::refused(self.exchange, head.status, source) {
            return Err(fault);
        }
        if self.is_crossed(&head) {
            // Boxed: most answers pass as they are.
            return Box::pin(self.cross(request, &head)).await;
        }
        self.exchange.plan = None;
        self.begin(request, &head)?;
        if matches!(self.hold, Hold::Whole) {
            // Boxed: few answers are lists.
            Box::pin(self.hold(&mut head)).await?;
        }
        let done = self.first_piece(request, &head).await?;
        if !done {
            self.streaming_since = clock::now();
            self.enter(Phase::Relay);
            // Boxed: most answers come in one piece, and need no state for the rest.
            Box::pin(self.rest()).await?;
        }
        Ok(Ended { upstream_reusable: head.keep_alive && self.at == self.end })
    }

    /// Reads until a final head is whole; interim answers are dropped.
    async fn head(&mut self, head_request: bool) -> Result<ResponseHead, Fault> {
        let head_limits = HeadLimits {
            head_bytes: limits::ANSWER_HEAD_BYTES_MAX,
            target_bytes: limits::TARGET_BYTES_MAX,
            fields: limits::FIELDS_MAX,
        };
        let mut scan = HeadScan::default();
        let mut interim = 0;
        loop {
            let received = &self.buffer[self.at..self.end];
            let parsed = response::parse_response(
                received,
                &mut scan,
                head_limits,
                head_request,
                &mut self.exchange.answer_fields,
            )?;
            match parsed {
                Some(head) if head.status < 200 => {
                    interim += 1;
                    if interim > limits::INTERIM_ANSWERS_MAX {
                        return Err(ENDLESS);
                    }
                    self.at += head.len as usize;
                    scan = HeadScan::default();
                }
                Some(head) => return Ok(head),
                None => {
                    self.head_room()?;
                    if self.receive().await? == 0 {
                        return Err(NO_ANSWER);
                    }
                }
            }
        }
    }

    /// Room to receive more of a head.
    fn head_room(&mut self) -> Result<(), Fault> {
        if self.buffer.is_empty() || self.end < self.buffer.len() - limits::TAILROOM_BYTES {
            return Ok(());
        }
        if self.at > limits::HEADROOM_BYTES {
            self.buffer.copy_within(self.at..self.end, limits::HEADROOM_BYTES);
            self.end -= self.at - limits::HEADROOM_BYTES;
            self.at = limits::HEADROOM_BYTES;
            return Ok(());
        }
        let most = limits::HEADROOM_BYTES + limits::ANSWER_HEAD_BYTES_MAX + limits::TAILROOM_BYTES + 1;
        if self.buffer.len() >= most {
            return Err(HEAD_TOO_LARGE);
        }
        let mut larger = self.worker.buffers.at_least((self.buffer.len() * 2).min(most));
        larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
        self.worker.buffers.give_back(std::mem::replace(&mut self.buffer, larger));
        Ok(())
    }

    /// Decides how the answer goes on and puts its head before its first bytes.
    fn begin(&mut self, request: &RequestHead, head: &ResponseHead) -> Result<(), Fault> {
        if (300..400).contains(&head.status) && head.status != 304 {
            return Err(REDIRECT);
        }
        self.exchange.record.status = head.status;
        outlook::heed(self.worker, self.exchange, head.status, &self.buffer[self.at..self.end]);
        self.hold = self.hold_of(head)?;
        let form = match &self.hold {
            // How long it will be is not known.
            Hold::Events(_) => BodyForm::relaying(AnswerFraming::Chunked, request.version),
            Hold::Off | Hold::Whole => BodyForm::relaying(head.framing, request.version),
        };
        self.rest = match head.framing {
            AnswerFraming::None => Rest::Bytes(0),
            AnswerFraming::Length(length) => Rest::Bytes(length),
            AnswerFraming::Chunked => Rest::Chunks(Box::new(Decoder::new(CHUNK_LIMITS, Side::Answer))),
            AnswerFraming::UntilClose => Rest::UntilClose,
        };
        self.form = form;
        self.scan = AnswerScan::new(match head.content_type {
            ContentType::Json => Form::Json,
            ContentType::EventStream => Form::EventStream,
            ContentType::Other | ContentType::Missing => Form::Opaque,
        });
        let events = head.content_type == ContentType::EventStream && !matches!(form, BodyForm::Length(_));
        self.boundary = events.then(EventBoundary::new);
        let stream = head.content_type == ContentType::EventStream && self.exchange.owes_tokens();
        self.data = stream.then(DataBytes::default);
        if self.terms.intent.stream_only {
            attempt::conclude(self.exchange, self.came);
        }
        if self.streams() {
            let total = self.exchange.begun.plus_millis(self.exchange.timeouts.stream_total_ms);
            let Intent { stream_only, leaving_cancels, .. } = self.terms.intent;
            let total = if stream_only { Moment::NEVER } else { total };
            let total = total.min(self.exchange.expires);
            self.worker.watch.begin_call(self.client.slot, total, leaving_cancels);
        }
        Ok(())
    }

    /// An event stream: silence is its nature, and its client is asked by comments.
    fn streams(&self) -> bool {
        self.boundary.is_some() && self.terms.comment_ms > 0
    }

    /// Writes the head together with what came with it; true when that was all.
    async fn first_piece(&mut self, request: &RequestHead, head: &ResponseHead) -> Result<bool, Fault> {
        let body = self.at + head.len as usize;
        // What is still to do until the head leaves is less than the clock would cost.
        let came = self.exchange.upstream_ended;
        self.exchange.waited_ns += came.nanos_since(self.exchange.upstream_began);
        let own = came.nanos_since(self.exchange.begun).saturating_sub(self.exchange.waited_ns);
        let source = &self.buffer[self.at..body];
        if self.terms.intent.era == Era::Legacy && self.exchange.crossing.is_none() {
            session::seal(self.worker, self.exchange, source, self.lease.instance())?;
        }
        let options = write::connection_options(source, &self.exchange.answer_fields);
        let drops = |field: &Field| {
            write::drops_downstream(field) || session::is_named(field) || options.names(source, field)
        };
        let kept = self.exchange.answer_fields.iter().filter(|field| !drops(field));
        self.closing = !request.keep_alive || self.form == BodyForm::UntilClose || self.worker.is_draining();
        let answer = AnswerHead {
            status: head.status,
            body: self.form,
            close: self.closing,
            version: request.version,
        };
        self.exchange.out.clear();
        let own = write::Own { lines: &self.exchange.own_lines, nanos: Some(own) };
        write::answer_head(&mut self.exchange.out, answer, source, kept, own);
        self.at = body;
        let (piece, done) = match self.exchange.cut_answer {
            true => (body..body, false),
            false => self.take()?,
        };
        self.exchange.answered = true;
        if self.exchange.cut_answer && matches!(self.form, BodyForm::None | BodyForm::Length(0)) {
            // Its head would be the whole of it.
            return Err(CUT);
        }
        if self.boundary.is_some() {
            let body = self.client.input.get(self.exchange.body.clone()).unwrap_or_default();
            let id = envelope::raw_id(body).and_then(|id| body.get(id));
            self.exchange.stream_id.extend_from_slice(id.unwrap_or_default());
        }
        if let Some(next) = self.exchange.next.take() {
            // No refusal can name the id any more: a large body goes before its answer does.
            self.client.advance(next);
            self.exchange.moved_on = true;
        }
        self.put(piece, done, true).await?;
        if self.exchange.cut_answer { Err(CUT) } else { Ok(done) }
    }

    /// Gives back what was borrowed and says what becomes of the client's connection.
    fn finish(self, outcome: Result<Ended, Fault>, sent_whole: bool) -> Result<After, Fault> {
        let Self {
            worker,
            client,
            exchange,
            lease,
            scan,
            buffer,
            closing,
            came,
            streaming_since,
            discarding,
            reserved,
            parks,
            rest,
            at,
            end,
            ..
        } = self;
        let bytes =
            if parks.is_some() { buffer.get(at..end).unwrap_or_default().to_vec() } else { Vec::new() };
        if reserved > 0 {
            worker.budget.give_back(reserved);
        }
        if !buffer.is_empty() {
            worker.buffers.give_back(buffer);
        }
        exchange.facts = scan.facts();
        if scan.is_cut_short() {
            worker.metrics().hit(Bound::AnswerScan);
        }
        worker.watch.upstream(client.slot, None);
        let clean = worker.watch.cause(client.slot).is_none();
        exchange.ended = clock::now();
        exchange.heard = came != Moment::ZERO;
        if streaming_since != Moment::ZERO {
            // The pace of a stream is its peers'.
            exchange.waited_ns += exchange.ended.nanos_since(streaming_since);
        }
        match outcome {
            Ok(_) if let Some((place, messages)) = parks => {
                parked::keep(worker, place, Stream { lease, rest, bytes, messages });
            }
            Ok(Ended { upstream_reusable: true }) if sent_whole && clean => {
                if !lease.give_back(worker.coarse_now()) {
                    worker.metrics().hit(Bound::PoolIdle);
                }
            }
            Ok(_) | Err(_) => {
                if let Some((place, _)) = parks {
                    // Nobody was told to come back to it.
                    parked::give_up(worker, place);
                }
                lease.close();
            }
        }
        outcome?;
        Ok(match (discarding, closing) {
            (true, _) => After::Close,
            // What the client still sends must not reset the answer that is on its way to it.
            (false, true) => After::Linger,
            (false, false) => After::Keep,
        })
    }
}

/// Makes a cut visible to a client whose answer ends with the connection.
pub fn cut(client: &Client, exchange: &Exchange) {
    if exchange.head.is_some_and(|head| head.version == Version::Http10) {
        sys::reset_on_close(client.stream.fd());
    }
}
