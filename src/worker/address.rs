//! Whom a call is for: a server, in its own words or in others, or the gateway itself.
//!
//! Not here: what is done with it. A name at a hub is looked up once, here; from then on the call is about the server's
//! own name, so that access, limits and records are the same at every endpoint.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::hub::Form;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::plan::ServerId;
use crate::handoff::Asked;
use crate::http::fields::Known as Name;
use crate::http::fields::Single;
use crate::http::request::Method as HttpMethod;
use crate::mcp::crossing::event_ids;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::target;
use crate::mcp::target::Target;
use crate::mcp::target::Targets;
use crate::worker::Worker;
use crate::worker::admit::Door;
use crate::worker::admit::Intent;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::aim;
use crate::worker::callers::Known;
use crate::worker::client::Client;
use crate::worker::crossing;
use crate::worker::crossing::Crossing;
use crate::worker::denial;
use crate::worker::hub;
use crate::worker::hub::session;
use crate::worker::state::Exchange;
use std::rc::Rc;
use std::sync::Arc;

pub enum Address<'a> {
    /// A server of the plan. What changes on the way there is the exchange's crossing; none: nothing.
    Server(ServerId, &'a ServerState),
    /// The gateway answers.
    Here,
}

const NO_BATCH: Fault = Fault::new(
    Kind::InvalidRequest,
    "This endpoint takes no batches; send each message in a body of its own (2025-06-18 and later).",
);
const UNKNOWN_METHOD: Fault = Fault::new(Kind::UnknownMethod, "This endpoint has no such method.");
const UNKNOWN_METHOD_LEGACY: Fault = Fault::new(Kind::UnknownMethodLegacy, UNKNOWN_METHOD.detail);

/// What a method that is not here gets, as an era says it.
pub const fn unknown_method(era: Era) -> Fault {
    match era {
        Era::Modern => UNKNOWN_METHOD,
        Era::Legacy => UNKNOWN_METHOD_LEGACY,
    }
}

/// The way in, the caller, and what it wants.
pub type Visit<'a> = (&'a Door, &'a Rc<Known>, Intent);

/// Finds out whom a call is for.
///
/// # Errors
/// -32601 for a method that a hub does not have, -32602 for a name that it does not have, 404 for a session that it does
/// not have.
pub async fn find<'a>(
    worker: &Worker,
    adopted: &'a Adopted,
    client: &Client,
    exchange: &mut Exchange,
    visit: Visit<'_>,
) -> Result<Address<'a>, Fault> {
    let (door, _, intent) = visit;
    exchange.hub = door.hub;
    if let (Form::Server(id), Some(server)) = (door.hub(adopted).form, door.only(adopted)) {
        let plain =
            server.config().overrides.is_empty() && !aim::spreads(server.config(), intent.era, exchange);
        if plain && server.eras.speaks(intent.era) == Some(true) {
            return Ok(Address::Server(id, server));
        }
        // Boxed: asked once.
        if plain && Box::pin(passes(worker, client, server, intent.era)).await {
            return Ok(Address::Server(id, server));
        }
    }
    // Boxed: what passes untouched is not to pay for it.
    Box::pin(at_hub(worker, adopted, client, exchange, visit)).await
}

/// Whether a client of this era is served in it: the server speaks it, or none that is known.
async fn passes(worker: &Worker, client: &Client, server: &ServerState, era: Era) -> bool {
    let name = &server.config().name;
    for _ in 0..3 {
        let newest = worker.adopt();
        let eras = newest.find(name).map_or(server.eras, |server| server.eras);
        if let Some(way) = eras.way(era) {
            return way == era;
        }
        if !server.way.route().offers(0, worker.coarse_now()) {
            // It would not be called either, and nobody waits for it.
            return true;
        }
        let what = Asked::Era { server: Arc::clone(name), client: era, doubted: false };
        worker.question(what, client.slot, limits::QUESTION_MS).await;
    }
    // It cannot be asked: the call itself will say why.
    true
}

/// Whether a server of both eras can do more for an older client in the newer one: where it keeps no sessions it cannot ask
/// anything in the older.
fn is_better_served(worker: &Worker, server: &ServerState, era: Era) -> bool {
    let newest = worker.adopt();
    let eras = newest.find(&server.config().name).map_or(server.eras, |server| server.eras);
    era == Era::Legacy && eras.is_sessionless && eras.modern == Some(true)
}

const fn other(era: Era) -> Era {
    match era {
        Era::Modern => Era::Legacy,
        Era::Legacy => Era::Modern,
    }
}

