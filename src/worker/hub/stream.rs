//! Streams at a hub: `subscriptions/listen` of 2026-07-28 and the GET stream of the older revisions. What they tell comes
//! from control, which listens to each server once, however many clients want to know.
//!
//! Not here: listening to servers (control), the framing (`outlet`), and waiting for news (`streams`).

use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::plan::Server;
use crate::handoff::Hearing;
use crate::handoff::Subscriptions;
use crate::mcp::crossing::Abilities;
use crate::mcp::crossing::path;
use crate::mcp::crossing::uris;
use crate::mcp::envelope::Era;
use crate::mcp::hub::about;
use crate::mcp::hub::lists::quoted;
use crate::mcp::sealed::own::OwnSession;
use crate::mcp::target;
use crate::mcp::target::Targets;
use crate::policy::access::View;
use crate::worker::Worker;
use crate::worker::address::Visit;
use crate::worker::admit::Door;
use crate::worker::adopted::Adopted;
use crate::worker::callers::Known;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::dispatch;
use crate::worker::hub;
use crate::worker::hub::seen::Look;
use crate::worker::hub::seen::Seen;
use crate::worker::hub::seen::door_members;
use crate::worker::hub::seen::visible;
use crate::worker::hub::streams::News;
use crate::worker::hub::streams::Stream;
use crate::worker::outlet;
use crate::worker::own::Shelf;
use crate::worker::reply;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;
use std::rc::Rc;
use std::sync::Arc;

const GONE: Fault =
    Fault::new(Kind::NotFound, "This endpoint is gone: the operator has removed it from the configuration.");
pub const KINDS: [(Named, &str); 3] = [
    (Named::Tool, "notifications/tools/list_changed"),
    (Named::Prompt, "notifications/prompts/list_changed"),
    (Named::Resource, "notifications/resources/list_changed"),
];

/// What a stream is to tell.
#[derive(Default)]
struct Wanted {
    kinds: [bool; KINDS.len()],
    resources: Subscriptions,
    /// The same as a listener has named them, as JSON.
    shown: Vec<String>,
}

/// Serves a stream until either side, or the endpoint, ends it.
///
/// # Errors
/// 503 where too many are open; after its head the end of the stream.
pub async fn serve(
    worker: &Rc<Worker>,
    adopted: &Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
    visit: Visit<'_>,
) -> Result<After, Fault> {
    let (door, known, intent) = visit;
    let mut stream = Stream::open(worker)?;
    let visitor = (client.slot, &**known);
    let _learned = hub::learn(worker, adopted, exchange, visitor, &door.hub(adopted).members).await;
    let modern = intent.era == Era::Modern;
    let mut wanted = if modern {
        asked_for(worker, adopted, client, exchange, visit).await?
    } else {
        everything(worker, exchange)
    };
    // Before the client knows of it: from then on it must miss nothing.
    if let Some(own) = &exchange.own {
        stream.join(client.slot, own.number).await;
    }
    // As long as both sides keep it, and the credential is good.
    worker.watch.begin_call(client.slot, exchange.expires, true);
    outlet::open(worker, client, exchange).await?;
    let view = Look { adopted, visit, source: client.ends.peer };
    let seen = Seen::of(worker, &view);
    let members = door_members(adopted, visit);
    let refused = stream.begin(client.slot, members.clone(), wanted.resources.clone()).await;
    let id = if modern {
        String::from_utf8_lossy(&reply::id(client, exchange)).into_owned()
    } else {
        String::new()
    };
    if modern {
        if !refused.is_empty() {
            wanted.leave_out(&refused);
            stream.wants(members.clone(), wanted.resources.clone());
        }
        let text = notification("notifications/subscriptions/acknowledged", &wanted.honoured(), &id);
        outlet::send(worker, client, exchange, text.as_bytes()).await?;
    }
    let wished_ms = adopted.plan.http.stream_comment_ms;
    let comment_ms = if wished_ms > 0 { wished_ms } else { limits::STREAM_COMMENT_MS_DEFAULT };
    let mut telling = Telling { stream, wanted, id, seen, members, hearing: None, comment_ms };
    telling.hears(worker, exchange, &view);
    let ended = telling.tell(worker, client, exchange, visit).await;
    match ended {
        Ok(()) => {
            if modern {
                let id = &telling.id;
                let text = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{{"{SUBSCRIPTION}":{id}}}}}}}"#
                );
                outlet::send(worker, client, exchange, text.as_bytes()).await?;
            }
            outlet::end(worker, client, exchange).await
        }
        Err(fault) if fault.kind == Kind::ClientGone => Err(fault),
        Err(fault) => {
            exchange.fault = Some(fault);
            Ok(outlet::last_word(worker, client, exchange, fault))
        }
    }
}

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A notification; `params` are raw members, `id` that of the listener, or nothing.
fn notification(method: &str, params: &str, id: &str) -> String {
    let meta = if id.is_empty() { String::new() } else { format!(r#""_meta":{{"{SUBSCRIPTION}":{id}}}"#) };
    let comma = if params.is_empty() || meta.is_empty() { "" } else { "," };
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}{comma}{meta}}}}}"#)
}

