//! What a caller may see and call: the access rules of the plan.
//!
//! Not here: limits, and what a refusal looks like on the wire. `Standing` is what the rules mean for one caller,
//! evaluated once a credential: only what reads arguments, the time or the source is left for each call.
//!
//! The same pass over the rules answers for a list and for a call. A list does not know the arguments: what is refused
//! whatever they are is hidden, everything else is listed.

#[cfg(test)]
mod tests;

use crate::config::access::Access;
use crate::config::access::AccessRule;
use crate::config::access::Effect;
use crate::config::expression::Expression;
use crate::config::expression::Variable;
use crate::config::labels::Labels;
use crate::config::pattern::Named;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::target::Target;
use crate::policy::decide::Trail;
use crate::policy::expression;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Known;
use crate::policy::expression::Patterns;
use crate::policy::expression::Possible;
use crate::policy::expression::Scope;
use crate::policy::expression::Variables;
use crate::policy::identity::Caller;
use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;

/// What a list knows beside the caller: a condition that reads none of it comes to the same for all names.
const OF_TARGET: [Variable; 8] = [
    Variable::Annotations,
    Variable::Labels,
    Variable::Method,
    Variable::Name,
    Variable::Now,
    Variable::Server,
    Variable::Source,
    Variable::Tool,
];

/// The rules, evaluated for one caller.
#[derive(Debug)]
pub struct Standing {
    /// One for each rule, in the order of the file.
    stances: Box<[Stance]>,
    /// What no rule allows is refused: there are rules that allow.
    needs_allow: bool,
}

/// One rule, as far as the caller decides it.
#[derive(Debug)]
struct Stance {
    /// It is for this caller.
    concerns: bool,
    /// What its condition may come to.
    possible: Result<Possible, EvaluationError>,
    /// A list has to evaluate it for each name.
    by_target: bool,
}

impl Standing {
    pub fn new(access: &Access, caller: &Caller, patterns: &RefCell<Patterns>) -> Self {
        let mut patterns = patterns.borrow_mut();
        let stances = access.rules.iter().map(|rule| Stance::new(rule, caller, &mut patterns)).collect();
        let needs_allow = access.rules.iter().any(|rule| matches!(rule.effect, Effect::Allow));
        Self { stances, needs_allow }
    }

    /// Whether the rules may hide anything of this kind that a server has, whatever it is.
    pub fn may_hide(&self, access: &Access, named: Named, server: &str) -> bool {
        if self.stances.len() != access.rules.len() {
            // Of another plan: it says nothing about these rules.
            return true;
        }
        let mut hides = self.needs_allow;
        for (rule, stance) in access.rules.iter().zip(&self.stances).filter(|(_, stance)| stance.concerns) {
            let matching = Match::new(&rule.effect, stance.possible);
            // What only arguments decide is listed.
            let by_arguments = matching == Match::Perhaps && !stance.by_target;
            match rule.effect {
                Effect::Deny if matching == Match::No || by_arguments => {}
                Effect::Deny if rule.patterns.iter().any(|pattern| pattern.touches(named, server)) => {
                    return true;
                }
                Effect::Allow if matching == Match::Yes || by_arguments => {
                    hides &= !rule.patterns.iter().any(|pattern| pattern.covers(named, server));
                }
                Effect::Deny | Effect::Allow | Effect::Scopes(_) | Effect::External(_) => {}
            }
        }
        hides
    }
}

impl Standing {
    /// Whether the rules hide all that a server may have, as far as they tell without its list.
    pub fn hides_all(&self, access: &Access, server: &str) -> bool {
        // Of another plan: it says nothing about these rules.
        let is_of_these = self.stances.len() == access.rules.len();
        !is_of_these || Named::ALL.into_iter().all(|named| self.hides_every(access, named, server))
    }

    fn hides_every(&self, access: &Access, named: Named, server: &str) -> bool {
        let mut allows = !self.needs_allow;
        for (rule, stance) in access.rules.iter().zip(&self.stances).filter(|(_, stance)| stance.concerns) {
            let matching = Match::new(&rule.effect, stance.possible);
            match rule.effect {
                Effect::Deny if matching == Match::Yes => {
                    if rule.patterns.iter().any(|pattern| pattern.covers(named, server)) {
                        return true;
                    }
                }
                Effect::Allow if matching != Match::No => {
                    allows |= rule.patterns.iter().any(|pattern| pattern.touches(named, server));
                }
                Effect::Deny | Effect::Allow | Effect::Scopes(_) | Effect::External(_) => {}
            }
        }
        !allows
    }
}

