//! Whose a name is where several servers could show it: the one rule for lists and for calls, so that what is listed under a
//! name is what a call of it reaches.
//!
//! Not here: who claims (`names`, `lists`). Two servers with one name cannot be told apart in MCP, so that such a name is
//! held back, whoever came first.

/// How much a claim weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Weight {
    /// The operator names this very thing, or calls it so: that beats every `*`, even while the server does not have it, so
    /// that a name never goes over to another server because its own is down.
    pub(super) is_exact: bool,
    /// The server is known to have it.
    pub(super) is_listed: bool,
}

/// Who has claimed a name so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim<T> {
    None,
    One(T, Weight),
    /// More than one, of this weight.
    Contested(Weight),
}

/// Whether two claims are for the same thing.
pub(super) trait Same {
    fn is_same(&self, other: &Self) -> bool;
}

impl<T: Same> Claim<T> {
    /// One more claims it. The same one may, again.
    pub(super) fn add(&mut self, who: T, weight: Weight) {
        let heaviest = match self {
            Self::None => None,
            Self::One(_, before) | Self::Contested(before) => Some(*before),
        };
        match self {
            Self::One(known, before) if known.is_same(&who) => *before = weight.max(*before),
            Self::Contested(_) if heaviest == Some(weight) => {}
            Self::One(..) if heaviest == Some(weight) => *self = Self::Contested(weight),
            _ if heaviest < Some(weight) => *self = Self::One(who, weight),
            _ => {}
        }
    }

    pub(super) const fn is_contested(&self) -> bool {
        matches!(self, Self::Contested(_))
    }

    pub(super) fn holder(&self) -> Option<&T> {
        match self {
            Self::One(who, _) => Some(who),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: [Weight; 4] = [
        Weight { is_exact: false, is_listed: false },
        Weight { is_exact: false, is_listed: true },
        Weight { is_exact: true, is_listed: false },
        Weight { is_exact: true, is_listed: true },
    ];

    impl Same for char {
        fn is_same(&self, other: &Self) -> bool {
            self == other
        }
    }

    fn of(claims: &[(char, Weight)]) -> Option<char> {
        let mut claim = Claim::None;
        claims.iter().for_each(|(who, weight)| claim.add(*who, *weight));
        claim.holder().copied()
    }

    /// Who weighs most holds it, whoever came first; two of one weight hold nothing.
    #[test]
    fn the_heaviest_claim_holds_in_any_order() {
        for first in WEIGHTS {
            for second in WEIGHTS {
                let expected = match first.cmp(&second) {
                    std::cmp::Ordering::Greater => Some('a'),
                    std::cmp::Ordering::Less => Some('b'),
                    std::cmp::Ordering::Equal => None,
                };
                assert_eq!(of(&[('a', first), ('b', second)]), expected);
                assert_eq!(of(&[('b', second), ('a', first)]), expected);
                assert_eq!(of(&[('a', first), ('b', second), ('a', first)]), expected);
            }
        }
    }

    #[test]
    fn a_contested_name_goes_to_who_weighs_more() {
        let [light, .., heavy] = WEIGHTS;
        assert_eq!(of(&[('a', light), ('b', light), ('c', heavy)]), Some('c'));
        assert_eq!(of(&[('c', heavy), ('a', light), ('b', light)]), Some('c'));
        assert_eq!(of(&[('a', light), ('b', light), ('a', heavy)]), Some('a'));
    }
}
