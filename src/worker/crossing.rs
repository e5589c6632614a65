//! Crossing: a call on its way to a server that knows what is called by another name, or speaks another revision: what is
//! sent instead of the client's own words.
//!
//! Not here: the splices (`mcp::crossing`), sending (`dispatch`), and the way back (`relay`).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::pattern::Named;
use crate::http::fields::Field;
use crate::http::fields::Known;
use crate::mcp::crossing::Abilities;
use crate::mcp::crossing::answer::Lens;
use crate::mcp::crossing::path;
use crate::mcp::crossing::questions;
use crate::mcp::crossing::questions::Question;
use crate::mcp::crossing::request_ids;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::mirror;
use crate::mcp::mirror::Mirrored;
use crate::mcp::sealed::Kind as TokenKind;
use crate::mcp::sealed::state::CallState;
use crate::mcp::sealed::state::Pending;
use crate::mcp::target::Target;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::bridge;
use crate::worker::bridge::Asked;
use crate::worker::client::Client;
use crate::worker::crossing::held::Held;
use crate::worker::crossing::held::Unheld;
use crate::worker::dispatch;
use crate::worker::parked;
use crate::worker::state::Exchange;
use std::borrow::Cow;

pub mod held;
mod replay;
pub mod states;
mod words;

/// What is special about a call at a hub.
pub struct Crossing {
    pub named: Named,
    /// As the server calls what the call is about, and as the client does.
    pub name: String,
    pub shown: String,
    pub method: Method,
    /// Of the client and of the server.
    pub client: Era,
    pub server: Era,
    /// Of the hub, in sealed tokens.
    pub hub: u64,
    /// Raw JSON: the id of the request as the client wrote it, and as the server got it.
    pub client_id: String,
    pub upstream_id: String,
    /// The session on an older server.
    pub held: Option<Held>,
    /// What is sent instead of the client's message; empty: its stream is listened to.
    pub body: Vec<u8>,
    pub listens: bool,
    /// Field lines of ours.
    pub fields: Vec<(&'static [u8], Vec<u8>)>,
    pub mirrored: Vec<mirror::Field>,
    /// What the tool wants repeated in fields, as the caller's own list says; None: it has none.
    pub own_mirrored: Option<Vec<Mirrored>>,
    /// How the answer is seen; none: as it is.
    pub lens: Option<Lens>,
    /// What has to be done before the call goes on.
    pub turn: Option<Turn>,
    /// What the server asks its client, and the event that it came with.
    pub asked: Vec<Asked>,
    pub event: Option<Vec<u8>>,
    /// Messages to the server, once its stream is listened to.
    pub notes: Vec<Vec<u8>>,
    /// The server is to say once more what it has said on a stream that its client has lost: on which of its instances.
    pub replays: Option<usize>,
    /// Where the call waits for what the client brings.
    pub waits: Option<parked::Place>,
    /// What the client is asked once more, instead of anything being sent.
    pub asked_again: Option<Vec<u8>>,
    /// The ids of questions that are answered already: some servers say them again.
    pub answered: Vec<String>,
    /// Rounds of questions, and times that a stream was asked for again.
    pub round: u8,
    pub resumes: u8,
    /// Those of them that followed a silence.
    pub silences: u8,
    /// Times that the server still held the stream.
    pub conflicts: u8,
    /// Another session took the place of one that was gone.
    pub renewed: bool,
    /// The server was listed again because it wants other arguments repeated.
    pub relisted: bool,
}

/// What has to be done before a call goes on.
#[derive(Debug)]
pub enum Turn {
    /// The server knows its session no more.
    SessionGone,
    /// Its stream goes on behind this event.
    Resume { event: Vec<u8>, after_ms: u64 },
    /// A server of 2026-07-28 wants input of an older client: its raw result.
    InputRequired(String),
    /// It did not look at the call, whose arguments are not repeated as its tool wants it now.
    Relist,
}

const UNFIT: Fault = Fault::new(
    Kind::InvalidParams,
    "The message cannot be put in the words of its server. Send each key once, as specified.",
);
const NO_SESSION: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The server behind this endpoint opens no session for you; retry later or tell the operator.",
);
const ELSEWHERE: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The call that your answer is for waits at another gateway, or has ended with it; call again.",
);
const MISMATCH: Fault = Fault::new(
    Kind::HeaderMismatch,
    "An Mcp-Param header and the argument that it repeats differ, or one of them is missing. Send both alike.",
);
const NO_STATE: Fault = Fault::new(
    Kind::InvalidRequestState,
    "This requestState is none of this call: it was changed, has expired, or belongs to another call or caller. Call \
     again without it.",
);

