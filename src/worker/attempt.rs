//! Carrying a call to its server: does the server take it, once more if it failed before it answered, and where.
//!
//! Not here: one attempt (`dispatch`) and the answer (`relay`). At most once is the rule: only a call of a tool that
//! is called idempotent, by the operator or by itself, is ever sent again, within the server's retry budget, and one that
//! the server refused to look at without another credential (`credential`).

use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::plan::FaultKind;
use crate::config::plan::Server;
use crate::config::plan::ServerId;
use crate::config::traffic::Hedge;
use crate::http::request::RequestHead;
use crate::mcp::envelope::Method;
use crate::mcp::refusal::Denial;
use crate::route::breaker::Outcome;
use crate::telemetry::family::Family;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::body::Body;
use crate::worker::bridge;
use crate::worker::calls;
use crate::worker::client::After;
use crate::worker::client::Client;
use crate::worker::credential;
use crate::worker::crossing;
use crate::worker::dispatch;
use crate::worker::dispatch::Departure;
use crate::worker::hedge;
use crate::worker::obstacle;
use crate::worker::obstacle::Obstacle;
use crate::worker::outlet;
use crate::worker::parked;
use crate::worker::passage;
use crate::worker::passage::Closed;
use crate::worker::passage::Stay;
use crate::worker::passage::Tool;
use crate::worker::passage::Way;
use crate::worker::relay;
use crate::worker::reply;
use crate::worker::state::Exchange;
use crate::worker::watch::Phase;
use std::rc::Rc;
use std::task::Poll;

const HELD: Fault = Fault::new(
    Kind::RateLimited,
    "The server behind this endpoint limits this gateway; wait as long as it asks and retry.",
);
const BUSY: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The server behind this endpoint is as busy as it can be without getting slow; retry later.",
);
const TOOL_OPEN: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "This tool failed too often and is left alone for a while; retry later.",
);
const INJECTED: Fault = Fault::new(
    Kind::UpstreamUnavailable,
    "The operator of this gateway makes calls fail on purpose; this is one of them.",
);

/// Does the server take one more call?
///
/// # Errors
/// 429 while it has asked to be left alone, 503 where it is busy or the tool keeps failing.
pub fn enter(worker: &Worker, exchange: &mut Exchange, way: &Rc<Way>) -> Result<(), Fault> {
    // `server/discover` is never shed: clients take an error for a server of the older revisions.
    if exchange.call.is_some_and(|call| call.method == Method::Discover) {
        return Ok(());
    }
    let refuse = |exchange: &mut Exchange, fault, obstacle, retry_ms| {
        let denial = Denial { retry_ms, ..Denial::default() };
        obstacle::meet(worker, exchange, &way.server, obstacle, denial);
        Err(fault)
    };
    if way.traffic.hold
        && let Some(left_ms) = way.cells.hold.left_ms(clock::now())
    {
        return refuse(exchange, HELD, Obstacle::Upstream, Some(left_ms));
    }
    // Hashed only where tools have breakers.
    if way.cells.adaptive.is_none() && way.cells.tools.is_none() {
        return Ok(());
    }
    let tool = exchange.call.as_ref().filter(|call| call.method == Method::ToolsCall);
    let tool = tool.map(|call| {
        let name = call.target.as_str();
        Tool { name, hash: worker.shared.limits.keys.text(name) }
    });
    match Stay::enter(way, tool, worker.coarse_now()) {
        Ok(stay) => {
            exchange.stay = Some(stay);
            Ok(())
        }
        Err(Closed::Busy) => refuse(exchange, BUSY, Obstacle::Adaptive, None),
        Err(Closed::Tool { retry_ms }) => refuse(exchange, TOOL_OPEN, Obstacle::Breaker, Some(retry_ms)),
    }
}

