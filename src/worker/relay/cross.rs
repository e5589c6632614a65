//! The rewrite mode of design: each message of an answer is put in the client's words before it passes, and what is no
//! message for the client is dealt with.
//!
//! Not here: the words (`mcp::crossing`), and what follows from a turn (`bridge`).

use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::http::fields::Field;
use crate::http::fields::Known;
use crate::http::fields::Single;
use crate::http::request::RequestHead;
use crate::http::response::ContentType;
use crate::http::response::ResponseHead;
use crate::http::write;
use crate::http::write::AnswerHead;
use crate::http::write::BodyForm;
use crate::mcp::answer::AnswerScan;
use crate::mcp::answer::Form;
use crate::mcp::crossing::event_ids;
use crate::mcp::crossing::stream::Event;
use crate::mcp::crossing::stream::Messages;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::REVISIONS_LEGACY;
use crate::mcp::listing;
use crate::worker::Worker;
use crate::worker::aside::Note;
use crate::worker::body;
use crate::worker::bridge;
use crate::worker::crossing::Turn;
use crate::worker::outlet;
use crate::worker::parked;
use crate::worker::relay::CUT;
use crate::worker::relay::Ended;
use crate::worker::relay::Relay;
use crate::worker::relay::Rest;
use crate::worker::relay::Step;
use crate::worker::relay::flow;
use crate::worker::relay::hold;
use crate::worker::relay::hold::Hold;
use crate::worker::relay::step;
use crate::worker::session;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;

pub(super) const STRANGE: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server's answer is none that a client of your revision could be given; tell the operator.",
);

/// What a server of 2026-07-28 says where a field and the argument that it repeats differ, before it looks at the call.
const HEADER_MISMATCH: i32 = -32020;

