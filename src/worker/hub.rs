//! A hub: what the gateway answers by itself where several servers are served as one, or one in another era than its own.
//!
//! Not here: what the answers say (`mcp::hub`), and calls, which go to servers (`crossing`).

pub mod list;
pub mod session;
pub mod stream;

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::plan::ServerId;
use crate::handoff::Asked;
use crate::handoff::Catalogues;
use crate::http::request::Method as HttpMethod;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::envelope::CallKind;
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
use crate::worker::permit;
use crate::worker::reply;
use crate::worker::state::Exchange;
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

const ALL_DOWN: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "None of the servers behind this endpoint can be listed; retry later or tell the operator to check that they run.",
);

/// A scene of what is known now, for a caller of this tenant.
pub fn scene<T>(
    adopted: &Adopted,
    catalogues: &Catalogues,
    (door, tenant): (&Door, &str),
    then: impl FnOnce(&Scene<'_>) -> T,
) -> T {
    let plan = &adopted.plan;
    let hub = door.hub(adopted);
    let is_for_tenant = |id: &&ServerId| {
        plan.servers.get(usize::from(**id)).is_some_and(|server| server.is_for_tenant(tenant))
    };
    let members: Vec<ServerId> = hub.members.iter().filter(is_for_tenant).copied().collect();
    let catalogue = |id: ServerId| -> Option<&Catalogue> {
        let server = plan.servers.get(usize::from(id))?;
        catalogues.by_server.get(&server.name).map(|known| &**known)
    };
    then(&Scene { hub, servers: &plan.servers, catalogue: &catalogue, members })
}

/// The same, without servers of which the caller may use nothing: what a hub says about itself names no others.
pub fn visible_scene<T>(
    worker: &Worker,
    (adopted, catalogues): (&Adopted, &Catalogues),
    (door, known, source): (&Door, &Known, IpAddr),
    then: impl FnOnce(&Scene<'_>) -> T,
) -> T {
    scene(adopted, catalogues, (door, &known.caller.tenant), |scene| {
        if adopted.plan.access.rules.is_empty() {
            return then(scene);
        }
        let sees = list::sees(worker, adopted, (known, source));
        let members = lists::members(scene, &mut |entry| sees(entry));
        then(&Scene { members, hub: scene.hub, servers: scene.servers, catalogue: scene.catalogue })
    })
}

/// Answers what is not for one server.
///
/// # Errors
/// What policy says; 503 where nothing is known of any server; -32602 for a cursor that is none.
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
            learn(worker, adopted, client.slot, &door.hub(adopted).members).await;
            let catalogues = Arc::clone(&worker.adopt().catalogues);
            let freshness = list::freshness(worker, adopted, &catalogues, (door, known));
            let told = (door, &**known, client.ends.peer);
            let say = |scene: &Scene<'_>| about::discovered(scene, &freshness);
            let text = visible_scene(worker, (adopted, &catalogues), told, say);
            Ok(reply::result(worker, client, exchange, &text).await)
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
            session::subscribe(worker, client, exchange, call.method).await
        }
        _ => Ok(reply::result(worker, client, exchange, "{}").await),
    }
}

/// The server that a name at a hub belongs to, and the server's own name of it. None: there is nothing of this name.
pub async fn find(
    worker: &Worker,
    adopted: &Adopted,
    slot: usize,
    (door, known): (&Door, &Known),
    (named, shown): (Named, &str),
) -> Option<(ServerId, String)> {
    let hub = door.hub(adopted);
    if !hub.is_prefixed() && hub.members.len() > 1 {
        // Whose it is can only be told by lists.
        learn(worker, adopted, slot, &hub.members).await;
    }
    let look = || {
        scene(adopted, &worker.adopt().catalogues, (door, &known.caller.tenant), |scene| {
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
    match has {
        Some(true) => return Some((id, own)),
        None => learn(worker, adopted, slot, &[id]).await,
        Some(false) => {
            // It may be new. Control lists a server no more than once a second.
            let what = Asked::Catalogue { server: Arc::clone(&server.name) };
            worker.question(what, slot, limits::QUESTION_MS).await;
        }
    }
    // Of a server that cannot be listed nobody can say what it has.
    look().filter(|(_, _, has)| *has != Some(false)).map(|(id, own, _)| (id, own))
}

/// Has servers listed that are not, and those again whose lists are old. Waits only for the first list of a server.
pub async fn learn(worker: &Worker, adopted: &Adopted, slot: usize, members: &[ServerId]) {
    let newest = worker.adopt();
    let now = worker.coarse_now();
    let (mut unknown, mut old) = (Vec::new(), Vec::new());
    for server in members.iter().filter_map(|id| adopted.server(*id)) {
        let server = server.config();
        match newest.catalogues.by_server.get(&server.name) {
            // It was asked: nobody waits for it again, but control hears that somebody would like to know.
            None if newest.catalogues.failing.contains_key(&server.name) => {
                old.push(Arc::clone(&server.name))
            }
            None => unknown.push(Arc::clone(&server.name)),
            Some(known) if now >= known.fresh_until(server.list_cache) => old.push(Arc::clone(&server.name)),
            Some(_) => {}
        }
    }
    if !unknown.is_empty() {
        let what = Asked::Catalogues { servers: unknown.into() };
        worker.question(what, slot, limits::QUESTION_MS).await;
    }
    if !old.is_empty() && worker.may_remind(now) {
        worker.tell(Asked::Catalogues { servers: old.into() });
    }
}
