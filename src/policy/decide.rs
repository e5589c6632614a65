//! The one function that decides whether a call may pass, for the live path, for `explain` and for tests.
//!
//! Not here: who calls (`identity`), which server serves it (`route`), and what a refusal looks like on the wire.
//! Pure: time is an argument, and whatever is counted belongs to the caller.

use crate::base::fault::Kind;
use crate::config::access::Access;
use crate::config::access::AccessRule;
use crate::config::access::Effect;
use crate::config::access::External;
use crate::config::labels::Labels;
use crate::config::limit::Limit;
use crate::config::limit::Limits;
use crate::config::limit::OnFull;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::envelope::Method;
use crate::mcp::target::Target;
use crate::policy::access::Finding;
use crate::policy::access::Standing;
use crate::policy::access::Told;
use crate::policy::access::View;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Patterns;
use crate::policy::expression::Scope;
use crate::policy::expression::Variables;
use crate::policy::external::Answered;
use crate::policy::external::Question;
use crate::policy::identity::Caller;
use crate::policy::kills;
use crate::policy::kills::Kills;
use crate::policy::limits::Counters;
use crate::policy::limits::gate;
use crate::policy::limits::gate::Item;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::gate::When;
use crate::policy::limits::rules;
use crate::policy::limits::rules::Rules;
use crate::policy::limits::terms::Verdict;
use arrayvec::ArrayVec;
use std::cell::RefCell;
use std::net::IpAddr;

/// What is decided by: one plan, and what is shared with others.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    pub access: &'a Access,
    pub limits: &'a Limits,
    pub rules: &'a Rules,
    pub counters: &'a Counters,
    pub kills: &'a Kills,
    /// Compiled patterns that expressions learn at run time.
    pub patterns: &'a RefCell<Patterns>,
}

/// One call, as far as rules look at it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub caller: &'a Caller,
    pub standing: &'a Standing,
    pub server: &'a str,
    /// What the server offers, where that is known.
    pub catalogue: Option<&'a Catalogue>,
    pub labels: &'a Labels,
    pub method: Method,
    /// As the client wrote it; of a request without a message the HTTP method.
    pub method_text: &'a str,
    /// Tool, prompt or resource URI, whole; empty where the message names none, or several.
    pub target: &'a str,
    /// All that the message names.
    pub targets: &'a [Target<'a>],
    pub source: IpAddr,
    /// The JSON of the message, one and not a batch.
    pub body: &'a [u8],
    pub when: When,
    /// Its place in a batch.
    pub number: usize,
    /// What others have said about the call.
    pub answers: &'a [Answered],
}

impl Asked<'_> {
    pub fn variables(&self) -> Variables<'_> {
        let tool = self.method == Method::ToolsCall;
        let named = tool || self.method == Method::PromptsGet;
        Variables {
            principal: &self.caller.name,
            roles: &self.caller.roles,
            tenant: &self.caller.tenant,
            claims: &self.caller.claims,
            method: self.method_text,
            server: self.server,
            tool: if tool { self.target } else { "" },
            catalogue: self.catalogue,
            labels: self.labels,
            name: named.then_some(self.target),
            source: self.source,
            now: self.now(),
            body: self.body,
        }
    }

    /// The caller in front of the server.
    fn view(&self) -> View<'_> {
        let Self { caller, standing, server, catalogue, labels, source, .. } = *self;
        View { caller, standing, server, catalogue, labels, source, now: self.now() }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.when.unix_ns / 1_000_000).unwrap_or(i64::MAX)
    }
}

/// The limits that a call was let through by: charged, and given back if it goes nowhere.
#[derive(Default)]
pub struct Admission<'a> {
    /// One for each item.
    met: ArrayVec<&'a Limit, { limits::LIMITS_PER_CALL_MAX }>,
    items: ArrayVec<Item<'a>, { limits::LIMITS_PER_CALL_MAX }>,
}

