//! The bridge of the eras where a call takes more than one turn: a server that asks its client, a session that is gone, a
//! stream that goes on elsewhere.
//!
//! Not here: messages (`mcp::crossing`), and one turn of a call (`relay::cross`).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::config::plan::ServerId;
use crate::handoff::Asked as AskedOfControl;
use crate::mcp::crossing::questions;
use crate::mcp::crossing::questions::Question;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::envelope::REVISION_WITH_BATCHES;
use crate::mcp::sealed;
use crate::mcp::sealed::Kind as TokenKind;
use crate::mcp::sealed::state::CallState;
use crate::mcp::sealed::state::Pending;
use crate::worker::Worker;
use crate::worker::adopted::ServerState;
use crate::worker::aside;
use crate::worker::aside::Note;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::crossing::Crossing;
use crate::worker::crossing::Turn;
use crate::worker::crossing::held;
use crate::worker::crossing::held::Held;
use crate::worker::parked::Place;
use crate::worker::replies;
use crate::worker::state::Exchange;
use std::rc::Rc;
use std::sync::Arc;

/// A question of an older server.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Raw JSON.
    pub id: String,
    pub method: Method,
    pub params: Option<String>,
}

/// How a call goes on after a turn.
pub enum Next {
    /// It is sent again, in other words.
    Again,
    Done(After),
}

const TOO_LONG: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint asks more than a client could be given to keep; tell the operator.",
);
pub const SESSION_GONE: Fault = Fault::new(
    Kind::SessionNotFound,
    "The server behind this endpoint has ended your session, or lost it; initialize again.",
);
const NO_SESSION: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The server behind this endpoint opens no session for you; retry later or tell the operator.",
);
const TOO_MANY_ROUNDS: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint asked again and again, and never answered; tell the operator.",
);
const UNFIT: Fault = Fault::new(
    Kind::UpstreamProtocol,
    "The server behind this endpoint asks something that no client can be asked; tell the operator.",
);

/// The message that asks a client of 2026-07-28 what an older server has asked, with all that is needed to go on.
///
/// # Errors
/// 503 where nobody could go on.
pub fn ask(
    worker: &Worker,
    client: &Client,
    exchange: &Exchange,
    place: Option<Place>,
) -> Result<Vec<u8>, Fault> {
    let Some(crossing) = &exchange.crossing else { return Err(UNFIT) };
    let (Some(held), Some(event)) = (&crossing.held, &crossing.event) else { return Err(UNFIT) };
    if crossing.round >= limits::QUESTION_ROUNDS_MAX {
        return Err(TOO_MANY_ROUNDS);
    }
    let event = std::str::from_utf8(event).map_err(|_| UNFIT)?;
    let adopted = worker.adopt();
    let server = adopted.find(exchange.record.server.as_str()).ok_or(NO_SESSION)?;
    let instance = server.instances.get(held.instance).ok_or(NO_SESSION)?;
    let keyed = crossing.asked.iter().enumerate();
    let pending = keyed.map(|(at, asked)| Pending {
        key: questions::key(at, asked.method),
        id: asked.id.clone(),
        method: asked.method.as_str().into(),
        params: asked.params.clone(),
    });
    let message = client.input.get(exchange.body.clone()).unwrap_or_default();
    let now = worker.wall_seconds(worker.coarse_now());
    let state = CallState {
        expires_unix: now + limits::QUESTION_SECONDS_MAX,
        owner: exchange.owner,
        hub: crossing.hub,
        server: server.sealed_name,
        instance: instance.sealed_name,
        session: String::from_utf8_lossy(&held.name),
        revision: (&*held.revision).into(),
        request: (&*crossing.upstream_id).into(),
        event: event.into(),
        digest: crossing.digest(message),
        round: crossing.round + 1,
        pending: pending.collect(),
        waits: place.map(|place| (worker.shared.process, place.worker, place.number)),
    };
    let mut nonce = [0; 12];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| NO_SESSION)?;
    let mut token = Vec::new();
    let plain = state.to_bytes().ok_or(TOO_LONG)?;
    worker.shared.seal_keys.load().seal_as(TokenKind::State, plain, nonce, &mut token);
    let token = String::from_utf8(token).map_err(|_| UNFIT)?;
    held::keep(worker, held);
    let asked = crossing.asked.iter();
    let asked: Vec<Question<'_>> =
        asked.map(|one| Question { method: one.method, params: one.params.as_deref() }).collect();
    Ok(questions::input_required(&crossing.client_id, &asked, &token))
}