struct Telling<'w> {
    stream: Stream<'w>,
    wanted: Wanted,
    /// Of the listener, raw JSON; empty for older clients.
    id: String,
    seen: Seen,
    members: Vec<Arc<str>>,
    /// Who may speak to an older client by themselves; None: nobody may.
    hearing: Option<Arc<Hearing>>,
    /// Silence after which a comment is sent.
    comment_ms: u64,
}

impl Telling<'_> {
    /// Tells what changes, until the stream ends.
    async fn tell(
        &mut self,
        worker: &Rc<Worker>,
        client: &mut Client,
        exchange: &mut Exchange,
        visit: Visit<'_>,
    ) -> Result<(), Fault> {
        loop {
            let now = worker.coarse_now();
            worker.watch.enter(client.slot, Phase::Relay, now, Moment::NEVER);
            worker.watch.nudge_at(client.slot, now.plus_millis(self.comment_ms));
            let news = self.stream.news(client.slot).await;
            if let Some(cause) = worker.watch.cause(client.slot) {
                return Err(dispatch::timeout(cause));
            }
            if worker.is_draining() {
                return Ok(());
            }
            if !news {
                outlet::comment(worker, client, exchange).await?;
                continue;
            }
            let News { is_due, updated, said } = self.stream.take();
            if is_due {
                self.lists(worker, client, exchange, visit).await?;
                self.follow_session(worker, exchange);
            }
            for parcel in said {
                outlet::send(worker, client, exchange, parcel.take()).await?;
            }
            // Another stream of the session tells of it.
            let told_here = self.stream.tells();
            for (server, uri) in updated.into_iter().filter(|_| told_here) {
                let uri = shown(worker, visit, &server, &uri);
                let text = notification(
                    "notifications/resources/updated",
                    &format!("\"uri\":{}", quoted(&uri)),
                    &self.id,
                );
                outlet::send(worker, client, exchange, text.as_bytes()).await?;
            }
        }
    }

    /// Says which lists are others now.
    async fn lists(
        &mut self,
        worker: &Rc<Worker>,
        client: &mut Client,
        exchange: &mut Exchange,
        visit: Visit<'_>,
    ) -> Result<(), Fault> {
        let newest = worker.adopt();
        // A reload may have given the endpoint another place, or none.
        let (door, _, _) = visit;
        let Some(hub) = newest.plan.hub_by_name.get(&*door.name).copied() else { return Err(GONE) };
        let door = Door { head: door.head, hub, name: Arc::clone(&door.name) };
        let view = Look { adopted: &newest, visit: (&door, visit.1, visit.2), source: client.ends.peer };
        let others = self.seen.renew(worker, &view);
        for (at, (_, method)) in KINDS.iter().enumerate() {
            if self.wanted.kinds[at] && others[at] && self.stream.tells() {
                let text = notification(method, "", &self.id);
                outlet::send(worker, client, exchange, text.as_bytes()).await?;
            }
        }
        let members = door_members(&newest, (&door, visit.1, visit.2));
        if members != self.members {
            self.members = members;
            self.stream.wants(self.members.clone(), self.wanted.resources.clone());
        }
        self.hears(worker, exchange, &view);
        Ok(())
    }

    /// Says who may speak to an older client by themselves, where that has changed.
    fn hears(&mut self, worker: &Worker, exchange: &Exchange, look: &Look<'_>) {
        let Some(own) = &exchange.own else { return };
        let hearing = hearing(worker, look, own);
        let before = self.hearing.as_deref();
        if before.map_or(!hearing.servers.is_empty(), |before| *before != hearing) {
            let hearing = Arc::new(hearing);
            self.stream.hears(Arc::clone(&hearing));
            self.hearing = Some(hearing);
        }
    }

    /// What an older client has subscribed to meanwhile, or no longer wants.
    fn follow_session(&mut self, worker: &Worker, exchange: &Exchange) {
        let Some(own) = &exchange.own else { return };
        let notes = worker.shared.notes.load();
        let now = notes.subscriptions.get(&own.number).cloned().unwrap_or_default();
        if now != self.wanted.resources {
            self.wanted.resources = now;
            self.stream.wants(self.members.clone(), self.wanted.resources.clone());
        }
    }
}

/// What an older client hears of: every list, and what its session has subscribed to.
fn everything(worker: &Worker, exchange: &Exchange) -> Wanted {
    let notes = worker.shared.notes.load();
    let own = exchange.own.as_ref().and_then(|own| notes.subscriptions.get(&own.number));
    Wanted { kinds: [true; KINDS.len()], resources: own.cloned().unwrap_or_default(), shown: Vec::new() }
}

