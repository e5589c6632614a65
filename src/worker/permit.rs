//! May the call pass? Puts the question to `policy::decide`, and the answer into the exchange.
//!
//! Not here: the rules. A call that is let through carries what it owes its limits; a refused one carries what its
//! rule has to say.

use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limit::Count;
use crate::config::limit::Limit;
use crate::config::limit::RateLimitHeaders;
use crate::mcp::arguments;
use crate::mcp::envelope::Method;
use crate::mcp::refusal::Denial;
use crate::policy::decide;
use crate::policy::decide::Admission;
use crate::policy::decide::Asked;
use crate::policy::decide::Desk;
use crate::policy::decide::Refused;
use crate::policy::decide::Seen;
use crate::policy::decide::Trail;
use crate::policy::identity::Principal;
use crate::policy::limits::fields;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::gate::When;
use crate::policy::limits::terms::Verdict;
use crate::telemetry::family::Family;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::record::Called;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::client::Client;
use crate::worker::dispatch::KILLED;
use crate::worker::state::Exchange;

const LIMITED: Fault = Fault::new(Kind::RateLimited, "A limit is used up; wait and retry.");
const UNCOUNTED: Fault =
    Fault::new(Kind::Overloaded, "The gateway has no room to count more callers; retry later.");
const TOO_MANY: Fault = Fault::new(
    Kind::Overloaded,
    "More limits match this call than the gateway checks; tell the operator to name fewer for one tool.",
);

/// What happens to a call on its way through the rules, as counters.
struct Counted<'a>(&'a WorkerMetrics);

impl Trail for Counted<'_> {
    fn seen(&mut self, limit: &Limit, seen: Seen<'_>) {
        match seen {
            Seen::OtherMethod | Seen::OtherServer | Seen::OtherTool | Seen::No => {}
            Seen::Failed(_) => self.0.count(Family::CelErrors, &[&limit.name], 1),
            Seen::Uncounted => self.0.count(Family::LimitTableFull, &[], 1),
        }
    }
}

/// Decides, and charges the limits that the call meets.
///
/// # Errors
/// 403 for what an operator has stopped, 429 where a limit has no room, 503 where it cannot be counted.
pub fn ask(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    principal: &Principal<'_>,
) -> Result<(), Fault> {
    // Kills are the newest ones: a body may take longer than a switch.
    let newest = worker.adopt();
    let desk = Desk {
        limits: &adopted.plan.limits,
        rules: &adopted.rules,
        counters: &worker.shared.limits,
        kills: &newest.kills,
        patterns: &worker.patterns,
    };
    let when = When { moment: exchange.begun, unix_ns: worker.wall_millis(exchange.begun) * 1_000_000 };
    let record = &exchange.record;
    let asked = Asked {
        principal: principal.name,
        roles: principal.roles,
        tenant: "",
        server: record.server.as_str(),
        method: exchange.call.map_or(Method::None, |call| call.method),
        method_text: record.method.as_str(),
        target: record.target.as_str(),
        source: client.ends.peer,
        body: client.input.get(exchange.body.clone()).unwrap_or_default(),
        when,
    };
    let metrics = worker.metrics();
    let style = adopted.plan.limits.headers;
    let mut admission = Admission::default();
    let decided = if exchange.batch.is_empty() {
        let decided = decide::decide(desk, &asked, &mut admission, &mut Counted(metrics));
        decided.map(|()| exchange.receipts.extend(admission.receipts()))
    } else {
        let mut hearing = Hearing { desk, admission: &mut admission, metrics };
        hearing.each(asked, &exchange.batch, &mut exchange.receipts)
    };
    match decided {
        Ok(()) => {
            worker.watch.concerns(client.slot, worker.subject(&asked));
            if exchange.receipts.iter().any(Receipt::is_debt) {
                let told = arguments::look(asked.body);
                let trusted = || adopted.plan.limits.usage_from.iter().any(|name| **name == *principal.name);
                exchange.tokens_in = fields::estimate(told.bytes);
                exchange.tokens_exact = told.tokens.filter(|_| trusted());
            }
            note(&admission, style, exchange.tokens_in, &mut exchange.own_lines);
            Ok(())
        }
        Err(refused) => {
            let (fault, denial) = denial(&refused, metrics);
            if let Refused::Limited(limit, verdict) = refused {
                fields::write(&mut exchange.own_lines, style, limit, verdict);
            }
            exchange.deny(denial);
            Err(fault)
        }
    }
}

