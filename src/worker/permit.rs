//! May the call pass? Puts the question to `policy::decide`, and the answer into the exchange.
//!
//! Not here: the rules. Of a batch every message is asked about. A call that is let through carries what it owes its
//! limits; a refused one carries what its rule has to say.

use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::base::text::Text;
use crate::config::access::Access;
use crate::config::access::AccessRule;
use crate::config::hub::Form;
use crate::config::labels::Labels;
use crate::config::limit::Count;
use crate::config::limit::Limit;
use crate::config::limit::RateLimitHeaders;
use crate::mcp::arguments;
use crate::mcp::envelope;
use crate::mcp::envelope::Method;
use crate::mcp::target;
use crate::mcp::target::Targets;
use crate::policy::access::Told;
use crate::policy::credential::Trouble;
use crate::policy::decide;
use crate::policy::decide::Admission;
use crate::policy::decide::Asked;
use crate::policy::decide::Desk;
use crate::policy::decide::Refused;
use crate::policy::decide::Seen;
use crate::policy::decide::Trail;
use crate::policy::limits::fields;
use crate::policy::limits::fields::Remainder;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::gate::When;
use crate::telemetry::family::Family;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::record::Called;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::aim;
use crate::worker::callers::Known;
use crate::worker::client::Client;
use crate::worker::credential;
use crate::worker::denial;
use crate::worker::inquiry;
use crate::worker::inquiry::Findings;
use crate::worker::inquiry::Open;
use crate::worker::referral::Referral;
use crate::worker::state::Exchange;
use std::rc::Rc;
use std::sync::Arc;

const TORN: Fault =
    Fault::new(Kind::InvalidRequest, "The batch cannot be read. Send each message in a body of its own.");

/// What happens to a call on its way through the rules, as counters.
struct Counted<'a>(&'a WorkerMetrics);

impl Trail for Counted<'_> {
    fn seen(&mut self, limit: &Limit, seen: Seen<'_>) {
        match seen {
            Seen::OtherMethod | Seen::OtherServer | Seen::OtherTool | Seen::No => {}
            Seen::Failed(_) => self.0.count(Family::CelErrors, &[&format!("limits.{}", limit.name)], 1),
            Seen::Uncounted => self.0.count(Family::LimitTableFull, &[], 1),
        }
    }

    fn told(&mut self, rule: &AccessRule, told: Told) {
        if let Told::Failed(_) = told {
            self.0.count(Family::CelErrors, &[&format!("access.{}", rule.name)], 1);
        }
    }
}

/// Decides, and charges the limits that the call meets.
///
/// # Errors
/// -32602 for what the caller may not see, 403 for what it or anybody may not call, 429 where a limit has no room, 503
/// where it cannot be counted.
pub async fn ask(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    known: &Known,
) -> Result<(), Fault> {
    let mut findings = Findings::default();
    // Ends: each round finds out one thing more, of those that the rules name.
    let decided = loop {
        let open = match decide(worker, adopted, client, exchange, (known, &findings)) {
            Ok(Next::Go(referral)) => break Ok(referral),
            Ok(Next::FindOut(open)) => open,
            Err(fault) => break Err(fault),
        };
        // Boxed: few calls wait for anything.
        let visitor = (client.slot, known);
        Box::pin(inquiry::pursue(worker, adopted, exchange, visitor, (open, &mut findings))).await;
        if findings.trouble.is_some() {
            credential::look(client, exchange);
        }
    };
    // Whatever became of the call: its record tells what others said of it.
    exchange.answers = findings.answers;
    match decided? {
        None => Ok(()),
        Some(referral) => Box::pin(referral.settle(worker, &adopted.plan, client.slot, exchange)).await,
    }
}

/// What a decision leads to, if not to a refusal.
enum Next {
    /// The call passes. Its limits are charged, so that a hook is asked of no more calls than pass.
    Go(Option<Box<Referral>>),
    /// Something has to be found out first.
    FindOut(Open),
}

/// Kills and revocations are the newest ones: a body may take longer than a switch.
fn newest(worker: &Worker, adopted: &Adopted, known: &Known) -> Result<Rc<Adopted>, Fault> {
    let newest = worker.adopt();
    if !Arc::ptr_eq(&newest.keys, &adopted.keys) {
        known.caller.is_still_among(&newest.keys)?;
    }
    Ok(newest)
}

