//! What each access rule has to do with a call, in words.
//!
//! Not here: the decision itself (policy).

use crate::cli::explain::limits::Sightings;
use crate::config::access::Access;
use crate::config::access::AccessRule;
use crate::config::access::Effect;
use crate::policy::access::Told;
use crate::policy::external::Answered;
use crate::policy::external::Ruling;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// One rule and the call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) rule: String,
    /// None: it was not asked.
    matches: Option<bool>,
    says: String,
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.matches {
            Some(true) => write!(f, "match: {}", self.says),
            Some(false) => write!(f, "no match: {}", self.says),
            None => f.write_str(&self.says),
        }
    }
}

/// One for each rule, in the order of the file.
pub(super) fn rules(access: &Access, sightings: &Sightings) -> Vec<Rule> {
    access.rules.iter().map(|rule| one(rule, sightings.told(rule))).collect()
}

/// What decision points would say: nobody is asked here, and an explanation is about the rules of this file.
pub(super) fn assumed(access: &Access) -> Vec<Answered> {
    let external = access.rules.iter().filter(|rule| matches!(rule.effect, Effect::External(_)));
    let allows = || Some(Ruling { allow: true, reason: Box::default() });
    let answer = |rule: &AccessRule| Answered {
        rule: Arc::clone(&rule.name),
        message: 0,
        target: 0,
        ruling: allows(),
    };
    external.map(answer).collect()
}

fn one(rule: &AccessRule, told: Option<Told>) -> Rule {
    let is_allow = matches!(rule.effect, Effect::Allow);
    let by_arguments = rule.when.as_ref().is_some_and(|when| when.uses_body());
    let these = if by_arguments { " for these arguments" } else { "" };
    let (matches, says) = match told {
        None => return Rule { rule: rule.name.to_string(), matches: None, says: "not asked".into() },
        Some(Told::OtherCaller) => (false, format!("it is for {}", callers(rule))),
        Some(Told::OtherTarget) => (false, "it is about other things".into()),
        Some(Told::No) => (false, format!("its `when` is false{these}")),
        Some(Told::Failed(error)) => (!is_allow, format!("its `when` cannot be evaluated{these}: {error}")),
        Some(Told::Matches) if rule.when.is_some() => {
            (true, format!("{}, its `when` is true{these}", effect(&rule.effect)))
        }
        Some(Told::Matches) => (true, effect(&rule.effect)),
    };
    Rule { rule: rule.name.to_string(), matches: Some(matches), says }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Allow => "it allows".into(),
        Effect::Deny => "it denies".into(),
        Effect::Scopes(scopes) => format!("it needs the scopes {}", scopes.join(", ")),
        Effect::External(external) => {
            format!("{} decides, and is taken to allow: nobody is asked here", external.url)
        }
    }
}

fn callers(rule: &AccessRule) -> String {
    let named =
        |what: &str, names: &[Box<str>]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let parts = [named("roles", &rule.roles), named("principals", &rule.principals)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" or ")
}