/// Makes the faults happen that the operator asked for.
///
/// # Errors
/// The fault itself, or the end of the call while it is delayed.
pub async fn inject(
    worker: &Worker,
    client: &Client,
    exchange: &mut Exchange,
    server: &Server,
    way: &Way,
) -> Result<(), Fault> {
    for fault in &server.faults {
        let target = exchange.record.target.as_str();
        if !fault.is_for(target) || !way.happens(fault.ratio_ppm) {
            continue;
        }
        let mut mark = |kind: &str| {
            worker.metrics().count(Family::InjectedFaults, &[&server.name, kind], 1);
            for part in ["Ringgate-Fault: ", kind, "\r\n"] {
                exchange.own_lines.extend_from_slice(part.as_bytes());
            }
        };
        match fault.what {
            FaultKind::DelayMs(millis) => {
                mark("delay");
                delay(worker, client.slot, millis).await?;
            }
            FaultKind::Status(status) => {
                mark("status");
                let denial = Denial { status: Some(status), ..Denial::default() };
                obstacle::meet(worker, exchange, &server.name, Obstacle::Faults, denial);
                return Err(INJECTED);
            }
            FaultKind::Cut => {
                mark("cut");
                exchange.cut_answer = true;
            }
        }
    }
    Ok(())
}

