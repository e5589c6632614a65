//! What a decision about a call waits for: the answer of an external decision point, or a newer list of what a server
//! offers.
//!
//! Not here: which calls those are, and what follows from an answer (`policy::decide`).

use crate::base::clock;
use crate::config::access::AccessRule;
use crate::config::access::External;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Inquiry;
use crate::policy::credential::Trouble;
use crate::policy::external::Answered;
use crate::policy::external::Question;
use crate::policy::external::Ruling;
use crate::telemetry::record::Decisions;
use crate::telemetry::record::Said;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::callers::Known;
use crate::worker::hub;
use crate::worker::own::Learned;
use crate::worker::own::Shelf;
use crate::worker::state::Exchange;
use std::sync::Arc;

/// What was found out for one call.
#[derive(Default)]
pub struct Findings {
    pub answers: Vec<Answered>,
    /// Its server was listed, if it could be.
    pub is_listed: bool,
    /// Its server was listed anew, if it could be.
    pub is_relisted: bool,
    /// Why the server is not listed for this caller.
    pub trouble: Option<Box<Trouble>>,
    /// What was found out stays until the call is decided on.
    learned: Learned,
}

/// What is still to be found out.
pub enum Open {
    /// None: nobody may answer it.
    Ruling(Option<Box<Inquiry>>, Answered),
    /// What the server of the call offers is not known, and whether something is hidden depends on it.
    First,
    /// The call names something that its server is not known to have, or that is hidden: nobody can tell which by how long
    /// it takes. Control lists a server no more than once a second.
    Again,
}

impl Open {
    pub fn ruling(rule: &AccessRule, external: &External, question: Question) -> Self {
        let Question { message, target, input } = question;
        let inquiry = input.map(|input| {
            let External { url, timeout_ms, cache_ms, .. } = external;
            let rule = Box::from(&*rule.name);
            Box::new(Inquiry { rule, url: url.clone(), timeout_ms: *timeout_ms, cache_ms: *cache_ms, input })
        });
        Self::Ruling(inquiry, Answered { rule: Arc::clone(&rule.name), message, target, ruling: None })
    }
}

/// Finds it out, or that it cannot be found out in time.
pub async fn pursue(
    worker: &Worker,
    adopted: &Adopted,
    exchange: &mut Exchange,
    (slot, known): (usize, &Known),
    (open, findings): (Open, &mut Findings),
) {
    let server = adopted.find(exchange.record.server.as_str()).map(ServerState::config);
    match open {
        Open::Ruling(None, answer) => {
            let no = Ruling { allow: false, reason: "its arguments name a key twice".into() };
            findings.answers.push(Answered { ruling: Some(no), ..answer });
        }
        Open::Ruling(Some(inquiry), answer) => {
            let (patience, began) = (inquiry.timeout_ms, clock::now());
            let ruling = match worker.question(Asked::Decide(inquiry), slot, patience).await {
                Some(Answer::Decided(ruling)) => ruling,
                _ => None,
            };
            exchange.waited_ns += clock::now().nanos_since(began);
            findings.answers.push(Answered { ruling, ..answer });
        }
        Open::First => {
            findings.is_listed = true;
            let Some(server) = server else { return };
            let Some(id) = adopted.plan.by_name.get(&*server.name) else { return };
            findings.learned = hub::learn(worker, adopted, exchange, (slot, known), &[*id]).await;
            let shared = || Shelf::of(worker, known).trouble(server);
            findings.trouble = findings.learned.trouble(&server.name).or_else(shared);
        }
        Open::Again => {
            findings.is_relisted = true;
            let Some(server) = server else { return };
            findings.learned = hub::learn_anew(worker, exchange, (slot, known), server).await;
        }
    }
}

/// What the record of one message says of them, a rule each: of several things that it names the worst.
pub fn told(answers: &[Answered], message: usize) -> Decisions {
    let mut rules: Vec<(&str, Said)> = Vec::new();
    for Answered { rule, ruling, .. } in answers.iter().filter(|answer| answer.message == message) {
        let said = match ruling {
            Some(Ruling { allow: true, .. }) => Said::Allow,
            Some(_) => Said::Deny,
            None => Said::Nothing,
        };
        match rules.iter_mut().find(|(known, _)| **known == **rule) {
            Some((_, known)) => *known = said.max(*known),
            None => rules.push((rule, said)),
        }
    }
    let mut decisions = Decisions::default();
    rules.into_iter().for_each(|(rule, said)| decisions.push(rule, said));
    decisions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_the_worst_of_each_rule() {
        let answer = |rule: &str, message, target, ruling: Option<bool>| Answered {
            rule: rule.into(),
            message,
            target,
            ruling: ruling.map(|allow| Ruling { allow, reason: Box::default() }),
        };
        let answers = [
            answer("a", 0, 0, Some(true)),
            answer("a", 0, 1, None),
            answer("a", 0, 2, Some(true)),
            answer("b", 0, 0, Some(true)),
            answer("b", 1, 0, Some(false)),
        ];
        let told = |message| {
            let told = told(&answers, message);
            told.all().iter().map(|one| (one.rule.as_str().to_owned(), one.said)).collect::<Vec<_>>()
        };
        assert_eq!(told(0), [("a".into(), Said::Nothing), ("b".into(), Said::Allow)]);
        assert_eq!(told(1), [("b".into(), Said::Deny)]);
        assert_eq!(told(2), []);
    }
}
