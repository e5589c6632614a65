//! One call, from its head to its record: the stages in order, each called once.
//!
//! Not here: any detail of a protocol. Stages return values or a `Fault`; what follows from a fault is
//! decided here and nowhere else.

use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::mcp::envelope::Method;
use crate::worker::Worker;
use crate::worker::address;
use crate::worker::address::Address;
use crate::worker::admit;
use crate::worker::admit::Entry;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::allowance;
use crate::worker::attempt;
use crate::worker::body;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::credential;
use crate::worker::crossing;
use crate::worker::crossing::states;
use crate::worker::hub;
use crate::worker::pages;
use crate::worker::permit;
use crate::worker::refuse;
use crate::worker::relay;
use crate::worker::reply;
use crate::worker::session;
use crate::worker::sight::Sight;
use crate::worker::state::Exchange;
use crate::worker::tasks;
use std::rc::Rc;

/// Serves the call whose head has been read.
pub async fn run(
    worker: &Rc<Worker>,
    adopted: Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
) -> After {
    worker.metrics().inflight.add(1);
    let after = match attempt(worker, adopted, client, exchange).await {
        Ok(after) => after,
        // Boxed: most calls are not refused, and each has to hold the state of what may happen to it.
        Err(fault) => Box::pin(refuse::answer(worker, client, exchange, fault)).await,
    };
    worker.metrics().inflight.sub(1);
    worker.watch.end_call(client.slot);
    if exchange.ended == Moment::ZERO {
        exchange.ended = clock::now();
    }
    permit::settle(worker, exchange);
    attempt::settle(worker, exchange);
    worker.record(exchange);
    after
}

/// One call sees one plan, the one of its head, whatever is reloaded meanwhile.
async fn attempt(
    worker: &Rc<Worker>,
    adopted: Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
) -> Result<After, Fault> {
    // 1 edge: is this our host, our origin, one of our paths?
    let door = match admit::enter(worker, &adopted, client, exchange)? {
        Entry::Call(door) => door,
        Entry::Nowhere(head) => {
            return Err(Box::pin(admit::nowhere(worker, &adopted, client, exchange, &head)).await);
        }
        // Boxed: hardly any request is for a document.
        Entry::Callback(head) => return Box::pin(pages::callback(worker, client, exchange, head)).await,
        Entry::Page(head, page) => {
            return Ok(Box::pin(pages::answer(worker, client, exchange, head, page)).await);
        }
    };
    // 4 policy: who calls? Before a byte of the body is read for a stranger.
    let caller = admit::identify(worker, &adopted, client, exchange, &door).await?;
    // 2 http: the whole request. A body that dribbles in has no more time than the whole call.
    let only = door.only(&adopted).map(ServerState::config);
    let total = worker.coarse_now().plus_millis(allowance::at_first(only, exchange.callers_ms));
    worker.watch.begin_call(client.slot, total, true);
    exchange.body_begun = true;
    let body = body::read(worker, client, &door.head, adopted.plan.http.max_body).await?;
    exchange.take(client, &body);
    // 3 mcp: what is asked, do all readers of it agree, and whom is it for?
    let intent = admit::understand(worker, client, exchange, &door, &body)?;
    let address = address::find(worker, &adopted, client, exchange, (&door, &caller, intent)).await?;
    let Address::Server(id, server) = address else {
        return Box::pin(hub::answer(worker, &adopted, client, exchange, (&door, &caller, intent))).await;
    };
    tasks::settle(&adopted.plan.identity, server.config(), client, exchange)?;
    session::recognise(worker, server, client, exchange, &caller)?;
    // A GET stream lives as long as both sides keep it.
    exchange.timeouts = allowance::of(server.config(), exchange.call.as_ref(), exchange.callers_ms);
    let total = exchange.begun.plus_millis(exchange.timeouts.total_ms);
    let total = if intent.stream_only { Moment::NEVER } else { total };
    worker.watch.begin_call(client.slot, total.min(exchange.expires), intent.leaving_cancels);
    // 4 policy: may it pass?
    permit::ask(worker, &adopted, client, exchange, &caller).await?;
    exchange.sight = Sight::of(&adopted, &caller, server.config(), client.ends.peer, exchange);
    // 5 route: does the server take it?
    let way = Rc::clone(&server.way);
    attempt::enter(worker, exchange, &way)?;
    if !server.config().faults.is_empty() {
        // Boxed: nobody but a tester has faults.
        Box::pin(attempt::inject(worker, client, exchange, server.config(), &way)).await?;
    }
    // 4 policy: what is the server shown of the caller?
    exchange.injects = !server.config().headers.is_empty();
    if server.config().auth.is_some() {
        // Boxed: mostly it is known.
        Box::pin(credential::obtain(worker, client, exchange, server, &caller)).await?;
    }
    // 3 mcp: is a state that comes with it the server's, and how does the server say it?
    states::check(worker, client, exchange)?;
    if exchange.crossing.is_some()
        && let Some(answer) = crossing::prepare(worker, &adopted, client, exchange, server).await?
    {
        return reply::asked_again(worker, client, exchange, &answer).await;
    }
    // 5 and 6 route, upstream, http: the request leaves, once, and the answer passes as it comes
    let terms = relay::Terms { comment_ms: adopted.plan.http.stream_comment_ms, intent };
    let load = attempt::Load { head: &door.head, server: id, body: &body, terms };
    let carried = attempt::carry(worker, Rc::clone(&adopted), client, exchange, load).await;
    match carried {
        Err(fault) if is_unreached_discovery(exchange, fault) => {
            let visitor = (&door, &*caller);
            Box::pin(hub::stand_in(worker, &adopted, client, exchange, (visitor, fault))).await
        }
        carried => carried,
    }
}

/// Whether a client has asked what a server is, and no instance of that took the connection.
fn is_unreached_discovery(exchange: &Exchange, fault: Fault) -> bool {
    let discovers = exchange.call.as_ref().is_some_and(|call| call.method == Method::Discover);
    let unreached = matches!(fault.kind, Kind::UpstreamUnavailable | Kind::UpstreamTimeout);
    discovers && unreached && exchange.upstream_began == Moment::ZERO && !exchange.answered
}
