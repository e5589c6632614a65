//! Several limits of one call: all have room, or none is charged.
//!
//! Not here: which limits match a call, and what a refusal looks like.

use crate::base::clock::Moment;
use crate::policy::limits::pinned::Debts;
use crate::policy::limits::pinned::Quota;
use crate::policy::limits::pinned::Quotas;
use crate::policy::limits::table::Table;
use crate::policy::limits::terms::Terms;
use crate::policy::limits::terms::Verdict;

/// One limit of one call.
pub struct Item<'a> {
    pub limit: Limit<'a>,
    /// Keyed hash of the limit and of the values of its key.
    pub key: u64,
    /// Calls, at least 1. Not used for tokens, which are charged when they are known.
    pub cost: u64,
    /// What the limit said last. After [`admit`] with success: of this call, for the header fields of its answer.
    pub verdict: Verdict,
}

/// Where a limit is counted, and what it allows.
#[derive(Clone, Copy)]
pub enum Limit<'a> {
    Rate(&'a Table, Terms),
    Quota(&'a Quotas, Quota),
    Tokens(&'a Debts, Terms),
}

/// The time of a call by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct When {
    pub moment: Moment,
    /// Nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

/// The first limit without room, as its place among the items, and what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub index: usize,
    pub verdict: Verdict,
}

/// Takes from all limits, or from none and names the first that has no room.
pub fn admit(items: &mut [Item<'_>], when: When) -> Result<(), Refusal> {
    // A single limit cannot leave others charged.
    if items.len() > 1 {
        each(items, |item| item.check(when))?;
    }
    let taken = each(items, |item| item.take(when));
    if let Err(refusal) = taken {
        // Another call was faster since the check.
        release(items.get(..refusal.index).unwrap_or_default(), when);
    }
    taken
}

/// Gives back what [`admit`] took.
pub fn release(items: &[Item<'_>], when: When) {
    for item in items {
        match item.limit {
            Limit::Rate(table, terms) => table.give_back(item.key, &terms, item.cost, when.moment),
            Limit::Quota(quotas, quota) => quotas.give_back(item.key, &quota, item.cost),
            Limit::Tokens(..) => {}
        }
    }
}

/// The admitted item with the smallest part of its limit left; the first of equal ones.
pub fn nearest<'i, 'a>(items: &'i [Item<'a>]) -> Option<&'i Item<'a>> {
    // a / b < c / d without a division.
    items.iter().reduce(|near, item| {
        let closer =
            item.left() * u128::from(near.limit.most()) < near.left() * u128::from(item.limit.most());
        if closer { item } else { near }
    })
}

fn each(items: &mut [Item<'_>], ask: impl Fn(&Item<'_>) -> Verdict) -> Result<(), Refusal> {
    for (index, item) in items.iter_mut().enumerate() {
        item.verdict = ask(item);
        if !item.verdict.has_room() {
            return Err(Refusal { index, verdict: item.verdict });
        }
    }
    Ok(())
}

impl<'a> Item<'a> {
    pub const fn new(limit: Limit<'a>, key: u64, cost: u64) -> Self {
        Self { limit, key, cost, verdict: Verdict::Full }
    }

    fn check(&self, when: When) -> Verdict {
        match self.limit {
            Limit::Rate(table, terms) => table.check(self.key, &terms, self.cost, when.moment),
            Limit::Quota(quotas, quota) => quotas.check(self.key, &quota, self.cost, when.unix_ns),
            // What is owed comes back with time that has passed, not with a step of the wall clock.
            Limit::Tokens(debts, terms) => debts.check(self.key, &terms, when.moment.as_nanos()),
        }
    }

    fn take(&self, when: When) -> Verdict {
        match self.limit {
            Limit::Rate(table, terms) => table.take(self.key, &terms, self.cost, when.moment),
            Limit::Quota(quotas, quota) => quotas.take(self.key, &quota, self.cost, when.unix_ns),
            Limit::Tokens(..) => self.check(when),
        }
    }

    fn left(&self) -> u128 {
        match self.verdict {
            Verdict::Room { left, .. } => u128::from(left),
            Verdict::Exhausted { .. } | Verdict::Full => 0,
        }
    }
}

impl Limit<'_> {
    /// What fits at once into the untouched limit.
    pub const fn most(&self) -> u64 {
        match self {
            Self::Rate(_, terms) | Self::Tokens(_, terms) => terms.burst(),
            Self::Quota(_, quota) => quota.count,
        }
    }
}

/// What a call was charged, to be given back if it goes nowhere, or charged by what it turns out to cost.
#[derive(Clone, Copy, Debug)]
pub enum Receipt {
    Rate(u64, Terms, u64),
    Quota(u64, Quota, u64),
    Tokens(u64, Terms),
}

impl Receipt {
    /// Whether it is charged when the answer is known.
    pub const fn is_debt(&self) -> bool {
        matches!(self, Self::Tokens(..))
    }

    /// Whether both are tokens of one bucket.
    pub fn is_same_debt(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Tokens(one, _), Self::Tokens(two, _)) if one == two)
    }
}

impl Item<'_> {
    pub fn receipt(&self) -> Receipt {
        match self.limit {
            Limit::Rate(_, terms) => Receipt::Rate(self.key, terms, self.cost),
            Limit::Quota(_, quota) => Receipt::Quota(self.key, quota, self.cost),
            Limit::Tokens(_, terms) => Receipt::Tokens(self.key, terms),
        }
    }
}
