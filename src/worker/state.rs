//! The state of one call, pooled by the worker.
//!
//! Not here: what is done with it (`exchange` and its stages).

use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::config::hub::HubId;
use crate::config::plan::Timeouts;
use crate::http::fields::Fields;
use crate::http::request::RequestHead;
use crate::mcp::answer::AnswerFacts;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::Era;
use crate::mcp::refusal::Denial;
use crate::mcp::refusal::Elicits;
use crate::mcp::sealed::own::OwnSession;
use crate::policy::external::Answered;
use crate::policy::limits::fields::Remainder;
use crate::policy::limits::gate::Receipt;
use crate::policy::routing::Aim;
use crate::route::balance::Tried;
use crate::telemetry::record::Called;
use crate::telemetry::record::Record;
use crate::worker::adopted::Adopted;
use crate::worker::body::Body;
use crate::worker::client::Client;
use crate::worker::credential::Shown;
use crate::worker::crossing::Crossing;
use crate::worker::outlet::Outlet;
use crate::worker::passage::Passage;
use crate::worker::passage::Stay;
use crate::worker::session::Session;
use crate::worker::sight::Sight;
use std::ops::Range;
use std::rc::Rc;

/// Everything about one call that outlives a stage. Pooled by the worker, so that a call allocates nothing.
#[derive(Default)]
pub struct Exchange {
    pub head: Option<RequestHead>,
    pub fields: Fields,
    pub answer_fields: Fields,
    /// Heads and refusals on their way out.
    pub out: Vec<u8>,
    pub call: Option<Call>,
    /// The calls of a batch; empty for a message that stands alone.
    pub batch: Vec<Called>,
    /// The body in the client's input, once it was read.
    pub body: Range<usize>,
    /// Where the next request begins there; none once the input went on to it.
    pub next: Option<usize>,
    /// The input went on to the next request; `body` lies no longer in it.
    pub moved_on: bool,
    /// Some of the body may have been read, and decoded where it lies.
    pub body_begun: bool,
    pub record: Record,
    /// What external decision points said of its messages.
    pub answers: Vec<Answered>,
    /// What the answer said about itself.
    pub facts: AnswerFacts,
    pub fault: Option<Fault>,
    /// Something kept the call from its server (`obstacle`).
    pub kept_away: bool,
    /// What the rule that refused the call adds to the fault.
    pub denial: Option<Box<Denial>>,
    /// Field lines that the gateway adds to whatever is answered.
    pub own_lines: Vec<u8>,
    /// The head of an answer has left: from here on a fault is a cut.
    pub answered: bool,
    /// A byte of an answer has come in this attempt.
    pub heard: bool,
    /// What the limits of the call hold of it.
    pub receipts: Vec<Receipt>,
    /// What the answer says of one of them.
    pub remainder: Option<Remainder>,
    pub tokens_in: u64,
    /// What a trusted caller says that the call costs.
    pub tokens_exact: Option<u64>,
    /// Bytes of the answer's messages, without framing; counted where tokens are.
    pub payload_bytes: u64,
    /// Which of the server's pools and instances the call is for.
    pub aim: Aim,
    /// The instance that the call goes to, and what it holds of its server.
    pub passage: Option<Passage>,
    pub stay: Option<Stay>,
    /// The plan of the call, for another attempt; given up with the head of the answer, so that long ones pin none.
    pub plan: Option<Rc<Adopted>>,
    /// What the server is shown of the caller, where it is shown anything.
    pub shown: Option<Shown>,
    /// How the caller can be asked to open a page: only looked at where a server needs its consent.
    pub elicits: Elicits,
    /// The server gets fields of the configuration, among which may be a credential.
    pub injects: bool,
    /// Attempts after the first.
    pub repeats: u8,
    /// The caller's id, kept while a stream is relayed: its last message may have to be ours.
    pub stream_id: Vec<u8>,
    /// Instances that it went to.
    pub tried: Tried,
    /// Where our head lies in the client's input, while the client's own lies in `out`.
    pub lent: Option<Range<usize>>,
    /// An answer that is to be cut after its head, because the operator wants to see what that does.
    pub cut_answer: bool,
    /// What its caller may see of the answer; none: all of it.
    pub sight: Option<Sight>,
    /// How long the call may take.
    pub timeouts: Timeouts,
    /// The caller's own deadline, in milliseconds, is what ends it.
    pub callers_ms: Option<u64>,
    /// Whose sessions the caller may use.
    pub owner: [u8; 16],
    /// The session that the call is part of.
    pub session: Option<Session>,
    /// The way in that it took: challenges name it.
    pub hub: HubId,
    /// The session of a client of an older revision at a hub, where it has one.
    pub own: Option<Box<OwnSession>>,
    /// What changes on the way to the server; none: nothing.
    pub crossing: Option<Box<Crossing>>,
    /// The gateway answers it by itself: what it names is looked up there.
    pub is_here: bool,
    /// A stream of ours to the client whose head has left.
    pub outlet: Option<Outlet>,
    /// When the caller's credential is worth nothing any more: no stream outlives it.
    pub expires: Moment,
    /// When the request was whole.
    pub begun: Moment,
    /// Time of this call that was spent waiting for others.
    pub waited_ns: u64,
    pub upstream_began: Moment,
    /// When the head of its answer was whole.
    pub upstream_ended: Moment,
    /// When its answer was done.
    pub ended: Moment,
}