fn decide(
    worker: &Worker,
    adopted: &Adopted,
    client: &Client,
    exchange: &mut Exchange,
    (known, findings): (&Known, &Findings),
) -> Result<Next, Fault> {
    let newest = newest(worker, adopted, known)?;
    let desk = Desk {
        access: &adopted.plan.access,
        limits: &adopted.plan.limits,
        rules: &adopted.rules,
        counters: &worker.shared.limits,
        kills: &newest.kills,
        patterns: &worker.patterns,
    };
    let when = When { moment: exchange.begun, unix_ns: worker.wall_millis(exchange.begun) * 1_000_000 };
    let server = exchange.record.server.as_str();
    let (config, own) = (adopted.plan.server_of(server), known.own.find(server, worker.coarse_now()));
    let body = client.input.get(exchange.body.clone()).unwrap_or_default();
    let (method, beginning) =
        exchange.call.as_ref().map_or((Method::None, &Text::EMPTY), |call| (call.method, &call.target));
    let targets = match &exchange.crossing {
        // Known before: as the server calls it.
        Some(crossing) => crossing.target().map_or(Targets::None, Targets::One),
        None if exchange.is_here => Targets::None,
        None => targets(desk.access, method, beginning, body)?,
    };
    let asked = Asked {
        caller: &known.caller,
        standing: &known.standing,
        server,
        labels: config.map_or(Labels::NONE, |server| &server.labels),
        // What is new on the server is in the newest one.
        catalogue: own.as_ref().or_else(|| newest.catalogues.by_server.get(server)).map(|known| &**known),
        method,
        method_text: method.text(&exchange.record.method),
        target: name(&targets, beginning),
        targets: targets.all(),
        source: client.ends.peer,
        body,
        when,
        number: 0,
        answers: &findings.answers,
    };
    let (metrics, style) = (worker.metrics(), adopted.plan.limits.headers);
    let mut admission = Admission::default();
    let decided = if exchange.batch.is_empty() {
        decide::decide(desk, &asked, &mut admission, &mut Counted(metrics))
            .map(|()| exchange.receipts.extend(admission.receipts()))
    } else {
        let mut hearing = Hearing { desk, admission: &mut admission, metrics };
        hearing.each(asked, &messages(desk.access, &exchange.batch, body)?, &mut exchange.receipts)
    };
    match decided {
        Ok(()) => {
            worker.watch.concerns(client.slot, worker.subject(&asked));
            if exchange.owes_tokens() {
                let trusted = &adopted.plan.limits.usage_from;
                (exchange.tokens_in, exchange.tokens_exact) = tokens(body, trusted, &known.caller.name);
            }
            let (aim, referral) = aim::of(worker, config, exchange, &asked)?;
            exchange.aim = aim;
            exchange.remainder = note(&admission, style, exchange.tokens_in, &mut exchange.own_lines);
            Ok(Next::Go(referral))
        }
        Err(Refused::Undecided { rule, external, question }) => {
            Ok(Next::FindOut(Open::ruling(rule, external, question)))
        }
        Err(Refused::Unlisted) if !findings.is_listed => Ok(Next::FindOut(Open::First)),
        Err(Refused::Absent) if !findings.is_relisted => Ok(Next::FindOut(Open::Again)),
        Err(Refused::Hidden(_)) if !findings.is_relisted && is_asked_for(adopted, exchange) => {
            Ok(Next::FindOut(Open::Again))
        }
        Err(refused) => {
            let fault = refuse(adopted, exchange, findings, metrics, &refused);
            Err(denial::in_words_of(exchange.era(), method, fault))
        }
    }
}

/// Writes down what a refusal says.
fn refuse(
    adopted: &Adopted,
    exchange: &mut Exchange,
    findings: &Findings,
    metrics: &WorkerMetrics,
    refused: &Refused<'_>,
) -> Fault {
    if let (Refused::Unlisted, Some(trouble)) = (refused, &findings.trouble) {
        return in_vain(adopted, exchange, trouble);
    }
    let server = exchange.record.server;
    let hub = adopted.plan.hubs.get(usize::from(exchange.hub));
    let endpoint = (&adopted.plan.identity, hub.map_or(server.as_str(), |hub| &*hub.name));
    let (fault, denial) = denial::of(refused, endpoint, metrics);
    if let Refused::Limited(limit, verdict) = refused {
        fields::write(&mut exchange.own_lines, adopted.plan.limits.headers, limit, *verdict);
    }
    exchange.deny(denial);
    fault
}

/// Whether a name that is not known is asked for where the call came to: what is hidden takes as long as that.
fn is_asked_for(adopted: &Adopted, exchange: &Exchange) -> bool {
    let hub = adopted.plan.hubs.get(usize::from(exchange.hub));
    hub.is_none_or(|hub| hub.form != Form::Virtual)
}

/// The server does not take what it is shown: the same of all names, as of a call that reaches it.
fn in_vain(adopted: &Adopted, exchange: &mut Exchange, trouble: &Trouble) -> Fault {
    let server = exchange.record.server;
    match adopted.find(server.as_str()) {
        Some(state) => credential::refuse_at(exchange, (server.as_str(), &state.way.told), trouble),
        None => trouble.fault(),
    }
}

