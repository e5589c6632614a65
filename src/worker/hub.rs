//! A hub: what the gateway answers by itself where several servers are served as one, or one in another era than its own.
//!
//! Not here: what the answers say (`mcp::hub`), and calls, which go to servers (`crossing`).

pub mod list;
pub mod seen;
pub mod session;
pub mod stream;
pub mod streams;

use crate::base::clock;
use crate::base::fault::Fault;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::handoff::Asked;
use crate::http::request::Method as HttpMethod;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::hub::Scene;
use crate::mcp::hub::about;
use crate::mcp::hub::lists;
use crate::mcp::hub::names;
use crate::mcp::listing::Kind as ListKind;
use crate::mcp::target::Target;
use crate::worker::Worker;
use crate::worker::address::Visit;
use crate::worker::admit::Door;
use crate::worker::adopted::Adopted;
use crate::worker::callers::Known;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::own;
use crate::worker::own::Learned;
use crate::worker::own::Shelf;
use crate::worker::permit;
use crate::worker::reply;
use crate::worker::state::Exchange;
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The servers of a hub that a caller of this tenant may know of.
pub fn members<'a>(
    adopted: &'a Adopted,
    door: &Door,
    tenant: &'a str,
) -> impl Iterator<Item = (ServerId, &'a Server)> {
    let ids = door.hub(adopted).members.iter().copied();
    ids.filter_map(|id| Some((id, adopted.plan.servers.get(usize::from(id))?)))
        .filter(move |(_, server)| server.is_for_tenant(tenant))
}