impl Relay<'_> {
    /// Whether an answer has to be put in other words.
    pub(super) fn is_crossed(&self, head: &ResponseHead) -> bool {
        let Some(crossing) = &self.exchange.crossing else { return false };
        let Some(lens) = &crossing.lens else { return false };
        let stream = head.content_type == ContentType::EventStream;
        // That an older server knows its session no more is told in our own words.
        let gone = head.status == 404 && crossing.server == Era::Legacy;
        // Requests of a server come in streams only.
        stream || gone || !crossing.is_same() || lens.wraps.is_some() || self.exchange.outlet.is_some()
    }

    /// The answer in the client's words.
    pub(super) async fn cross(&mut self, request: &RequestHead, head: &ResponseHead) -> Result<Ended, Fault> {
        if let Some(crossing) = &mut self.exchange.crossing
            && crossing.server == Era::Legacy
            && head.status == 404
            && crossing.held.as_ref().is_some_and(|held| !held.name.is_empty())
        {
            crossing.turn = Some(Turn::SessionGone);
            return Ok(Ended { upstream_reusable: false });
        }
        if let Some(crossing) = &mut self.exchange.crossing
            && crossing.listens
            && head.status == 409
            && crossing.conflicts < limits::RESUME_CONFLICTS_MAX
        {
            crossing.conflicts += 1;
            // The server has not seen yet that the stream before this one was closed, or gives another call's the same name.
            let event = crossing.event.clone().unwrap_or_default();
            crossing.turn = Some(Turn::Resume { event, after_ms: limits::RESUME_CONFLICT_MS });
            return Ok(Ended { upstream_reusable: false });
        }
        self.begin(request, head)?;
        let coded = self.exchange.answer_fields.single(Known::ContentEncoding) != Single::Missing;
        if coded {
            return Err(hold::CODED);
        }
        // Between messages our own word may stand.
        self.hold = Hold::Events(Box::default());
        let came = self.exchange.upstream_ended;
        self.exchange.waited_ns += came.nanos_since(self.exchange.upstream_began);
        let front = self.buffer[self.at..self.at + head.len as usize].to_vec();
        self.at += front.len();
        match head.content_type {
            ContentType::EventStream => self.cross_events(head).await,
            _ => self.cross_whole(request, head, &front).await,
        }
    }

    /// An answer in one piece.
    async fn cross_whole(
        &mut self,
        request: &RequestHead,
        head: &ResponseHead,
        front: &[u8],
    ) -> Result<Ended, Fault> {
        let mut held = Vec::new();
        let mut done = self.gather(&mut held).await?;
        while !done {
            self.give_back_buffer();
            self.enter(Phase::Relay);
            done = match (self.receive().await?, &self.rest) {
                (0, Rest::UntilClose) => true,
                (0, _) => return Err(CUT),
                _ => self.gather(&mut held).await?,
            };
        }
        let ended = Ended { upstream_reusable: head.keep_alive && self.at == self.end };
        if let Some(crossing) = &mut self.exchange.crossing
            && head.status == 400
            && crossing.may_relist()
            && error_of(&held) == Some(HEADER_MISMATCH)
        {
            crossing.turn = Some(Turn::Relist);
            return Ok(ended);
        }
        if !listing::may_be_message(&held) {
            // Success without an answer: a client that is left with it waits for ever.
            let is_same = self.exchange.crossing.as_ref().is_some_and(|crossing| crossing.is_same());
            if head.status < 300 && !is_same {
                return Err(STRANGE);
            }
            return self.plain(request, (head.status, front), &held).await.map(|()| ended);
        }
        let (step, message) = self.see(&held, &[])?;
        match (step, message) {
            (Step::Answered, Some(message)) if self.exchange.outlet.is_some() => {
                self.emit(&message).await?;
                self.end_stream().await?;
            }
            (Step::Answered, Some(message)) => {
                let status = self.status(head.status, &message);
                self.plain(request, (status, front), &message).await?;
            }
            (Step::Turned, _) => {}
            _ => return Err(STRANGE),
        }
        Ok(ended)
    }

    /// An event stream.
    async fn cross_events(&mut self, head: &ResponseHead) -> Result<Ended, Fault> {
        if !self.discarding {
            let opened = outlet::open(self.worker, self.client, self.exchange).await;
            self.taken(opened.map(drop))?;
        }
        let (mut messages, mut events) = (Messages::default(), Vec::new());
        // The id of the event that the client was given last.
        let mut given = Vec::new();
        // Since when it has said nothing. Comments keep a connection open, and are no answer.
        let (mut silent, mut heard) = (true, self.worker.coarse_now());
        loop {
            let (piece, done) = self.decode()?;
            let bytes = messages.held_bytes() + piece.len();
            body::room(self.worker, self.client.slot, &mut self.reserved, bytes).await?;
            messages.feed(&self.buffer[piece], &mut events).map_err(hold::fault)?;
            for Event { data, id } in events.drain(..) {
                (silent, heard) = (false, self.worker.coarse_now());
                // What is no message carries an id at most; the replay of one SDK says `{}` for that.
                if !listing::may_be_message(&data) || data.trim_ascii() == b"{}" {
                    continue;
                }
                let (step, message) = self.see(&data, &id)?;
                if let Some(message) = message {
                    given.clone_from(&id);
                    self.emit_event(&message, &id).await?;
                }
                match step {
                    Step::On => {}
                    Step::Answered => {
                        self.end_stream().await?;
                        let clean = done && self.at == self.end;
                        return Ok(Ended { upstream_reusable: clean && head.keep_alive });
                    }
                    Step::Turned => return Ok(Ended { upstream_reusable: false }),
                }
            }
            if *messages.id() != given {
                given = messages.id().to_vec();
                self.mark(&given).await?;
            }
            if done {
                break;
            }
            while !self.more(silent, heard).await? {
                if !self.is_replayed() {
                    return self.no_answer(messages).await;
                }
                // All that was said before has come: now the server is told what it waits for.
                send_notes(self.worker, self.exchange).await;
                (silent, heard) = (true, self.worker.coarse_now());
            }
        }
        self.no_answer(messages).await
    }

    /// Whether what comes was said before the server is told what it waits for.
    fn is_replayed(&self) -> bool {
        self.exchange.crossing.as_ref().is_some_and(|crossing| !crossing.notes.is_empty())
    }

    /// Waits for more of a stream that has said something last at `heard`; false where there is none, or none soon enough.
    async fn more(&mut self, silent: bool, heard: Moment) -> Result<bool, Fault> {
        self.give_back_buffer();
        let Some(crossing) = &self.exchange.crossing else { return Ok(false) };
        if crossing.replays.is_some() {
            self.enter(Phase::Relay);
            return Ok(self.receive().await? > 0);
        }
        let resumed = crossing.event.is_some() && silent && crossing.silences < limits::RESUME_SILENCES_MAX;
        let asks = !crossing.notes.is_empty() || !crossing.asked.is_empty();
        self.enter(Phase::Relay);
        // One that was asked for again so often is waited for as long as any other.
        if !asks && !resumed {
            return Ok(self.receive().await? > 0);
        }
        let patience = if asks { limits::QUESTION_SILENCE_MS } else { limits::RESUME_SILENCE_MS };
        let at = heard.plus_millis(patience);
        self.worker.watch.nudge_at(self.client.slot, at);
        let waited = if at <= self.worker.coarse_now() {
            None
        } else {
            flow::wait(self.worker, self.client.slot, &mut self.lease.stream).await
        };
        match waited {
            None => {
                if let Some(crossing) = self.exchange.crossing.as_mut().filter(|_| !asks) {
                    crossing.silences += 1;
                }
                self.still(false)
            }
            Some(Ok(arrived)) => {
                let came = self.arrived(arrived) > 0;
                self.still(came)
            }
            Some(Err(_)) => self.still(false),
        }
    }

    /// What a wait has found, unless it was ended.
    fn still(&self, found: bool) -> Result<bool, Fault> {
        self.cause().map_or(Ok(found), |cause| Err(crate::worker::dispatch::timeout(cause)))
    }

    /// The stream has ended, or is silent, and there was no answer.
    async fn no_answer(&mut self, messages: Messages) -> Result<Ended, Fault> {
        let Some(crossing) = &mut self.exchange.crossing else { return Err(CUT) };
        let ended = Ended { upstream_reusable: false };
        if crossing.replays.is_some() {
            // Its client comes back, if it wants more.
            self.end_stream().await?;
            return Ok(ended);
        }
        if !crossing.asked.is_empty() {
            // Without event ids nobody could go on elsewhere: the call waits here.
            let goes_on = crossing.event.as_ref().is_some_and(|event| !event.is_empty());
            let place = if goes_on { None } else { Some(parked::reserve(self.worker)?) };
            self.parks = place.map(|place| (place, messages));
            let message = bridge::ask(self.worker, self.client, self.exchange, place)?;
            self.emit(&message).await?;
            self.end_stream().await?;
            return Ok(ended);
        }
        // Not in one go: a server may end a stream at once because of another call's.
        let again_ms = if crossing.resumes == 0 { 0 } else { limits::RESUME_AGAIN_MS };
        // One that is silent is asked for again behind the same event: what a server has kept need not be in order.
        let last = match &crossing.event {
            Some(event) => Some(event.clone()),
            None if messages.id().is_empty() => None,
            None => Some(messages.id().to_vec()),
        };
        match last {
            Some(event) if crossing.server == Era::Legacy && crossing.resumes < limits::RESUMES_MAX => {
                crossing.turn =
                    Some(Turn::Resume { event, after_ms: messages.retry_ms().unwrap_or(again_ms) });
                Ok(ended)
            }
            _ => Err(CUT),
        }
    }

    fn see(&mut self, message: &[u8], event: &[u8]) -> Result<(Step, Option<Vec<u8>>), Fault> {
        step::see(self.worker, self.exchange, message, event)
    }

    /// The status of a whole answer: an older client takes 404 for the end of its session, so that errors of calls come
    /// with 200 there (2025-11-25, transports, "Session Management").
    fn status(&self, status: u16, message: &[u8]) -> u16 {
        let Some(crossing) = &self.exchange.crossing else { return status };
        if crossing.client != Era::Legacy || crossing.server != Era::Modern || !matches!(status, 400 | 404) {
            return status;
        }
        if error_of(message).is_some() { 200 } else { status }
    }

    /// An answer in one piece, with the fields of the server.
    async fn plain(
        &mut self,
        request: &RequestHead,
        (status, front): (u16, &[u8]),
        body: &[u8],
    ) -> Result<(), Fault> {
        let own = self.exchange.upstream_ended.nanos_since(self.exchange.begun);
        let own = own.saturating_sub(self.exchange.waited_ns);
        self.closing = !request.keep_alive || self.worker.is_draining();
        let form = BodyForm::Length(body.len() as u64);
        let cut = self.exchange.cut_answer;
        let body = if cut { b"" } else { body };
        let answer = AnswerHead { status, body: form, close: self.closing, version: request.version };
        let options = write::connection_options(front, &self.exchange.answer_fields);
        let drops = |field: &Field| {
            write::drops_downstream(field) || session::is_named(field) || options.names(front, field)
        };
        let kept = self.exchange.answer_fields.iter().filter(|field| !drops(field));
        let own = write::Own { lines: &self.exchange.own_lines, nanos: Some(own) };
        let mut out = std::mem::take(&mut self.exchange.out);
        out.clear();
        write::answer_head(&mut out, answer, front, kept, own);
        out.extend_from_slice(body);
        self.exchange.record.status = status;
        self.exchange.record.bytes_out = body.len() as u64;
        self.exchange.answered = true;
        self.note(body);
        // Where nothing is to follow it, the head would be the whole answer.
        let nothing = cut && form == BodyForm::Length(0);
        let delivered = if nothing { Ok(()) } else { self.deliver(&out).await };
        self.exchange.out = out;
        delivered?;
        if cut {
            return Err(CUT);
        }
        outlet::let_go(self.client, self.exchange);
        Ok(())
    }

    async fn emit(&mut self, message: &[u8]) -> Result<(), Fault> {
        self.emit_event(message, b"").await
    }

    /// A message of an event stream, with the server's id of it.
    async fn emit_event(&mut self, message: &[u8], id: &[u8]) -> Result<(), Fault> {
        self.scan = AnswerScan::new(Form::Json);
        self.scan.feed(message);
        self.send_event(message, id).await
    }

    /// An id behind which a client could go on, before there is a message. Clients of the revisions before take an event
    /// without data for a broken message.
    async fn mark(&mut self, id: &[u8]) -> Result<(), Fault> {
        let knows =
            self.exchange.own.as_ref().is_some_and(|own| REVISIONS_LEGACY.last() == Some(&own.revision));
        let given = self.exchange.crossing.as_ref().and_then(|crossing| crossing.event_server());
        if knows && given.is_some() { self.send_event(b"", id).await } else { Ok(()) }
    }

    async fn send_event(&mut self, message: &[u8], id: &[u8]) -> Result<(), Fault> {
        if self.discarding {
            return Ok(());
        }
        let server = self.exchange.crossing.as_ref().and_then(|crossing| crossing.event_server());
        let id = server.filter(|_| !id.is_empty()).map(|server| event_ids::wrap(server, id));
        let event = (message, id.as_deref().unwrap_or_default());
        let sent = outlet::send_event(self.worker, self.client, self.exchange, event).await;
        self.taken(sent)
    }

    async fn end_stream(&mut self) -> Result<(), Fault> {
        if self.discarding {
            return Ok(());
        }
        self.closing = self.exchange.outlet.is_none_or(|outlet| outlet.closing);
        let ended = outlet::end(self.worker, self.client, self.exchange).await;
        self.taken(ended.map(drop))
    }

    /// An older client that leaves does not end its call.
    fn taken(&mut self, sent: Result<(), Fault>) -> Result<(), Fault> {
        match sent {
            Err(fault) if fault.kind == Kind::ClientGone => self.client_left(),
            sent => sent,
        }
    }
}

/// The code of the error that a message is; none: it is none.
fn error_of(message: &[u8]) -> Option<i32> {
    let mut scan = AnswerScan::new(Form::Json);
    scan.feed(message);
    scan.facts().error_code
}

/// Sends what the server waits for before it goes on, now that it is listened to.
pub async fn send_notes(worker: &Worker, exchange: &mut Exchange) {
    let Some(crossing) = &mut exchange.crossing else { return };
    let notes = std::mem::take(&mut crossing.notes);
    let Some(held) = crossing.held.clone() else { return };
    for note in notes {
        let adopted = worker.adopt();
        let server = exchange.record.server.as_str();
        if let Some(note) = Note::new(&adopted, exchange, server, &held, &note) {
            // A server that has stopped waiting says so in the answer.
            note.send(worker).await;
        }
    }
}