/// Who may speak to an older client by themselves: older servers of which it may use something, and which log, or can ask it
/// something.
fn hearing(worker: &Worker, look: &Look<'_>, own: &OwnSession) -> Hearing {
    let newest = worker.adopt();
    let speaks = |name: &Arc<str>| {
        let server = newest.find(name)?;
        let logs = newest.catalogues.by_server.get(name).is_some_and(|known| known.about.has.logging);
        let has_cause = logs || own.abilities != Abilities::default();
        (has_cause && server.eras.speaks(Era::Legacy) == Some(true)).then_some(server)
    };
    let mut hearing = Hearing { servers: Vec::new(), members: Vec::new(), abilities: own.abilities };
    for name in visible(worker, look) {
        let Some(server) = speaks(&name) else { continue };
        let sealed = own.members.iter().find(|member| member.server == server.sealed_name);
        hearing.members.extend(sealed.map(|member| (Arc::clone(&name), member.clone())));
        hearing.servers.push(name);
    }
    hearing
}

/// What a listener asks for, as far as it may have it.
async fn asked_for(
    worker: &Rc<Worker>,
    adopted: &Rc<Adopted>,
    client: &Client,
    exchange: &mut Exchange,
    (door, known, _): Visit<'_>,
) -> Result<Wanted, Fault> {
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let asks = |key: &str| {
        let at = path::find(text, &["params", "notifications", key]);
        at.and_then(|at| text.get(at)) == Some("true")
    };
    let shelf = Shelf::of(worker, known);
    let has = hub::scene(adopted, &shelf, (door, &known.caller.tenant), about::capabilities);
    let kinds = [
        asks("toolsListChanged") && has.tools,
        asks("promptsListChanged") && has.prompts,
        asks("resourcesListChanged") && has.resources,
    ];
    let Some(call) = exchange.call else { return Ok(Wanted::default()) };
    let (mut resources, mut shown) = (Vec::new(), Vec::new());
    if let Targets::Many(targets) = target::read(call.method, &call.target, body)? {
        for target in targets {
            let sought = (Named::Resource, &*target.name);
            let visitor = (client.slot, door, &**known);
            let found = hub::find(worker, adopted, exchange, visitor, sought).await;
            let Some((id, uri)) = found else { continue };
            let Some(server) = adopted.server(id) else { continue };
            if hub::may_subscribe(worker, known, server.config())
                && sees(worker, adopted, client, known, (server.config(), &uri))
            {
                resources.push((Arc::clone(&server.config().name), Arc::from(uri)));
                shown.push(quoted(&target.name));
            }
        }
    }
    Ok(Wanted { kinds, resources, shown })
}

/// Whether the caller may know of a resource.
fn sees(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    known: &Known,
    (server, uri): (&Server, &str),
) -> bool {
    let access = &adopted.plan.access;
    if access.rules.is_empty() {
        return true;
    }
    let shelf = Shelf::of(worker, known);
    let view = View {
        caller: &known.caller,
        standing: &known.standing,
        server: &server.name,
        catalogue: shelf.find(&server.name),
        labels: &server.labels,
        source: client.ends.peer,
        now: i64::try_from(worker.wall_millis(worker.coarse_now())).unwrap_or(i64::MAX),
    };
    view.sees(access, Named::Resource, uri, &worker.patterns)
}

impl Wanted {
    /// Its servers say that there is no such resource.
    fn leave_out(&mut self, refused: &Subscriptions) {
        let resources = std::mem::take(&mut self.resources);
        let all = resources.into_iter().zip(std::mem::take(&mut self.shown));
        (self.resources, self.shown) = all.filter(|(resource, _)| !refused.contains(resource)).unzip();
    }

    /// `notifications` of an acknowledgement: what is told, and nothing else.
    fn honoured(&self) -> String {
        let names = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];
        let kinds = names.iter().zip(self.kinds).filter(|(_, told)| *told);
        let mut members: Vec<String> = kinds.map(|(name, _)| format!("\"{name}\":true")).collect();
        if !self.shown.is_empty() {
            members.push(format!("\"resourceSubscriptions\":[{}]", self.shown.join(",")));
        }
        format!("\"notifications\":{{{}}}", members.join(","))
    }
}

/// How the hub calls a resource of a server.
fn shown(worker: &Worker, (door, ..): Visit<'_>, server: &str, uri: &str) -> String {
    let newest = worker.adopt();
    let hub = newest.plan.hub_by_name.get(&*door.name).and_then(|id| newest.plan.hubs.get(usize::from(*id)));
    if hub.is_some_and(|hub| hub.is_prefixed()) { uris::wrap(server, uri) } else { uri.to_owned() }
}