/// Why a call may not pass.
pub enum Refused<'a> {
    Killed(kills::Kind),
    /// The server has nothing of that name, as far as its catalogue knows: answered as what is hidden.
    Absent,
    /// Rules hide something of what the server has, and nobody knows what it has: what is hidden could be told from what
    /// does not exist.
    Unlisted,
    /// By an access rule, or because none allows it; whatever its arguments are: nothing may tell it from what does
    /// not exist.
    Hidden(Option<&'a AccessRule>),
    /// By an access rule, or because none allows it; with other arguments it may pass.
    Forbidden(Option<&'a AccessRule>),
    /// `scopes`: all that the call needs.
    MissingScopes {
        rule: &'a AccessRule,
        scopes: Vec<&'a str>,
    },
    /// An external decision point says no, for this reason; empty: it gives none, or nobody has answered.
    Barred {
        rule: &'a AccessRule,
        reason: Box<str>,
    },
    /// Not yet: this rule's decision point has to be asked first.
    Undecided {
        rule: &'a AccessRule,
        external: &'a External,
        question: Question,
    },
    /// The first limit, in the order of the file, that has no room.
    Limited(&'a Limit, Verdict),
    /// More limits match than one call may meet.
    TooManyLimits,
}

impl Refused<'_> {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Killed(_) => Kind::Killed,
            Self::Absent | Self::Hidden(_) => Kind::Unknown,
            Self::Unlisted => Kind::UpstreamUnavailable,
            Self::Forbidden(_) | Self::Barred { .. } | Self::Undecided { .. } => Kind::Forbidden,
            Self::MissingScopes { .. } => Kind::InsufficientScope,
            Self::Limited(_, Verdict::Full) | Self::TooManyLimits => Kind::Overloaded,
            Self::Limited(..) => Kind::RateLimited,
        }
    }

    /// What is to blame: a path of the configuration, or a kind of kill switch.
    pub fn rule(&self) -> String {
        match self {
            Self::Killed(kind) => format!("kill.{}", kind.as_str()),
            Self::Absent | Self::Unlisted => "catalogue".into(),
            Self::Hidden(None) | Self::Forbidden(None) => "access".into(),
            Self::Hidden(Some(rule))
            | Self::Forbidden(Some(rule))
            | Self::MissingScopes { rule, .. }
            | Self::Barred { rule, .. }
            | Self::Undecided { rule, .. } => format!("access.{}", rule.name),
            Self::Limited(_, Verdict::Full) => "limitTable".into(),
            Self::Limited(limit, _) => format!("limits.{}", limit.name),
            Self::TooManyLimits => "limits".into(),
        }
    }
}

/// What a limit had to do with a call that it did not count.
pub enum Seen<'e> {
    OtherMethod,
    OtherServer,
    OtherTool,
    /// Its condition is false.
    No,
    /// Its condition or key could not be evaluated, which is no match.
    Failed(&'e EvaluationError),
    /// It had no place to count the call, and `limitTable.onFull` lets it pass.
    Uncounted,
}

/// Who wants to know why.
pub trait Trail {
    /// Every access rule is asked, also where others have decided already.
    const ALL: bool = false;

    fn seen(&mut self, limit: &Limit, seen: Seen<'_>);

    fn told(&mut self, rule: &AccessRule, told: Told);
}

/// Nobody.
impl Trail for () {
    fn seen(&mut self, _: &Limit, _: Seen<'_>) {}

    fn told(&mut self, _: &AccessRule, _: Told) {}
}

/// Decides, and charges what is decided by. `admission` tells afterwards what that is; it is the caller's because it
/// is too large to be handed on at every call.
///
/// # Errors
/// Why the call may not pass. Nothing is charged then.
pub fn decide<'a>(
    desk: Desk<'a>,
    asked: &Asked<'_>,
    admission: &mut Admission<'a>,
    trail: &mut impl Trail,
) -> Result<(), Refused<'a>> {
    admission.met.clear();
    admission.items.clear();
    let tool = if asked.method == Method::ToolsCall { asked.target } else { "" };
    // `server/discover` is answered whatever was killed or is used up: clients take an error for an old server.
    if asked.method == Method::Discover {
        return Ok(());
    }
    if let Some(kind) = desk.kills.find(&asked.caller.name, &asked.caller.tenant, asked.server, tool) {
        return Err(Refused::Killed(kind));
    }
    // One scope, so that the message is read once.
    let mut patterns = desk.patterns.borrow_mut();
    let mut scope = Scope::new(asked.variables(), &mut patterns);
    access(desk, asked, &mut scope, trail)?;
    let mut fits = true;
    rules::meet(desk, asked, &mut scope, trail, |limit, item| {
        fits &= admission.met.try_push(limit).is_ok();
        fits &= admission.items.try_push(item).is_ok();
    });
    if !fits {
        return Err(Refused::TooManyLimits);
    }
    while let Err(refusal) = gate::admit(&mut admission.items, asked.when) {
        // As many limits as items, in their order.
        let limit = admission.met[refusal.index];
        if refusal.verdict != Verdict::Full || desk.limits.table.on_full == OnFull::Refuse {
            return Err(Refused::Limited(limit, refusal.verdict));
        }
        trail.seen(limit, Seen::Uncounted);
        admission.met.remove(refusal.index);
        admission.items.remove(refusal.index);
    }
    Ok(())
}