impl Exchange {
    /// Notes what a rule adds to the fault that it causes.
    pub fn deny(&mut self, denial: Denial) {
        self.denial = Some(Box::new(denial));
    }

    /// Whether no instance was even tried: then the call was refused, and its server did not fail.
    pub fn was_kept_away(&self) -> bool {
        self.kept_away && self.repeats == 0 && self.tried.is_empty()
    }

    /// Whether a limit is charged when the answer is known.
    pub fn owes_tokens(&self) -> bool {
        self.receipts.iter().any(Receipt::is_debt)
    }

    /// Of the client; requests without a message belong to the older revisions.
    pub fn era(&self) -> Era {
        self.call.map_or(Era::Legacy, |call| call.era)
    }

    /// Whether the answer is given to the client in other words than the server's.
    pub fn is_translated(&self) -> bool {
        self.crossing.as_ref().is_some_and(|crossing| crossing.lens.is_some())
    }

    /// The request is whole.
    pub fn take(&mut self, client: &Client, body: &Body) {
        self.next = Some(body.next);
        self.body = body.bytes.clone();
        self.begun = client.came;
        self.record.bytes_in = body.bytes.len() as u64;
    }

    /// Starts a call; nothing of the one before remains but the memory.
    pub fn begin(&mut self, head: RequestHead) {
        self.clear();
        self.head = Some(head);
    }

    pub fn clear(&mut self) {
        self.head = None;
        self.call = None;
        // Batches are rare: their memory is not kept.
        if !self.batch.is_empty() {
            self.batch = Vec::new();
        }
        self.body = 0..0;
        self.next = None;
        self.moved_on = false;
        self.body_begun = false;
        self.record.reset();
        // Few calls have any: their memory is not kept.
        self.answers = Vec::new();
        self.facts = AnswerFacts::default();
        self.fault = None;
        self.kept_away = false;
        self.denial = None;
        self.own_lines.clear();
        self.answered = false;
        self.heard = false;
        self.receipts.clear();
        self.remainder = None;
        self.tokens_in = 0;
        self.tokens_exact = None;
        self.payload_bytes = 0;
        self.aim = Aim::default();
        self.passage = None;
        self.stay = None;
        self.plan = None;
        self.shown = None;
        self.elicits = Elicits::No;
        self.injects = false;
        self.repeats = 0;
        self.stream_id.clear();
        self.tried = Tried::default();
        self.lent = None;
        self.cut_answer = false;
        self.sight = None;
        self.timeouts = Timeouts::default();
        self.callers_ms = None;
        self.owner = [0; 16];
        self.session = None;
        self.hub = 0;
        self.own = None;
        self.crossing = None;
        self.is_here = false;
        self.outlet = None;
        self.expires = Moment::NEVER;
        self.begun = Moment::ZERO;
        self.waited_ns = 0;
        self.upstream_began = Moment::ZERO;
        self.upstream_ended = Moment::ZERO;
        self.ended = Moment::ZERO;
        self.out.clear();
    }
}