impl Crossing {
    pub fn new((named, name, shown): (Named, String, String), method: Method, eras: (Era, Era)) -> Self {
        let (client, server) = eras;
        Self {
            named,
            name,
            shown,
            method,
            client,
            server,
            hub: 0,
            client_id: String::new(),
            upstream_id: String::new(),
            held: None,
            body: Vec::new(),
            listens: false,
            fields: Vec::new(),
            mirrored: Vec::new(),
            own_mirrored: None,
            lens: None,
            turn: None,
            asked: Vec::new(),
            event: None,
            notes: Vec::new(),
            answered: Vec::new(),
            asked_again: None,
            replays: None,
            waits: None,
            round: 0,
            resumes: 0,
            silences: 0,
            conflicts: 0,
            renewed: false,
            relisted: false,
        }
    }

    /// What it is about, as policy knows it. None: nothing that a server has listed.
    pub fn target(&self) -> Option<Target<'_>> {
        self.replays.is_none().then(|| Target { named: self.named, name: Cow::Borrowed(&self.name) })
    }

    /// The number of the server in ids of events that the client gets. None: it gets none, as another era knows none.
    pub fn event_server(&self) -> Option<u32> {
        self.lens.as_ref().filter(|_| self.is_same() && self.client == Era::Legacy)?.asker
    }

    /// Whether a server that wants other arguments repeated than it listed may be listed again, and asked once more: our
    /// list of its tools is older than it (2026-07-28, transports, "Client Behavior").
    pub fn may_relist(&self) -> bool {
        self.client == Era::Legacy
            && self.server == Era::Modern
            && self.method == Method::ToolsCall
            && !self.relisted
    }

    /// Whether both sides speak the same era.
    pub fn is_same(&self) -> bool {
        self.client == self.server
    }

    /// Whether a field of the client goes no further.
    pub fn drops(&self, field: &Field, source: &[u8]) -> bool {
        if self.is_same() && self.client == Era::Modern {
            return field.known == Known::McpName;
        }
        let name = field.name.of(source);
        let ours = name.len() > 4 && name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"mcp-"));
        let is_of_body =
            || ["accept", "content-type"].iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
        ours || field.known == Known::LastEventId || (self.listens && is_of_body())
    }
}