/// Everything that the message names must be allowed. What names nothing is no business of access rules.
fn access<'a>(
    desk: Desk<'a>,
    asked: &Asked<'_>,
    scope: &mut Scope<'_>,
    trail: &mut impl Trail,
) -> Result<(), Refused<'a>> {
    let view = asked.view();
    // Without rules nothing is hidden, and servers say for themselves what they do not have.
    let catalogue = asked.catalogue.filter(|_| !desk.access.rules.is_empty());
    for (number, target) in asked.targets.iter().enumerate() {
        let Target { named, .. } = *target;
        // Resources that a server does not list may be there all the same: no list would help.
        if asked.catalogue.is_none()
            && named != Named::Resource
            && asked.standing.may_hide(desk.access, named, asked.server)
        {
            return Err(Refused::Unlisted);
        }
        match view.may(desk.access, (target, asked.method_text), scope, trail) {
            Finding::Hidden(rule) => return Err(Refused::Hidden(rule)),
            _ if catalogue.is_some_and(|catalogue| !catalogue.may_have(target)) => {
                return Err(Refused::Absent);
            }
            Finding::Forbidden(rule) => return Err(Refused::Forbidden(rule)),
            Finding::MissingScopes { rule, scopes } => return Err(Refused::MissingScopes { rule, scopes }),
            Finding::Open => {}
            Finding::Ask(rules) => rules.into_iter().try_for_each(|rule| heed(rule, asked, number))?,
        }
    }
    Ok(())
}

/// What the decision point of a rule says of the call.
fn heed<'a>(rule: &'a AccessRule, asked: &Asked<'_>, target: usize) -> Result<(), Refused<'a>> {
    let Effect::External(external) = &rule.effect else { return Ok(()) };
    let about_it = |answer: &&Answered| {
        answer.rule == rule.name && answer.message == asked.number && answer.target == target
    };
    match asked.answers.iter().find(about_it).map(|answer| &answer.ruling) {
        None => Err(Refused::Undecided { rule, external, question: Question::new(asked, target) }),
        Some(Some(ruling)) if ruling.allow => Ok(()),
        Some(Some(ruling)) => Err(Refused::Barred { rule, reason: ruling.reason.clone() }),
        Some(None) if external.allows_on_error => Ok(()),
        Some(None) => Err(Refused::Barred { rule, reason: Box::default() }),
    }
}

impl<'a> Admission<'a> {
    /// Each limit that counted the call, with what it said.
    pub fn limits(&self) -> impl Iterator<Item = (&'a Limit, &Item<'a>)> {
        self.met.iter().copied().zip(&self.items)
    }

    /// The limit that is nearest to exhaustion.
    pub fn nearest(&self) -> Option<(&'a Limit, &Item<'a>)> {
        let nearest = gate::nearest(&self.items)?;
        self.limits().find(|(_, item)| std::ptr::eq(*item, nearest))
    }

    /// What was charged.
    pub fn receipts(&self) -> impl Iterator<Item = Receipt> {
        self.items.iter().map(Item::receipt)
    }
}