/// A decision over the calls of one batch.
struct Hearing<'h, 'a> {
    desk: Desk<'a>,
    /// Of the last call that passed: it speaks for the batch.
    admission: &'h mut Admission<'a>,
    metrics: &'h WorkerMetrics,
}

impl<'a> Hearing<'_, 'a> {
    /// A batch passes whole or not at all.
    fn each(
        &mut self,
        asked: Asked<'_>,
        batch: &[Called],
        receipts: &mut Vec<Receipt>,
    ) -> Result<(), Refused<'a>> {
        for called in batch {
            let method_text = called.method.as_str();
            let target = called.target.as_str();
            let asked = Asked { method: Method::from_text(method_text), method_text, target, ..asked };
            let decided = decide::decide(self.desk, &asked, self.admission, &mut Counted(self.metrics));
            if let Err(refused) = decided {
                self.desk.counters.give_back(receipts, asked.when.moment);
                receipts.clear();
                return Err(refused);
            }
            for receipt in self.admission.receipts() {
                // Tokens are those of the whole batch, once a bucket.
                if !receipts.iter().any(|known| known.is_same_debt(&receipt)) {
                    receipts.push(receipt);
                }
            }
        }
        Ok(())
    }
}

/// Writes down what the answer will say of the limits that counted the call.
fn note(admission: &Admission<'_>, style: RateLimitHeaders, tokens_in: u64, lines: &mut Vec<u8>) {
    if let Some((limit, verdict)) = admission.nearest() {
        fields::write(lines, style, limit, verdict);
    }
    if let Some((_, item)) = admission.limits().find(|(limit, _)| limit.count == Count::Tokens) {
        fields::write_tokens(lines, tokens_in, item.verdict);
    }
}

/// What a refusal says on the wire.
fn denial(refused: &Refused<'_>, metrics: &WorkerMetrics) -> (Fault, Denial) {
    let rule = refused.rule();
    match refused {
        Refused::Killed(_) => (KILLED, Denial { rule, ..Denial::default() }),
        Refused::Limited(limit, Verdict::Exhausted { retry_ns, reset_ns }) => {
            metrics.count(Family::Limited, &[&limit.name], 1);
            let wait_ns = if *retry_ns == u64::MAX { *reset_ns } else { *retry_ns };
            let seconds = fields::seconds(wait_ns);
            let message = format!("The limit `{}` is used up; wait {seconds} s and retry.", limit.name);
            let retry_ms = Some(wait_ns.div_ceil(1_000_000));
            (LIMITED, Denial { message, rule, retry_ms, status: None })
        }
        Refused::Limited(..) => {
            metrics.count(Family::LimitTableFull, &[], 1);
            (UNCOUNTED, Denial { rule, ..Denial::default() })
        }
        Refused::TooManyLimits => (TOO_MANY, Denial { rule, ..Denial::default() }),
    }
}

/// The call is over: gives back what a call that went nowhere was charged, and charges what tokens it cost.
pub fn settle(worker: &Worker, exchange: &mut Exchange) {
    let counters = &worker.shared.limits;
    // Each repeat came after an attempt that reached a server.
    let reached_nobody = exchange.upstream_began == Moment::ZERO && exchange.repeats == 0;
    if exchange.fault.is_some() && reached_nobody {
        counters.give_back(&exchange.receipts, exchange.begun);
        return;
    }
    if !exchange.owes_tokens() {
        return;
    }
    let tokens_out = fields::estimate(exchange.payload_bytes);
    let tokens = exchange.tokens_exact.unwrap_or(exchange.tokens_in + tokens_out);
    counters.charge_tokens(&exchange.receipts, tokens, worker.wall_millis(exchange.ended) * 1_000_000);
    let record = &exchange.record;
    let names = [record.server.as_str(), record.target.as_str(), record.principal.as_str()];
    for (direction, tokens) in [("in", exchange.tokens_in), ("out", tokens_out)] {
        worker.metrics().count(Family::Tokens, &[names[0], names[1], names[2], direction], tokens);
    }
}