/// Puts the call in the words of its server. Some: nothing is sent, and this is the answer.
///
/// # Errors
/// -32602 where that cannot be done, 400 for a state that is none of this call, 503 where an older server opens no
/// session.
pub async fn prepare(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    server: &ServerState,
) -> Result<Option<Vec<u8>>, Fault> {
    let Some(mut crossing) = exchange.crossing.take() else { return Ok(None) };
    if let Some(instance) = crossing.replays {
        let wraps = wraps(worker, adopted, exchange, server);
        // Boxed: hardly any stream is lost.
        Box::pin(crossing.replay(worker, client.slot, exchange, (server, instance, wraps))).await?;
        exchange.crossing = Some(crossing);
        return Ok(None);
    }
    let message = client.input.get(exchange.body.clone()).unwrap_or_default();
    let wraps = wraps(worker, adopted, exchange, server);
    if crossing.is_same() && crossing.client == Era::Modern && !wraps {
        // Only its name is another: the answer passes as it is.
        crossing.rename(message)?;
        exchange.crossing = Some(crossing);
        return Ok(None);
    }
    crossing.hub = adopted.hub_names.get(usize::from(exchange.hub)).copied().unwrap_or_default();
    let text = std::str::from_utf8(message).unwrap_or_default();
    let id = path::find(text, &["id"]).and_then(|at| text.get(at));
    // A request has one: the envelope was checked.
    crossing.client_id = id.unwrap_or("0").to_owned();
    let goes_on = crossing.server == Era::Legacy
        && crossing.client == Era::Modern
        && crossing.go_on(worker, exchange, server, message)?;
    if crossing.server == Era::Legacy && crossing.client == Era::Modern {
        crossing.check_mirrored(worker, client, exchange, message)?;
    }
    if crossing.server == Era::Legacy && !goes_on {
        if held::is_lost(exchange, server) {
            return Err(bridge::SESSION_GONE);
        }
        // Boxed: mostly it is open.
        let abilities = abilities(exchange, message);
        let held = Box::pin(held::find(worker, client.slot, exchange, server, abilities)).await;
        crossing.held = Some(held.map_err(|unheld| match unheld {
            Unheld::NoRoute(none) => dispatch::no_route(worker, exchange, server, none),
            Unheld::Unopened => NO_SESSION,
        })?);
    }
    if crossing.is_same() {
        crossing.rename(message)?;
        crossing.upstream_id.clone_from(&crossing.client_id);
    } else if !goes_on {
        crossing.speak(worker, exchange, message, "")?;
    }
    crossing.lens = crossing.lens(message, server, wraps, abilities(exchange, message));
    let again = crossing.asked_again.take();
    exchange.crossing = Some(crossing);
    Ok(again)
}

/// Makes the call one that can be sent again: where calls share a session, an id counts once in it (2025-11-25, basic,
/// "Requests").
///
/// # Errors
/// As `prepare`.
pub fn say_again(worker: &Worker, client: &Client, exchange: &mut Exchange) -> Result<(), Fault> {
    let shares = |crossing: &Crossing| crossing.server == Era::Legacy && crossing.client == Era::Modern;
    let Some(mut crossing) = exchange.crossing.take_if(|crossing| shares(crossing)) else { return Ok(()) };
    let message = client.input.get(exchange.body.clone()).unwrap_or_default();
    let spoken = crossing.speak_again(worker, exchange, message, "");
    exchange.crossing = Some(crossing);
    spoken
}

/// Whether URIs in answers have to say whose they are.
fn wraps(worker: &Worker, adopted: &Adopted, exchange: &Exchange, server: &ServerState) -> bool {
    if !adopted.plan.hubs.get(usize::from(exchange.hub)).is_some_and(|hub| hub.is_prefixed()) {
        return false;
    }
    let newest = worker.adopt();
    let known = newest.catalogues.by_server.get(&server.config().name);
    known.is_none_or(|known| known.about.has.resources)
}

/// The same questions with the same state.
fn ask_again(client_id: &str, state: &CallState<'_>, token: &str) -> Vec<u8> {
    let asked = state.pending.iter().map(|pending| Question {
        method: Method::from_text(&pending.method),
        params: pending.params.as_deref(),
    });
    questions::input_required(client_id, &asked.collect::<Vec<_>>(), token)
}

/// What the client lets servers ask it.
fn abilities(exchange: &Exchange, message: &[u8]) -> Abilities {
    if let Some(own) = &exchange.own {
        return own.abilities;
    }
    const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    let text = std::str::from_utf8(message).unwrap_or_default();
    let raw = path::find(text, &["params", "_meta", CAPABILITIES]).and_then(|at| text.get(at));
    raw.map(Abilities::of_modern).unwrap_or_default()
}