async fn delay(worker: &Worker, slot: usize, millis: u64) -> Result<(), Fault> {
    // Not the tick's time: a delay is no shorter than it says.
    let now = clock::now();
    worker.watch.enter(slot, Phase::Room, now, Moment::NEVER);
    worker.watch.nudge_at(slot, now.plus_millis(millis));
    std::future::poll_fn(|cx| {
        if worker.watch.poll_nudge(slot, cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    worker.watch.cause(slot).map_or(Ok(()), |cause| Err(dispatch::timeout(cause)))
}

/// What is carried.
pub struct Load<'a> {
    pub head: &'a RequestHead,
    /// Of the plan of the call.
    pub server: ServerId,
    pub body: &'a Body,
    pub terms: relay::Terms,
}

/// Sends the call and relays its answer.
///
/// # Errors
/// What went wrong at the upstream, after the last attempt.
pub async fn carry(
    worker: &Rc<Worker>,
    adopted: Rc<Adopted>,
    client: &mut Client,
    exchange: &mut Exchange,
    load: Load<'_>,
) -> Result<After, Fault> {
    let Load { head, server: id, body, terms } = load;
    let _entry = calls::enter(worker, exchange, client.slot);
    let Some(server) = adopted.server(id) else { return Err(dispatch::BROKE) };
    let way = Rc::clone(&server.way);
    let retry = way.traffic.retry;
    let idempotent = is_idempotent(&adopted, server.config(), exchange);
    way.budget.deposit(&retry);
    exchange.plan = Some(adopted);
    if let Some(place) = exchange.crossing.as_mut().and_then(|crossing| crossing.waits.take()) {
        exchange.upstream_began = clock::now();
        let result = Box::pin(parked::go_on(worker, client, exchange, place)).await;
        return Box::pin(cross(worker, client, exchange, (id, &way), result)).await?.ok_or(dispatch::BROKE);
    }
    loop {
        // Given up with the head of an answer, after which nothing is repeated.
        let Some(adopted) = exchange.plan.clone() else { return Err(dispatch::BROKE) };
        let Some(server) = adopted.server(id) else { return Err(dispatch::BROKE) };
        let repeatable = idempotent && !has_asked(exchange);
        let hedged = repeatable && retry.hedge != Hedge::Off;
        let mut departure =
            Departure { worker, adopted: &adopted, server, head, client, exchange, body, races: hedged };
        let sent = match departure.send().await {
            // Boxed: few calls are hedged.
            Ok(first) if hedged && departure.exchange.repeats < retry.max => {
                Box::pin(hedge::race(&mut departure, first, &way)).await
            }
            sent => sent,
        };
        drop(adopted);
        if !repeatable && exchange.shown.is_none() && !exchange.is_translated() {
            // A long answer pins no plan.
            exchange.plan = None;
        }
        let result = match sent {
            Ok(sent) => relay::answer(worker, client, exchange, sent, terms).await,
            Err(fault) => Err(fault),
        };
        let result = if exchange.is_translated() {
            // Boxed: what passes as it is is not to pay for it.
            let crossed = Box::pin(cross(worker, client, exchange, (id, &way), result)).await;
            let Some(result) = crossed.transpose() else { continue };
            result
        } else {
            result
        };
        let Err(fault) = result else { return result };
        if fault.kind == Kind::UpstreamUnauthorized && !exchange.answered {
            // Boxed: few calls are refused.
            Box::pin(credential::renew(worker, client.slot, exchange, &way.told, fault)).await?;
            start_over(client, exchange, &way, Outcome::Neutral);
            exchange.tried = Default::default();
            continue;
        }
        let again =
            repeatable && exchange.repeats < retry.max && failed_unanswered(worker, client, exchange, fault);
        if !again || !spend(worker, &way) {
            if exchange.session.is_some() && !exchange.moved_on && exchange.stream_id.is_empty() {
                // What its server may have to be told.
                exchange.stream_id = reply::id(client, exchange);
            }
            return Err(fault);
        }
        exchange.repeats += 1;
        start_over(client, exchange, &way, Outcome::Failure);
        crossing::say_again(worker, client, exchange)?;
    }
}

/// A call at a hub has ended, or takes another turn; none: it is sent in that turn's words. A fault before which nothing
/// has reached the client is as one of any other call.
async fn cross(
    worker: &Rc<Worker>,
    client: &mut Client,
    exchange: &mut Exchange,
    (id, way): (ServerId, &Way),
    result: Result<After, Fault>,
) -> Result<Option<After>, Fault> {
    let turn = exchange.crossing.as_mut().and_then(|crossing| crossing.turn.take());
    let fault = match (result, turn) {
        (Ok(_), Some(turn)) => {
            let Some(adopted) = exchange.plan.clone() else { return Err(dispatch::BROKE) };
            let Some(server) = adopted.server(id) else { return Err(dispatch::BROKE) };
            match bridge::turn(worker, client, exchange, server, turn).await {
                Ok(bridge::Next::Done(after)) => return Ok(Some(after)),
                Ok(bridge::Next::Again) => {
                    start_over(client, exchange, way, Outcome::Success);
                    exchange.tried = Default::default();
                    return Ok(None);
                }
                Err(fault) => fault,
            }
        }
        (Ok(after), None) => return Ok(Some(after)),
        (Err(fault), _) => {
            // Without a passage nothing has left.
            let unsent = exchange.passage.is_none() && exchange.plan.is_some();
            if unsent && bridge::move_on(worker, client, exchange, id).await {
                start_over(client, exchange, way, Outcome::Neutral);
                exchange.tried = Default::default();
                return Ok(None);
            }
            fault
        }
    };
    // A call that waits for its client's answer is one that the server has.
    let has_left = exchange.upstream_began != Moment::ZERO || fault.kind == Kind::ClientGone;
    if is_in_vain(fault) && has_left {
        bridge::cancel(worker, exchange);
    }
    if fault.kind == Kind::ClientGone {
        return Err(fault);
    }
    if exchange.outlet.is_some() && !exchange.cut_answer {
        exchange.fault = Some(fault);
        return Ok(Some(outlet::last_word(worker, client, exchange, fault)));
    }
    Err(fault)
}

/// Whether a second delivery does what one does, as the operator says, or the tool.
fn is_idempotent(adopted: &Adopted, server: &Server, exchange: &Exchange) -> bool {
    let Some(call) = exchange.call.as_ref().filter(|call| call.method == Method::ToolsCall) else {
        return false;
    };
    if server.idempotent.is_empty() && !server.needs_hints() {
        return false;
    }
    let tool = call.target.as_str();
    server.is_idempotent(tool)
        || server.needs_hints()
            && adopted.catalogues.by_server.get(&server.name).is_some_and(|known| known.is_idempotent(tool))
}

/// Whether the call has put a question to its client, which would be put to it again.
fn has_asked(exchange: &Exchange) -> bool {
    exchange.crossing.as_ref().is_some_and(|crossing| crossing.round > 0 || crossing.event.is_some())
}

/// Whether the upstream failed before its first answer byte, and somebody still waits.
fn failed_unanswered(worker: &Worker, client: &Client, exchange: &Exchange, fault: Fault) -> bool {
    fault.kind == Kind::UpstreamProtocol
        && !exchange.heard
        && !exchange.answered
        && worker.watch.cause(client.slot).is_none()
}

fn spend(worker: &Worker, way: &Way) -> bool {
    let paid = way.budget.take();
    let outcome = if paid { "sent" } else { "over_budget" };
    worker.metrics().count(Family::Retries, &[&way.server, outcome], 1);
    paid
}

/// Makes everything as it was before the attempt that failed.
fn start_over(client: &mut Client, exchange: &mut Exchange, way: &Way, outcome: Outcome) {
    let now = clock::now();
    if let Some(passage) = exchange.passage.take() {
        passage.settle(outcome, now);
    }
    take_head_back(client, exchange);
    exchange.waited_ns += now.nanos_since(exchange.upstream_began);
    (exchange.upstream_began, exchange.upstream_ended) = (Moment::ZERO, Moment::ZERO);
    exchange.heard = false;
    let held = exchange.crossing.as_ref().is_some_and(|crossing| crossing.held.is_some());
    if held || exchange.session.is_some() || way.all_tried(&exchange.tried) {
        // There is nobody else to ask.
        exchange.tried = Default::default();
    }
}

/// The client's own head stands in its input again.
pub fn take_head_back(client: &mut Client, exchange: &mut Exchange) {
    if let Some(range) = exchange.lent.take()
        && let Some(head) = client.input.get_mut(range)
        && head.len() == exchange.out.len()
    {
        head.swap_with_slice(&mut exchange.out);
    }
}

/// Whether the server works on for nobody.
fn is_in_vain(fault: Fault) -> bool {
    matches!(fault.kind, Kind::ClientGone | Kind::Killed | Kind::UpstreamTimeout)
}

/// The call is over: says so to everything that counted it.
pub fn settle(worker: &Rc<Worker>, exchange: &mut Exchange) {
    let sent = exchange.upstream_began != Moment::ZERO;
    let now = exchange.ended;
    conclude(exchange, now);
    if let Some(fault) = exchange.fault.filter(|fault| sent && is_in_vain(*fault)) {
        // An older client that leaves cancels nothing.
        if fault.kind != Kind::ClientGone {
            bridge::cancel_plain(worker, exchange);
        }
        let wasted = now.nanos_since(exchange.upstream_began);
        worker.metrics().count(Family::Wasted, &[exchange.record.server.as_str()], wasted);
    }
}

/// What the call has shown of its server so far is what it shows. For a stream that lasts as long as both sides keep
/// it: its head has answered, and it may not hold a place among calls, or a breaker half-open, for hours.
pub fn conclude(exchange: &mut Exchange, now: Moment) {
    let sent = exchange.upstream_began != Moment::ZERO;
    let outcome = passage::verdict(exchange);
    if let Some(passage) = exchange.passage.take() {
        passage.name(&mut exchange.record);
        passage.settle(outcome, now);
    }
    if let Some(stay) = exchange.stay.take() {
        let answered = if exchange.upstream_ended == Moment::ZERO { now } else { exchange.upstream_ended };
        let outcome = if sent { outcome } else { Outcome::Neutral };
        stay.settle(outcome, answered.nanos_since(exchange.upstream_began), now);
    }
}