async fn at_hub<'a>(
    worker: &Worker,
    adopted: &'a Adopted,
    client: &Client,
    exchange: &mut Exchange,
    (door, known, intent): Visit<'_>,
) -> Result<Address<'a>, Fault> {
    let own = match intent.era {
        Era::Modern => None,
        Era::Legacy => session::recognise(worker, adopted, client, exchange, known)?,
    };
    exchange.own = own;
    let Some(call) = exchange.call else {
        return Ok(replaying(adopted, client, exchange, (door, known)).unwrap_or_else(|| here(exchange)));
    };
    match named_by(&call)? {
        None => Ok(here(exchange)),
        Some(named) => member(worker, adopted, client, exchange, ((door, known, intent), &call, named)).await,
    }
}

/// The server of whose stream an older client has lost the rest. None: it names no event of one.
fn replaying<'a>(
    adopted: &'a Adopted,
    client: &Client,
    exchange: &mut Exchange,
    (door, known): (&Door, &Rc<Known>),
) -> Option<Address<'a>> {
    exchange.own.as_ref().filter(|_| door.head.method == HttpMethod::Get)?;
    let Single::One(span) = exchange.fields.single(Name::LastEventId) else { return None };
    let event = span.of(&client.input[client.start..client.end]);
    let (number, event) = event_ids::unwrap(event)?;
    let mut members = hub::members(adopted, door, &known.caller.tenant);
    let found = members.find_map(|(id, _)| {
        let server = adopted.server(id)?;
        Some((id, server, crossing::asking(server, number)?))
    });
    let (id, server, instance) = found?;
    exchange.record.server.set(&server.config().name);
    exchange.crossing = Some(Box::new(Crossing::replaying(event, instance)));
    Some(Address::Server(id, server))
}

const fn here<'a>(exchange: &mut Exchange) -> Address<'a> {
    exchange.is_here = true;
    Address::Here
}

/// What of a server a call is about; none: the gateway answers.
fn named_by(call: &Call) -> Result<Option<Named>, Fault> {
    let unknown = unknown_method(call.era);
    match call.kind {
        CallKind::Batch => return Err(NO_BATCH),
        CallKind::Response => return Ok(None),
        CallKind::Notification => {
            let ours = call.era == Era::Legacy || call.method_text.as_str().starts_with("notifications/");
            return if ours { Ok(None) } else { Err(unknown) };
        }
        CallKind::Request => {}
    }
    Ok(match (call.method, call.era) {
        (Method::ToolsCall, _) => Some(Named::Tool),
        (Method::PromptsGet, _) => Some(Named::Prompt),
        (Method::ResourcesRead, _) => Some(Named::Resource),
        (Method::ResourcesSubscribe | Method::ResourcesUnsubscribe, Era::Legacy) => Some(Named::Resource),
        // What it completes is told by its reference.
        (Method::Complete, _) => Some(Named::Prompt),
        (
            Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::ResourcesTemplatesList,
            _,
        )
        | (Method::Discover | Method::SubscriptionsListen, Era::Modern)
        | (Method::Initialize | Method::Ping | Method::SetLevel, Era::Legacy) => None,
        _ => return Err(unknown),
    })
}

/// The server that a name belongs to.
async fn member<'a>(
    worker: &Worker,
    adopted: &'a Adopted,
    client: &Client,
    exchange: &mut Exchange,
    ((door, known, intent), call, named): (Visit<'_>, &Call, Named),
) -> Result<Address<'a>, Fault> {
    let unknown = denial::in_words_of(intent.era, call.method, denial::UNKNOWN);
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let Targets::One(Target { named: read, name: shown }) = target::read(call.method, &call.target, body)?
    else {
        return Err(unknown);
    };
    let named = if call.method == Method::Complete { read } else { named };
    let shown = shown.into_owned();
    let sought = (named, &*shown);
    let visitor = (client.slot, door, &**known);
    let (id, own) = hub::find(worker, adopted, exchange, visitor, sought).await.ok_or(unknown)?;
    let server = adopted.server(id).ok_or(unknown)?;
    exchange.record.server.set(&server.config().name);
    exchange.record.target.set(&own);
    if let Some(call) = &mut exchange.call {
        call.target.set(&own);
    }
    // A client of the same era is served in it; of a server that nobody could ask the call itself finds out.
    let same =
        passes(worker, client, server, intent.era).await && !is_better_served(worker, server, intent.era);
    let spoken = if same { intent.era } else { other(intent.era) };
    let listed = known.own.find(&server.config().name, worker.coarse_now()).filter(|_| !same);
    let own_mirrored = listed.map(|listed| listed.mirrored.get(&*own).cloned().unwrap_or_default());
    let crossing = Crossing::new((named, own, shown), call.method, (intent.era, spoken));
    exchange.crossing = Some(Box::new(Crossing { own_mirrored, ..crossing }));
    if matches!(call.method, Method::ResourcesSubscribe | Method::ResourcesUnsubscribe) {
        // Control hears of changes for all.
        return Ok(Address::Here);
    }
    Ok(Address::Server(id, server))
}