impl Crossing {
    /// Takes up a call that an older server has put a question to, where the client brings its state; false where it
    /// brings none.
    fn go_on(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        server: &ServerState,
        message: &[u8],
    ) -> Result<bool, Fault> {
        let Some(token) = questions::request_state(message).map_err(|_| NO_STATE)? else { return Ok(false) };
        let plain =
            worker.shared.seal_keys.load().open_as(TokenKind::State, token.as_bytes()).ok_or(NO_STATE)?;
        let state = CallState::from_bytes(&plain).ok_or(NO_STATE)?;
        let now = worker.wall_seconds(worker.coarse_now());
        let instance = server.instances.iter().position(|known| known.sealed_name == state.instance);
        let stands = state.owner == exchange.owner
            && state.hub == self.hub
            && state.server == server.sealed_name
            && state.expires_unix > now
            && state.digest == self.digest(message);
        let instance = instance.filter(|_| stands).ok_or(NO_STATE)?;
        let said = questions::input_responses(message).map_err(|_| UNFIT)?;
        let text = std::str::from_utf8(message).unwrap_or_default();
        for Pending { key, id, .. } in &state.pending {
            let answer = said.iter().find(|(known, _)| known == key).and_then(|(_, at)| text.get(at.clone()));
            let Some(answer) = answer else {
                // One that is missing is asked for again, with all the others (2026-07-28, multi round-trip requests).
                self.asked_again = Some(ask_again(&self.client_id, &state, &token));
                return Ok(true);
            };
            self.notes.push(questions::response(id, answer));
        }
        self.round = state.round;
        self.answered.extend(state.pending.iter().map(|pending| pending.id.clone()));
        self.upstream_id = state.request.clone().into_owned();
        self.held = Some(Held {
            name: state.session.as_bytes().to_vec(),
            revision: state.revision.as_ref().into(),
            instance,
            opened: None,
        });
        match state.waits {
            Some((process, ..)) if process != worker.shared.process => return Err(ELSEWHERE),
            Some((_, worker, number)) => {
                self.event = Some(Vec::new());
                self.waits = Some(parked::Place { worker, number });
            }
            None => self.listen(state.event.as_bytes().to_vec()),
        }
        Ok(true)
    }

    /// Whether a message of an older server is about another call: some servers give all that they have to whoever goes on
    /// behind an event.
    pub fn is_strange(&self, message: &str) -> bool {
        if self.replays.is_some() {
            return false;
        }
        // In a session of its own a client hears nothing of others, unless it goes on behind an event.
        if self.server != Era::Legacy || (self.event.is_none() && self.client == Era::Legacy) {
            return false;
        }
        let Some(id) = path::find(message, &["id"]).and_then(|at| message.get(at)) else { return false };
        let is_request = path::find(message, &["method"]).is_some();
        if is_request { self.answered.iter().any(|known| known == id) } else { id != self.upstream_id }
    }

    /// Listens to the stream of a call behind an event, instead of sending it.
    pub fn listen(&mut self, event: Vec<u8>) {
        self.listens = true;
        self.body.clear();
        self.fields = self.fields_for();
        self.fields.push((b"Accept", b"text/event-stream".to_vec()));
        self.fields.push((b"Last-Event-ID", event.clone()));
        self.event = Some(event);
    }

    /// Goes by another session.
    pub fn renew(&mut self, held: Held) {
        self.held = Some(held);
        self.renewed = true;
        self.fields = self.fields_for();
    }

    /// The same call once more, with members that are added to its parameters.
    ///
    /// # Errors
    /// As `prepare`.
    pub fn speak_again(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        message: &[u8],
        params: &str,
    ) -> Result<(), Fault> {
        self.speak(worker, exchange, message, params)?;
        if let Some(lens) = &mut self.lens {
            lens.id = Some(self.client_id.as_str().into());
        }
        Ok(())
    }
}

/// The instance that a number of [`asker`] means.
pub fn asking(server: &ServerState, number: u32) -> Option<usize> {
    (0..server.instances.len()).find(|instance| asker(server, *instance) == Some(number))
}

/// The number of an instance in the ids of its requests to older clients.
pub fn asker(server: &ServerState, instance: usize) -> Option<u32> {
    let instance = server.instances.get(instance)?;
    Some(request_ids::numbered(server.sealed_name, instance.sealed_name))
}