impl Stance {
    fn new(rule: &AccessRule, caller: &Caller, patterns: &mut Patterns) -> Self {
        let has_role = || rule.roles.iter().any(|role| caller.roles.contains(role));
        let is_named = || rule.principals.iter().any(|name| **name == *caller.name);
        let is_for_all = rule.roles.is_empty() && rule.principals.is_empty();
        let concerns = is_for_all || has_role() || is_named();
        let possible = match &rule.when {
            Some(when) if concerns => {
                let mut scope = Scope::partly(Variables::of_caller(caller), patterns, Known::Caller);
                expression::consider(when, &mut scope)
            }
            _ => Ok(Possible::TRUE),
        };
        let reads_target = |when: &Expression| OF_TARGET.into_iter().any(|variable| when.uses(variable));
        Self { concerns, possible, by_target: rule.when.as_ref().is_some_and(reads_target) }
    }
}

/// Whether a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    No,
    /// The arguments decide.
    Perhaps,
    Yes,
}

impl Match {
    /// A condition that cannot be evaluated allows nothing; where it refuses or demands something, it holds.
    fn new(effect: &Effect, possible: Result<Possible, EvaluationError>) -> Self {
        let possible = possible.unwrap_or(Possible::ERROR);
        let (holds, fails) = match effect {
            Effect::Allow => (Possible::TRUE, Possible::FALSE.or(Possible::ERROR)),
            Effect::Deny | Effect::Scopes(_) | Effect::External(_) => {
                (Possible::TRUE.or(Possible::ERROR), Possible::FALSE)
            }
        };
        match (possible.may_be(holds), possible.may_be(fails)) {
            (true, true) => Self::Perhaps,
            (true, false) => Self::Yes,
            (false, _) => Self::No,
        }
    }
}

/// What a rule has to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    OtherCaller,
    OtherTarget,
    /// Its condition does not hold.
    No,
    Matches,
    /// Its condition cannot be evaluated: it matches, unless it allows.
    Failed(EvaluationError),
}

