//! `Possible`: what a condition may come to where not all of the call is known.
//!
//! Not here: evaluating (`evaluate`), and what follows for a rule (`policy::access`).
//!
//! One of three outcomes is what it comes to with all of the call; the set of those that it still may come to is what
//! is computed without. A set is never too small: what it leaves out cannot happen.

use crate::config::expression::Variable;

/// A set of `true`, `false` and an evaluation error; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Possible(u8);

impl Possible {
    pub const TRUE: Self = Self(1);
    pub const FALSE: Self = Self(2);
    pub const ERROR: Self = Self(4);
    pub const ANY: Self = Self(7);

    pub const fn of(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any outcome of `other` is one of these.
    pub const fn may_be(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What `!` makes of it.
    pub(super) fn negated(self) -> Self {
        let kept = self.0 & Self::ERROR.0;
        let yes = if self.may_be(Self::FALSE) { Self::TRUE.0 } else { 0 };
        let no = if self.may_be(Self::TRUE) { Self::FALSE.0 } else { 0 };
        Self(kept | yes | no)
    }

    /// What `&&` (`false` decides it) or `||` (`true` does) makes of both: a side that decides is enough, whatever the
    /// other does; else one that fails makes both fail.
    pub(super) fn joined(self, other: Self, deciding: bool) -> Self {
        let (decided, passes) = (Self::of(deciding), Self::of(!deciding));
        let both_pass = self.may_be(passes) && other.may_be(passes);
        let fails =
            |one: Self, beside: Self| one.may_be(Self::ERROR) && beside.may_be(passes.or(Self::ERROR));
        let mut joined = (self.0 | other.0) & decided.0;
        if both_pass {
            joined |= passes.0;
        }
        if fails(self, other) || fails(other, self) {
            joined |= Self::ERROR.0;
        }
        Self(joined)
    }
}

/// How much of a call is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// All of it.
    Call,
    /// All but the message: what a list is made from.
    Target,
    /// Who calls, and nothing else.
    Caller,
}

impl Known {
    pub(super) const fn has(self, variable: Variable) -> bool {
        use Variable::{Args, Body, Jwt, Meta, Principal, Roles, Tenant};
        match self {
            Self::Call => true,
            Self::Target => !matches!(variable, Args | Body | Meta),
            Self::Caller => matches!(variable, Jwt | Principal | Roles | Tenant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Possible; 3] = [Possible::TRUE, Possible::FALSE, Possible::ERROR];

    /// What CEL says of two operands that are known.
    fn cel(left: Possible, right: Possible, deciding: bool) -> Possible {
        let decided = Possible::of(deciding);
        if left == decided || right == decided {
            decided
        } else if left == Possible::ERROR || right == Possible::ERROR {
            Possible::ERROR
        } else {
            Possible::of(!deciding)
        }
    }

    /// Every pair of sets: exactly what the pairs of their members come to.
    #[test]
    fn sets_are_joined_member_by_member() {
        let members = |set: Possible| ALL.into_iter().filter(move |one| one.may_be(set));
        let union = |found: Vec<Possible>| found.into_iter().reduce(Possible::or).unwrap();
        for (left, right) in
            (1..8).flat_map(|left| (1..8).map(move |right| (Possible(left), Possible(right))))
        {
            for deciding in [false, true] {
                let pairs = members(left).flat_map(|one| members(right).map(move |other| (one, other)));
                let expected = union(pairs.map(|(one, other)| cel(one, other, deciding)).collect());
                assert_eq!(left.joined(right, deciding), expected, "{left:?} {right:?} {deciding}");
            }
            assert_eq!(left.negated().negated(), left);
        }
        assert_eq!(Possible::TRUE.or(Possible::ERROR).negated(), Possible::FALSE.or(Possible::ERROR));
    }
}
