//! What a decision about a call waits for: the answer of an external decision point, or a newer list of what a server
//! offers.
//!
//! Not here: which calls those are, and what follows from an answer (`policy::decide`).

use crate::config::access::AccessRule;
use crate::config::access::External;
use crate::config::limits;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Inquiry;
use crate::policy::external::Answered;
use crate::policy::external::Question;
use crate::policy::external::Ruling;
use crate::worker::Worker;
use std::sync::Arc;

/// What was found out for one call.
#[derive(Default)]
pub struct Findings {
    pub answers: Vec<Answered>,
    /// Its server was listed anew, if it could be.
    pub is_relisted: bool,
}

/// What is still to be found out.
pub enum Open {
    /// None: nobody may answer it.
    Ruling(Option<Box<Inquiry>>, Answered),
    /// The call names something that this server is not known to have. Control lists it no more than once a second.
    Catalogue(Arc<str>),
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
pub async fn pursue(worker: &Worker, slot: usize, open: Open, findings: &mut Findings) {
    match open {
        Open::Ruling(None, answer) => {
            let no = Ruling { allow: false, reason: "its arguments name a key twice".into() };
            findings.answers.push(Answered { ruling: Some(no), ..answer });
        }
        Open::Ruling(Some(inquiry), answer) => {
            let patience = inquiry.timeout_ms;
            let ruling = match worker.question(Asked::Decide(inquiry), slot, patience).await {
                Some(Answer::Decided(ruling)) => ruling,
                _ => None,
            };
            findings.answers.push(Answered { ruling, ..answer });
        }
        Open::Catalogue(server) => {
            worker.question(Asked::Catalogue { server }, slot, limits::QUESTION_MS).await;
            findings.is_relisted = true;
        }
    }
}
