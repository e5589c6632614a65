//! Sessions of older clients at a hub: begun, recognised, heard and ended by the gateway, which keeps nothing of them but
//! what is sealed in their names.
//!
//! Not here: the sealing (`mcp::sealed`), and sessions that pass to one server untouched (`worker::session`).

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Interest;
use crate::handoff::Letter;
use crate::handoff::SealedMember;
use crate::handoff::SessionNote;
use crate::http::fields::Known as Name;
use crate::http::fields::Single;
use crate::mcp::crossing::Abilities;
use crate::mcp::crossing::path;
use crate::mcp::crossing::request_ids;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::envelope::REVISIONS_LEGACY;
use crate::mcp::hub::Scene;
use crate::mcp::hub::about;
use crate::mcp::log_level;
use crate::mcp::sealed::Kind as TokenKind;
use crate::mcp::sealed::own::Member;
use crate::mcp::sealed::own::OwnSession;
use crate::worker::Worker;
use crate::worker::admit::Door;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::aside::Note;
use crate::worker::callers::Known;
use crate::worker::calls;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::crossing;
use crate::worker::crossing::held;
use crate::worker::denial;
use crate::worker::hub;
use crate::worker::own::Shelf;
use crate::worker::replies;
use crate::worker::reply;
use crate::worker::state::Exchange;
use std::rc::Rc;
use std::sync::Arc;

const UNKNOWN: Fault =
    Fault::new(Kind::SessionNotFound, "There is no such session here, or it has ended; initialize again.");
const MISSING: Fault = Fault::new(
    Kind::SessionMissing,
    "This endpoint keeps a session for clients of your revision. Send initialize first, then its Mcp-Session-Id.",
);
const NO_SUBSCRIPTIONS: Fault = Fault::new(
    Kind::UnknownMethodLegacy,
    "The server of this resource does not tell of changes; read the resource again instead.",
);
const NO_RANDOM: Fault = Fault::new(Kind::Overloaded, "No session can be opened now; retry later.");

/// The session that a request is part of; none for the one that begins it.
///
/// # Errors
/// 400 where none is named, 404 where it is unknown, expired, ended, somebody else's or another endpoint's.
pub fn recognise(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &Exchange,
    known: &Known,
) -> Result<Option<Box<OwnSession>>, Fault> {
    if exchange.call.is_some_and(|call| call.method == Method::Initialize) {
        return Ok(None);
    }
    let token = match exchange.fields.single(Name::SessionId) {
        Single::Missing => return Err(MISSING),
        Single::Twice => return Err(UNKNOWN),
        Single::One(span) => span.of(&client.input[client.start..client.end]),
    };
    let plain = worker.shared.seal_keys.load().open_as(TokenKind::Own, token).ok_or(UNKNOWN)?;
    let session = OwnSession::from_bytes(&plain).ok_or(UNKNOWN)?;
    let now = worker.wall_seconds(worker.coarse_now());
    let hub = adopted.hub_names.get(usize::from(exchange.hub)).copied();
    let stands = session.owner == known.owner
        && Some(session.hub) == hub
        && u64::from(session.expires_unix) > now
        && !worker.shared.notes.load().ended.contains(&session.number);
    if stands { Ok(Some(Box::new(session))) } else { Err(UNKNOWN) }
}

/// Answers `initialize`: the session begins, and with it those on older servers.
///
/// # Errors
/// 503 where no session can be opened.
pub async fn begin(
    worker: &Worker,
    adopted: &Adopted,
    client: &mut Client,
    exchange: &mut Exchange,
    (door, known): (&Door, &Rc<Known>),
) -> Result<After, Fault> {
    let visitor = (client.slot, &**known);
    let _learned = hub::learn(worker, adopted, exchange, visitor, &door.hub(adopted).members).await;
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let capabilities = path::find(text, &["params", "capabilities"]).and_then(|at| text.get(at));
    let abilities = capabilities.map(Abilities::of_legacy).unwrap_or_default();
    let wanted = exchange.call.map(|call| call.revision);
    let revision = about::agreed(wanted.as_ref().map_or("", |revision| revision.as_str()));
    let (mut number, mut nonce) = ([0; 8], [0; 12]);
    let random = aws_lc_rs::rand::fill(&mut number).and_then(|()| aws_lc_rs::rand::fill(&mut nonce));
    random.map_err(|_| NO_RANDOM)?;
    let now = worker.wall_seconds(worker.coarse_now());
    let mut session = OwnSession {
        expires_unix: u32::try_from(now + limits::SESSION_SECONDS_MAX).unwrap_or(u32::MAX),
        owner: known.owner,
        hub: adopted.hub_names.get(usize::from(door.hub)).copied().unwrap_or_default(),
        number,
        abilities,
        revision,
        members: Vec::new(),
    };
    session.members = open_members(worker, adopted, client.slot, (door, known), &session).await;
    let lines = &mut exchange.own_lines;
    lines.extend_from_slice(b"Mcp-Session-Id: ");
    worker.shared.seal_keys.load().seal_as(TokenKind::Own, session.to_bytes(), nonce, lines);
    lines.extend_from_slice(b"\r\n");
    let shelf = Shelf::of(worker, known);
    let told = (door, &**known, client.ends.peer);
    let say = |scene: &Scene<'_>| about::initialized(scene, revision);
    let text = hub::visible_scene(worker, (adopted, &shelf), told, say);
    Ok(reply::result(worker, client, exchange, &text).await)
}

