//! The one function that decides whether a call may pass, for the live path, for `explain` and for tests.
//!
//! Not here: who calls (`identity`), which server serves it (`route`), and what a refusal looks like on the wire.
//! Pure: time is an argument, and whatever is counted belongs to the caller.

use crate::base::fault::Kind;
use crate::config::limit::Limit;
use crate::config::limit::Limits;
use crate::config::limit::OnFull;
use crate::config::limits;
use crate::mcp::envelope::Method;
use crate::policy::expression::EvaluationError;
use crate::policy::expression::Patterns;
use crate::policy::expression::Variables;
use crate::policy::kills;
use crate::policy::kills::Kills;
use crate::policy::limits::Counters;
use crate::policy::limits::gate;
use crate::policy::limits::gate::Item;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::gate::When;
use crate::policy::limits::rules::Rules;
use crate::policy::limits::terms::Verdict;
use arrayvec::ArrayVec;
use std::cell::RefCell;
use std::net::IpAddr;

/// What is decided by: one plan, and what is shared with others.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
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
    pub principal: &'a str,
    pub roles: &'a [Box<str>],
    /// Empty: there is one tenant.
    pub tenant: &'a str,
    pub server: &'a str,
    pub method: Method,
    /// As the client wrote it; of a request without a message the HTTP method.
    pub method_text: &'a str,
    /// Tool, prompt or resource URI; empty where the method has none.
    pub target: &'a str,
    pub source: IpAddr,
    /// The JSON of the whole message.
    pub body: &'a [u8],
    pub when: When,
}

impl Asked<'_> {
    pub fn variables(&self) -> Variables<'_> {
        let tool = self.method == Method::ToolsCall;
        let named = tool || self.method == Method::PromptsGet;
        Variables {
            principal: self.principal,
            roles: self.roles,
            tenant: self.tenant,
            method: self.method_text,
            server: self.server,
            tool: if tool { self.target } else { "" },
            name: named.then_some(self.target),
            source: self.source,
            now: i64::try_from(self.when.unix_ns / 1_000_000).unwrap_or(i64::MAX),
            body: self.body,
        }
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
    /// The first limit, in the order of the file, that has no room.
    Limited(&'a Limit, Verdict),
    /// More limits match than one call may meet.
    TooManyLimits,
}

impl Refused<'_> {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Killed(_) => Kind::Killed,
            Self::Limited(_, Verdict::Full) | Self::TooManyLimits => Kind::Overloaded,
            Self::Limited(..) => Kind::RateLimited,
        }
    }

    /// What is to blame: a path of the configuration, or a kind of kill switch.
    pub fn rule(&self) -> String {
        match self {
            Self::Killed(kind) => format!("kill.{}", kind.as_str()),
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
    fn seen(&mut self, limit: &Limit, seen: Seen<'_>);
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
    if let Some(kind) = desk.kills.find(asked.principal, asked.tenant, asked.server, tool) {
        return Err(Refused::Killed(kind));
    }
    let mut fits = true;
    desk.rules.meet(desk, asked, trail, |limit, item| {
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

impl<'a> Admission<'a> {
    /// Each limit that counted the call, with what it said.
    pub fn limits(&self) -> impl Iterator<Item = (&'a Limit, &Item<'a>)> {
        self.met.iter().copied().zip(&self.items)
    }

    /// The limit that is nearest to exhaustion.
    pub fn nearest(&self) -> Option<(&'a Limit, Verdict)> {
        let nearest = gate::nearest(&self.items)?;
        let (limit, item) = self.limits().find(|(_, item)| std::ptr::eq(*item, nearest))?;
        Some((limit, item.verdict))
    }

    /// What was charged.
    pub fn receipts(&self) -> impl Iterator<Item = Receipt> {
        self.items.iter().map(Item::receipt)
    }
}