/// What the rules say of a call.
#[derive(Clone, Debug)]
pub enum Finding<'a> {
    Open,
    /// It is refused whatever its arguments are; None: because no rule allows it.
    Hidden(Option<&'a AccessRule>),
    /// It is refused as it is; None: because no rule allows it.
    Forbidden(Option<&'a AccessRule>),
    /// `scopes`: all that this call needs, those that the caller has among them. `rule` is the first that lacks one.
    MissingScopes {
        rule: &'a AccessRule,
        scopes: Vec<&'a str>,
    },
    /// All of these others have to agree.
    Ask(Vec<&'a AccessRule>),
}

/// A caller in front of one server.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub caller: &'a Caller,
    /// Made from the rules that are asked, for this caller.
    pub standing: &'a Standing,
    pub server: &'a str,
    /// What the server offers, where that is known.
    pub catalogue: Option<&'a Catalogue>,
    pub labels: &'a Labels,
    pub source: IpAddr,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
}

impl View<'_> {
    /// Whether a list shows it: a call of it may pass, with some arguments.
    pub fn sees(&self, access: &Access, named: Named, name: &str, patterns: &RefCell<Patterns>) -> bool {
        if access.rules.is_empty() {
            return true;
        }
        let target = Target { named, name: Cow::Borrowed(name) };
        let mut patterns = patterns.borrow_mut();
        let mut scope = Scope::partly(self.variables(&target), &mut patterns, Known::Target);
        self.pass(access, &target, &mut scope, &mut ()).is_ok()
    }

    /// Whether a call passes that names `target`. `scope` is the whole call, of this method.
    pub fn may<'p>(
        &self,
        access: &'p Access,
        (target, method): (&Target<'_>, &str),
        scope: &mut Scope<'_>,
        trail: &mut impl Trail,
    ) -> Finding<'p> {
        if access.rules.is_empty() {
            return Finding::Open;
        }
        let passed = self.pass(access, target, scope, trail);
        // What passes with its arguments would be listed; other methods than the main one are not asked in lists.
        if passed.is_ok() && method == target.named.method() {
            return self.demands(access, target, scope, trail);
        }
        let mut blind = scope.beside(self.variables(target), Known::Target);
        match (self.pass(access, target, &mut blind, &mut ()), passed) {
            (Err(rule), _) => Finding::Hidden(rule),
            (Ok(()), Err(rule)) => Finding::Forbidden(rule),
            (Ok(()), Ok(())) => self.demands(access, target, scope, trail),
        }
    }

    /// What a list knows.
    fn variables<'t>(&'t self, target: &'t Target<'_>) -> Variables<'t> {
        let is_resource = target.named == Named::Resource;
        Variables {
            method: target.named.method(),
            server: self.server,
            tool: if target.named == Named::Tool { &target.name } else { "" },
            name: (!is_resource).then_some(&target.name),
            catalogue: self.catalogue,
            labels: self.labels,
            source: self.source,
            now: self.now,
            ..Variables::of_caller(self.caller)
        }
    }

    /// Rules that deny and allow, with what the scope knows. Err: refused for certain, by this rule or by none.
    fn pass<'p, T: Trail>(
        &self,
        access: &'p Access,
        target: &Target<'_>,
        scope: &mut Scope<'_>,
        trail: &mut T,
    ) -> Result<(), Option<&'p AccessRule>> {
        if self.standing.stances.len() != access.rules.len() {
            // Of another plan: it says nothing about these rules.
            return Err(None);
        }
        let mut denied = None;
        let mut allowed = !self.standing.needs_allow;
        for (rule, stance) in access.rules.iter().zip(&self.standing.stances) {
            let is_open = match rule.effect {
                Effect::Allow => !allowed,
                Effect::Deny => true,
                Effect::Scopes(_) | Effect::External(_) => continue,
            };
            if !(is_open || T::ALL) {
                continue;
            }
            match (&rule.effect, self.weigh((rule, stance), target, scope, trail)) {
                (Effect::Deny, Match::Yes) => denied = denied.or(Some(rule)),
                (Effect::Allow, Match::Yes | Match::Perhaps) => allowed = true,
                _ => {}
            }
            if denied.is_some() && !T::ALL {
                break;
            }
        }
        match denied {
            Some(rule) => Err(Some(rule)),
            None if allowed => Ok(()),
            None => Err(None),
        }
    }

    /// Scopes, and what others decide: asked for calls that the other rules let pass.
    fn demands<'p>(
        &self,
        access: &'p Access,
        target: &Target<'_>,
        scope: &mut Scope<'_>,
        trail: &mut impl Trail,
    ) -> Finding<'p> {
        let mut met = Vec::new();
        for (rule, stance) in access.rules.iter().zip(&self.standing.stances) {
            if matches!(rule.effect, Effect::Scopes(_) | Effect::External(_))
                && self.weigh((rule, stance), target, scope, trail) == Match::Yes
            {
                met.push(rule);
            }
        }
        let lacks = |rule: &&AccessRule| needed(rule).iter().any(|scope| !self.caller.scopes.contains(scope));
        if let Some(rule) = met.iter().copied().find(lacks) {
            let mut scopes: Vec<&str> = Vec::new();
            for scope in met.iter().flat_map(|rule| needed(rule)) {
                if !scopes.contains(&&**scope) {
                    scopes.push(scope);
                }
            }
            return Finding::MissingScopes { rule, scopes };
        }
        met.retain(|rule| matches!(rule.effect, Effect::External(_)));
        if met.is_empty() { Finding::Open } else { Finding::Ask(met) }
    }

    fn weigh(
        &self,
        (rule, stance): (&AccessRule, &Stance),
        target: &Target<'_>,
        scope: &mut Scope<'_>,
        trail: &mut impl Trail,
    ) -> Match {
        if !stance.concerns {
            trail.told(rule, Told::OtherCaller);
            return Match::No;
        }
        if !rule.patterns.iter().any(|pattern| pattern.matches(target.named, self.server, &target.name)) {
            trail.told(rule, Told::OtherTarget);
            return Match::No;
        }
        let mut possible = stance.possible;
        let mut matching = Match::new(&rule.effect, possible);
        if let Some(when) = &rule.when
            && matching == Match::Perhaps
            && (stance.by_target || scope.known() == Known::Call)
        {
            possible = expression::consider(when, scope);
            matching = Match::new(&rule.effect, possible);
        }
        trail.told(
            rule,
            match (possible, matching) {
                (Err(error), _) => Told::Failed(error),
                (_, Match::No) => Told::No,
                (_, Match::Perhaps | Match::Yes) => Told::Matches,
            },
        );
        matching
    }
}

fn needed(rule: &AccessRule) -> &[Box<str>] {
    if let Effect::Scopes(scopes) = &rule.effect { scopes } else { &[] }
}