/// A scene of what is known now, for a caller of this tenant.
pub fn scene<T>(
    adopted: &Adopted,
    shelf: &Shelf,
    (door, tenant): (&Door, &str),
    then: impl FnOnce(&Scene<'_>) -> T,
) -> T {
    let plan = &adopted.plan;
    let hub = door.hub(adopted);
    let members = members(adopted, door, tenant).map(|(id, _)| id).collect();
    let catalogue = |id: ServerId| -> Option<&Catalogue> {
        let server = plan.servers.get(usize::from(id))?;
        shelf.find(&server.name)
    };
    then(&Scene { hub, servers: &plan.servers, catalogue: &catalogue, members })
}

/// The same, without servers of which the caller may use nothing: what a hub says about itself names no others.
pub fn visible_scene<T>(
    worker: &Worker,
    (adopted, shelf): (&Adopted, &Shelf),
    (door, known, source): (&Door, &Known, IpAddr),
    then: impl FnOnce(&Scene<'_>) -> T,
) -> T {
    scene(adopted, shelf, (door, &known.caller.tenant), |scene| {
        if adopted.plan.access.rules.is_empty() {
            return then(scene);
        }
        let sees = list::sees(worker, adopted, (&known.caller, &known.standing, source));
        let members = lists::members(scene, &mut |entry| sees(entry));
        then(&Scene { members, hub: scene.hub, servers: scene.servers, catalogue: scene.catalogue })
    })
}

/// Whether a server tells of changes of its resources, as far as anybody knows.
pub fn may_subscribe(worker: &Worker, known: &Known, server: &Server) -> bool {
    let shelf = Shelf::of(worker, known);
    shelf.find(&server.name).is_none_or(|listed| listed.about.has.subscribe)
}

/// Answers what is not for one server.
///
/// # Errors
/// What policy says; 502, 503 or 504 where nothing is known of any server; -32602 for a cursor that is none.
pub async fn answer(
    worker: &Rc<Worker>,
    adopted: &Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
    visit: Visit<'_>,
) -> Result<After, Fault> {
    let (door, known, _) = visit;
    permit::ask(worker, adopted, client, exchange, known).await?;
    let Some(call) = exchange.call else {
        return match door.head.method {
            HttpMethod::Delete => Ok(session::end(worker, client, exchange).await),
            _ => stream::serve(worker, adopted, client, exchange, visit).await,
        };
    };
    if call.kind != CallKind::Request {
        return session::hear(worker, client, exchange, &call).await;
    }
    match call.method {
        Method::Discover => {
            let _learned =
                learn(worker, adopted, exchange, (client.slot, known), &door.hub(adopted).members).await;
            Ok(introduce(worker, adopted, client, exchange, (door, &**known)).await)
        }
        Method::Initialize => session::begin(worker, adopted, client, exchange, (door, known)).await,
        Method::ToolsList => list::answer(worker, adopted, client, exchange, (visit, ListKind::Tool)).await,
        Method::PromptsList => {
            list::answer(worker, adopted, client, exchange, (visit, ListKind::Prompt)).await
        }
        Method::ResourcesList => {
            list::answer(worker, adopted, client, exchange, (visit, ListKind::Resource)).await
        }
        Method::ResourcesTemplatesList => {
            list::answer(worker, adopted, client, exchange, (visit, ListKind::Template)).await
        }
        Method::SetLevel => session::set_level(worker, client, exchange).await,
        Method::SubscriptionsListen => stream::serve(worker, adopted, client, exchange, visit).await,
        Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
            session::subscribe(worker, adopted, client, exchange, (&**known, call.method)).await
        }
        _ => Ok(reply::result(worker, client, exchange, "{}").await),
    }
}

/// Answers `server/discover` from what is known.
async fn introduce(
    worker: &Worker,
    adopted: &Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
    (door, known): (&Door, &Known),
) -> After {
    let shelf = Shelf::of(worker, known);
    let freshness = list::freshness(worker, adopted, &shelf, (door, known));
    let told = (door, known, client.ends.peer);
    let say = |scene: &Scene<'_>| about::discovered(scene, &freshness);
    let text = visible_scene(worker, (adopted, &shelf), told, say);
    reply::result(worker, client, exchange, &text).await
}

/// Answers `server/discover` for one server that could not be reached, where it is known what it would say: clients take an
/// error for a server of the older revisions, some for good.
///
/// # Errors
/// The fault, of any other call, and where nothing is known.
pub async fn stand_in(
    worker: &Worker,
    adopted: &Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
    ((door, known), fault): ((&Door, &Known), Fault),
) -> Result<After, Fault> {
    let name = adopted.plan.server_of(exchange.record.server.as_str()).map(|server| &server.name);
    let shelf = Shelf::of(worker, known);
    let listed = name.and_then(|name| shelf.find(name)).filter(|listed| listed.about.era == Era::Modern);
    if listed.is_none() || worker.watch.cause(client.slot).is_some() {
        return Err(fault);
    }
    // It is no refusal any more.
    exchange.denial = None;
    Ok(introduce(worker, adopted, client, exchange, (door, known)).await)
}

/// The server that a name at a hub belongs to, and the server's own name of it. None: there is nothing of this name.
pub async fn find(
    worker: &Worker,
    adopted: &Adopted,
    exchange: &mut Exchange,
    (slot, door, known): (usize, &Door, &Known),
    (named, shown): (Named, &str),
) -> Option<(ServerId, String)> {
    let hub = door.hub(adopted);
    let visitor = (slot, known);
    let mixes = !hub.is_prefixed() && hub.members.len() > 1;
    // Whose it is can only be told by lists.
    let members: &[ServerId] = if mixes { &hub.members } else { &[] };
    let _learned = learn(worker, adopted, exchange, visitor, members).await;
    let look = || {
        let shelf = Shelf::of(worker, known);
        scene(adopted, &shelf, (door, &known.caller.tenant), |scene| {
            let found = names::find(scene, named, shown)?;
            let has = (scene.catalogue)(found.server).map(|catalogue| {
                let target = Target { named, name: Cow::Borrowed(&*found.name) };
                catalogue.may_have(&target)
            });
            Some((found.server, found.name.into_owned(), has))
        })
    };
    let (id, own, has) = look()?;
    let server = adopted.server(id)?.config();
    if !server.is_for_tenant(&known.caller.tenant) {
        return None;
    }
    let _learned = match has {
        Some(true) => return Some((id, own)),
        None => learn(worker, adopted, exchange, visitor, &[id]).await,
        Some(false) => learn_anew(worker, exchange, visitor, server).await,
    };
    // Of a server that cannot be listed nobody can say what it has.
    look().filter(|(_, _, has)| *has != Some(false)).map(|(id, own, _)| (id, own))
}

/// Has a server listed again, because a caller names what it is not known to have: it may be new. Control lists it no
/// more than once a second.
pub async fn learn_anew(
    worker: &Worker,
    exchange: &mut Exchange,
    (slot, known): (usize, &Known),
    server: &Server,
) -> Learned {
    let mut learned = Learned::default();
    let own =
        known.own.find(&server.name, worker.coarse_now()).and_then(|_| own::question(known, server, true));
    let is_own = own.is_some();
    let what = own.unwrap_or_else(|| Asked::Catalogue { server: Arc::clone(&server.name) });
    let began = clock::now();
    let answer = worker.question(what, slot, limits::QUESTION_MS).await;
    exchange.waited_ns += clock::now().nanos_since(began);
    if is_own {
        learned.note(worker, known, server, answer);
    }
    learned
}

/// Has servers listed that are not, and those again whose lists are old. Waits only for the first list of a server, and
/// for lists of the caller's own.
pub async fn learn(
    worker: &Worker,
    adopted: &Adopted,
    exchange: &mut Exchange,
    (slot, known): (usize, &Known),
    members: &[ServerId],
) -> Learned {
    let newest = worker.adopt();
    let now = worker.coarse_now();
    let (mut unknown, mut old) = (Vec::new(), Vec::new());
    let mut learned = Learned::default();
    // Of a caller's own, and whose they are.
    let (mut whats, mut whose) = (Vec::new(), Vec::new());
    for server in members.iter().filter_map(|id| adopted.server(*id)) {
        let server = server.config();
        let is_own = own::is_shown_callers(server) && server.is_for_tenant(&known.caller.tenant);
        if is_own {
            match own::fresh(worker, known, server) {
                Some(own) => learned.hold(own),
                None => {
                    whats.extend(own::question(known, server, false));
                    whose.resize(whats.len(), server);
                }
            }
        }
        match newest.catalogues.by_server.get(&server.name) {
            // It was asked: nobody waits for it again, but control hears that somebody would like to know.
            None if is_own || newest.catalogues.failing.contains_key(&server.name) => {
                old.push(Arc::clone(&server.name))
            }
            None => unknown.push(Arc::clone(&server.name)),
            Some(known)
                if now >= known.fresh_until(server.list_cache)
                    || newest.catalogues.failing.contains_key(&server.name) =>
            {
                old.push(Arc::clone(&server.name));
            }
            Some(_) => {}
        }
    }
    if !old.is_empty() && worker.may_remind(now) {
        worker.tell(Asked::Catalogues { servers: old.into() });
    }
    if !unknown.is_empty() {
        whats.push(Asked::Catalogues { servers: unknown.into() });
    }
    if whats.is_empty() {
        return learned;
    }
    let began = clock::now();
    let answers = worker.questions(whats, slot, limits::QUESTION_MS).await;
    exchange.waited_ns += clock::now().nanos_since(began);
    learned.has_waited = true;
    for (whose, answer) in whose.into_iter().zip(answers) {
        learned.note(worker, known, whose, answer);
    }
    learned
}