/// What a call costs as far as its message tells: an estimate, and what a trusted caller says.
fn tokens(body: &[u8], trusted: &[Box<str>], caller: &str) -> (u64, Option<u64>) {
    let told = arguments::look(body);
    let is_trusted = || trusted.iter().any(|name| **name == *caller);
    (fields::estimate(told.bytes), told.tokens.filter(|_| is_trusted()))
}

/// What a message names. Where it cannot be told, that matters only to access rules.
fn targets<'m, const N: usize>(
    access: &Access,
    method: Method,
    known: &'m Text<N>,
    message: &'m [u8],
) -> Result<Targets<'m>, Fault> {
    match target::read(method, known, message) {
        Err(fault) if !access.rules.is_empty() => Err(fault),
        read => Ok(read.unwrap_or(Targets::None)),
    }
}

/// The whole name, where the beginning is not all of it.
fn name<'m, const N: usize>(targets: &'m Targets<'_>, known: &'m Text<N>) -> &'m str {
    if let Targets::One(target) = targets { &target.name } else { known.as_str() }
}

/// One message of a batch.
struct Message<'b> {
    called: &'b Called,
    method: Method,
    targets: Targets<'b>,
    body: &'b [u8],
}

fn messages<'b>(access: &Access, batch: &'b [Called], body: &'b [u8]) -> Result<Vec<Message<'b>>, Fault> {
    let message = |(called, body): (&'b Called, &'b [u8])| {
        let method = Method::from_text(called.method.as_str());
        let targets = targets(access, method, &called.target, body)?;
        Ok(Message { called, method, targets, body })
    };
    let messages: Vec<_> =
        batch.iter().zip(envelope::elements(body)).map(message).collect::<Result<_, _>>()?;
    // The same body was read before; a message that is not seen must not pass.
    if messages.len() == batch.len() { Ok(messages) } else { Err(TORN) }
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
        batch: &[Message<'_>],
        receipts: &mut Vec<Receipt>,
    ) -> Result<(), Refused<'a>> {
        for (number, Message { called, method, targets, body }) in batch.iter().enumerate() {
            let asked = Asked {
                method: *method,
                method_text: method.text(&called.method),
                target: name(targets, &called.target),
                targets: targets.all(),
                body,
                number,
                ..asked
            };
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
fn note(
    admission: &Admission<'_>,
    style: RateLimitHeaders,
    tokens_in: u64,
    lines: &mut Vec<u8>,
) -> Option<Remainder> {
    let remainder = admission.nearest().map(|(limit, item)| {
        let place = fields::write(lines, style, limit, item.verdict);
        Remainder { receipt: item.receipt(), style, place }
    });
    if let Some((_, item)) = admission.limits().find(|(limit, _)| limit.count == Count::Tokens) {
        fields::write_tokens(lines, tokens_in, item.verdict);
    }
    remainder
}

/// A call that went nowhere gets back what it was charged: before its caller hears of it, so that the refusal tells of
/// what is left then, and the next call finds it. False for one that a server may have seen.
pub fn give_back_unsent(worker: &Worker, exchange: &mut Exchange) -> bool {
    // Each repeat came after an attempt that reached a server.
    let reached_nobody = exchange.upstream_began == Moment::ZERO && exchange.repeats == 0;
    if exchange.fault.is_none() || !reached_nobody {
        return false;
    }
    let counters = &worker.shared.limits;
    counters.give_back(&exchange.receipts, exchange.begun);
    exchange.receipts.clear();
    if let Some(remainder) = exchange.remainder.take() {
        let moment = clock::now();
        let when = When { moment, unix_ns: worker.wall_millis(moment) * 1_000_000 };
        if let Some(left) = counters.left(&remainder.receipt, when) {
            remainder.correct(&mut exchange.own_lines, left);
        }
    }
    true
}

/// The call is over: gives back what a call that went nowhere was charged, and charges what tokens it cost.
pub fn settle(worker: &Worker, exchange: &mut Exchange) {
    if give_back_unsent(worker, exchange) || !exchange.owes_tokens() {
        return;
    }
    let counters = &worker.shared.limits;
    let tokens_out = fields::estimate(exchange.payload_bytes);
    let tokens = exchange.tokens_exact.unwrap_or(exchange.tokens_in + tokens_out);
    counters.charge_tokens(&exchange.receipts, tokens, exchange.ended);
    exchange.record.tokens = Some((exchange.tokens_in, tokens_out));
    let record = &exchange.record;
    let names = [record.server.as_str(), record.target.as_str(), record.principal.as_str()];
    for (direction, tokens) in [("in", exchange.tokens_in), ("out", tokens_out)] {
        worker.metrics().count(Family::Tokens, &[names[0], names[1], names[2], direction], tokens);
    }
}