/// Opens sessions on the older servers of a hub, all at once. What cannot be opened now is opened when it is needed.
async fn open_members(
    worker: &Worker,
    adopted: &Adopted,
    slot: usize,
    (door, known): (&Door, &Known),
    session: &OwnSession,
) -> Vec<Member> {
    let newest = worker.adopt();
    let older = door.hub(adopted).members.iter().filter_map(|id| adopted.server(*id)).filter(|server| {
        let config = server.config();
        let eras = newest.find(&config.name).map_or(server.eras, |server| server.eras);
        // Credentials of callers are obtained with the call that needs them.
        config.is_for_tenant(&known.caller.tenant)
            && config.auth.is_none()
            && eras.speaks(Era::Legacy) == Some(true)
            && server.way.opens(worker.coarse_now())
    });
    let older: Vec<_> = older.take(limits::QUESTIONS_AT_ONCE_MAX).collect();
    if older.is_empty() {
        return Vec::new();
    }
    let asked = older.iter().map(|server| Asked::Session {
        key: server.session_key(session.owner, session.number, session.abilities, None),
        not: None,
        shown: None,
        plan: server.plan(),
    });
    // Control opens them within its own deadline; who needs one that did not come in time opens it with the call.
    let answers = worker.questions(asked.collect(), slot, 0).await;
    let member = |(server, answer): (&&ServerState, Option<Answer>)| {
        let Some(Answer::Session(Some(opened))) = answer else {
            server.way.unopened.set(Some(worker.coarse_now()));
            return None;
        };
        let revision = REVISIONS_LEGACY.into_iter().find(|known| *known == &*opened.revision)?;
        let (instance, name) = (opened.instance, opened.name.to_vec());
        Some(Member { server: server.sealed_name, instance, revision, name })
    };
    older.iter().zip(answers).filter_map(member).collect()
}

/// Answers DELETE.
pub async fn end(worker: &Rc<Worker>, client: &mut Client, exchange: &mut Exchange) -> After {
    if let Some(own) = &exchange.own {
        // Those that are sealed in it may have been opened by another gateway: nobody else would end them.
        let adopted = worker.adopt();
        for member in &own.members {
            let server = adopted.servers.iter().find(|server| server.sealed_name == member.server);
            let Some((server, held)) = server.and_then(|it| Some((it, held::of_member(it, member)?))) else {
                continue;
            };
            if let Some(note) = Note::ending(&adopted, exchange, &server.config().name, &held) {
                note.send_behind(worker);
            }
        }
        let what = Asked::Note { session: own.number, note: SessionNote::Ended };
        worker.question(what, client.slot, limits::QUESTION_MS).await;
    }
    reply::json(worker, client, exchange, 200, b"").await
}

const NO_LEVEL: Fault = Fault::new(
    Kind::InvalidParams,
    "params.level is no log level. Send debug, info, notice, warning, error, critical, alert or emergency.",
);

/// Answers `logging/setLevel`, and tells servers in whose sessions the client is: they send no more than it wants.
///
/// # Errors
/// -32602 for what is no level.
pub async fn set_level(
    worker: &Rc<Worker>,
    client: &mut Client,
    exchange: &mut Exchange,
) -> Result<After, Fault> {
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let level = path::text(text, &["params", "level"]).ok_or(NO_LEVEL)?;
    let level = log_level::number(&level).ok_or(NO_LEVEL)?;
    if let Some(own) = &exchange.own {
        let note = SessionNote::Level(level, sealed_members(worker, own));
        let what = Asked::Note { session: own.number, note };
        worker.question(what, client.slot, limits::QUESTION_MS).await;
    }
    Ok(reply::result(worker, client, exchange, "{}").await)
}