/// Does what a turn asks for.
///
/// # Errors
/// Why the call cannot go on.
pub async fn turn(
    worker: &Rc<Worker>,
    client: &mut Client,
    exchange: &mut Exchange,
    server: &ServerState,
    turn: Turn,
) -> Result<Next, Fault> {
    match turn {
        Turn::SessionGone => {
            let gone =
                exchange.crossing.as_ref().filter(|crossing| !crossing.renewed && crossing.event.is_none());
            let gone = gone.and_then(|crossing| crossing.held.clone()).ok_or(SESSION_GONE)?;
            // What an older client has done in its own is lost with it; it must know.
            if gone.is_of_client() {
                return Err(SESSION_GONE);
            }
            let held = held::renew(worker, client.slot, exchange, server, &gone).await.ok_or(NO_SESSION)?;
            let Some(crossing) = &mut exchange.crossing else { return Err(SESSION_GONE) };
            crossing.renew(held);
        }
        Turn::Resume { event, after_ms } => {
            if after_ms > 0 {
                worker.pause(after_ms.min(limits::RESUME_PAUSE_MS_MAX)).await;
            }
            let Some(crossing) = &mut exchange.crossing else { return Err(SESSION_GONE) };
            if after_ms != limits::RESUME_CONFLICT_MS {
                crossing.resumes += 1;
            }
            crossing.listen(event);
        }
        Turn::Relist => {
            let what = AskedOfControl::Catalogue { server: Arc::clone(&server.config().name) };
            worker.question(what, client.slot, limits::QUESTION_MS).await;
            let message = client.input.get(exchange.body.clone()).unwrap_or_default();
            let Some(mut crossing) = exchange.crossing.take() else { return Err(UNFIT) };
            crossing.relisted = true;
            let spoken = crossing.speak_again(worker, exchange, message, "");
            exchange.crossing = Some(crossing);
            spoken?;
        }
        Turn::InputRequired(result) => {
            return replies::answer(worker, client, exchange, &result).await;
        }
    }
    Ok(Next::Again)
}

/// Takes another session for a call of which nothing has left: the instance of its own cannot be reached. False: there is
/// none, or the call is bound to the one that it has.
pub async fn move_on(worker: &Worker, client: &Client, exchange: &mut Exchange, id: ServerId) -> bool {
    let Some(crossing) = exchange.crossing.as_ref().filter(|crossing| !crossing.renewed) else {
        return false;
    };
    let Some(held) = crossing.held.as_ref().filter(|held| !held.is_of_client()).cloned() else {
        return false;
    };
    let Some(adopted) = exchange.plan.clone() else { return false };
    let Some(server) = adopted.server(id) else { return false };
    if server.instances.len() < 2 || worker.watch.cause(client.slot).is_some() {
        return false;
    }
    let Some(held) = held::renew(worker, client.slot, exchange, server, &held).await else { return false };
    if let Some(crossing) = &mut exchange.crossing {
        crossing.renew(held);
    }
    true
}

/// Nobody waits any more: an older server is told, a newer one sees it.
pub fn cancel(worker: &Rc<Worker>, exchange: &Exchange) {
    let Some(crossing) = &exchange.crossing else { return };
    let is_told = crossing.server == Era::Legacy && crossing.replays.is_none();
    if let Some(held) = crossing.held.as_ref().filter(|_| is_told) {
        tell_cancelled(worker, exchange, held, &crossing.upstream_id);
    }
}

/// The same of a call that passes as it is, in a session of its client's.
pub fn cancel_plain(worker: &Rc<Worker>, exchange: &Exchange) {
    let Some(session) = exchange.session.as_ref().filter(|_| exchange.crossing.is_none()) else { return };
    let is_request = exchange.call.is_some_and(|call| call.kind == CallKind::Request);
    let id = std::str::from_utf8(&exchange.stream_id).unwrap_or_default();
    if !is_request || id.is_empty() {
        return;
    }
    let said = exchange.record.revision.as_str();
    // Who says no revision means this one (2025-06-18, transports, "Protocol Version Header").
    let revision = if said.is_empty() { REVISION_WITH_BATCHES } else { said };
    let held = Held {
        name: session.name.to_vec(),
        revision: revision.into(),
        instance: session.instance,
        opened: None,
    };
    tell_cancelled(worker, exchange, &held, id);
}

fn tell_cancelled(worker: &Rc<Worker>, exchange: &Exchange, held: &Held, id: &str) {
    let message = aside::cancelled(id);
    let note = Note::new(&worker.adopt(), exchange, exchange.record.server.as_str(), held, &message);
    if let Some(note) = note {
        note.send_behind(worker);
    }
}

impl Crossing {
    /// What a call is about: its answer to a question belongs to no other call.
    pub fn digest(&self, message: &[u8]) -> [u8; 16] {
        let text = std::str::from_utf8(message).unwrap_or_default();
        let arguments = crate::mcp::crossing::path::find(text, &["params", "arguments"]);
        let arguments = arguments.and_then(|at| text.get(at)).unwrap_or_default();
        sealed::digest(&[self.method.as_str().as_bytes(), self.name.as_bytes(), arguments.as_bytes()])
    }
}