/// Answers `resources/subscribe` and `resources/unsubscribe`: what they name was looked up before.
///
/// # Errors
/// As the server of the resource says it: -32601 where it has no subscriptions, -32002 where it says in time that there is no
/// such resource.
pub async fn subscribe(
    worker: &Worker,
    adopted: &Adopted,
    client: &mut Client,
    exchange: &mut Exchange,
    (known, method): (&Known, Method),
) -> Result<After, Fault> {
    let server = adopted.plan.server_of(exchange.record.server.as_str());
    if server.is_some_and(|server| !hub::may_subscribe(worker, known, server)) {
        return Err(NO_SUBSCRIPTIONS);
    }
    if let (Some(own), Some(crossing)) = (&exchange.own, &exchange.crossing) {
        let (server, uri) = (Arc::from(exchange.record.server.as_str()), Arc::from(&*crossing.name));
        let note = match method {
            Method::ResourcesSubscribe => SessionNote::Subscribed(server, uri),
            _ => SessionNote::Unsubscribed(server, uri),
        };
        let begins = matches!(note, SessionNote::Subscribed(..));
        let resource: (Arc<str>, Arc<str>) =
            (Arc::from(exchange.record.server.as_str()), Arc::from(&*crossing.name));
        let what = Asked::Note { session: own.number, note };
        worker.question(what, client.slot, limits::QUESTION_MS).await;
        if begins {
            // The stream of the session hears of it by itself. Here it is only waited for until the server is listened to.
            let stream = worker.next_request_id();
            let what = Some(Interest { servers: Vec::new(), resources: vec![resource.clone()] });
            let what = Asked::Interest { stream, what };
            let answer = worker.question(what, client.slot, limits::LISTEN_WAIT_MS).await;
            worker.tell(Asked::Interest { stream, what: None });
            if matches!(answer, Some(Answer::Listening { refused }) if !refused.is_empty()) {
                let note = SessionNote::Unsubscribed(resource.0, resource.1);
                let what = Asked::Note { session: own.number, note };
                worker.question(what, client.slot, limits::QUESTION_MS).await;
                return Err(denial::in_words_of(Era::Legacy, method, denial::UNKNOWN));
            }
        }
    }
    Ok(reply::result(worker, client, exchange, "{}").await)
}

/// The level from which on a session wants log messages.
pub fn level(worker: &Worker, own: &OwnSession) -> &'static str {
    let level = worker.shared.notes.load().levels.get(&own.number).copied();
    // Before anything is set a server may send what it likes (2025-11-25, logging).
    level.and_then(|level| log_level::LEVELS.get(usize::from(level))).copied().unwrap_or("info")
}

/// Takes a notification of an older client, or its answer to a question.
///
/// # Errors
/// None: what nobody waits for is taken and dropped, as the revisions want it.
pub async fn hear(
    worker: &Rc<Worker>,
    client: &mut Client,
    exchange: &mut Exchange,
    call: &Call,
) -> Result<After, Fault> {
    if let Some(own) = exchange.own.take() {
        match (call.kind, call.method) {
            (CallKind::Response, _) => answered(worker, client, exchange, &own).await,
            (_, Method::Cancelled) => cancelled(worker, client, exchange, &own),
            (_, Method::RootsListChanged) => {
                let note = SessionNote::RootsChanged(sealed_members(worker, &own));
                worker.tell(Asked::Note { session: own.number, note });
            }
            _ => {}
        }
        exchange.own = Some(own);
    }
    Ok(reply::accepted(worker, client, exchange).await)
}

/// Gives an answer to the call, or to the server, that waits for it.
async fn answered(worker: &Rc<Worker>, client: &Client, exchange: &Exchange, own: &OwnSession) {
    let message = client.input.get(exchange.body.clone()).unwrap_or_default();
    let text = std::str::from_utf8(message).unwrap_or_default();
    if let Some(id) = path::text(text, &["id"])
        && replies::hand_on(worker, own.number, &id, message)
    {
        return;
    }
    let mut original = Vec::with_capacity(message.len());
    let Ok(Some(asker)) = request_ids::unwrap(message, &mut original) else { return };
    let adopted = worker.adopt();
    let mut asking =
        adopted.servers.iter().filter_map(|server| Some((server, crossing::asking(server, asker)?)));
    let Some((server, instance)) = asking.next() else { return };
    let held = held::of_client(worker, client.slot, exchange, own, (server, instance));
    let held = Box::pin(held).await;
    let Some(held) = held else { return };
    if let Some(note) = Note::new(&adopted, exchange, &server.config().name, &held, &original) {
        note.send(worker).await;
    }
}

/// The sessions that are sealed in a client's, as control knows their servers.
fn sealed_members(worker: &Worker, own: &OwnSession) -> Arc<[SealedMember]> {
    let adopted = worker.adopt();
    let named = own.members.iter().filter_map(|member| {
        let server = adopted.servers.iter().find(|server| server.sealed_name == member.server)?;
        Some((Arc::clone(&server.config().name), member.clone()))
    });
    named.collect()
}

/// The client does not want a call any more: whichever worker has it ends it.
fn cancelled(worker: &Rc<Worker>, client: &Client, exchange: &Exchange, own: &OwnSession) {
    let message = client.input.get(exchange.body.clone()).unwrap_or_default();
    let text = std::str::from_utf8(message).unwrap_or_default();
    let Some(id) = path::find(text, &["params", "requestId"]).and_then(|at| message.get(at)) else { return };
    calls::cancel(worker, own.number, id);
    for (index, post) in worker.shared.posts.iter().enumerate() {
        let letter = Letter::Cancel { session: own.number, id: id.into() };
        if index != worker.index && post.mailbox.post(letter).is_err() {
            worker.metrics().hit(Bound::Mailbox);
        }
    }
}
