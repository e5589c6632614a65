//! Tokens that nobody vouched for: each is remembered for a moment, and questions that led to nothing have a rate. So
//! tokens that mean nothing do not amplify into requests to their issuer.
//!
//! Not here: asking, and what good tokens say (workers remember that). Pure: time is an argument.
//!
//! A token that was active lately is asked for whatever the rate says: who sends rubbish shuts nobody out that is known.

use crate::base::clock::Moment;
use crate::config::keys;
use crate::config::limits;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// An issuer and a token, as a hash: no token is kept.
type Name = [u8; 32];

fn name(issuer: &str, token: &str) -> Name {
    // An issuer is a URL: it has no NUL.
    keys::hash(format!("{issuer}\0{token}").as_bytes())
}

/// Of one issuer: the moment, in nanoseconds, at which its fruitless questions are paid for.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicU64>);

const INTERVAL_NS: u64 = limits::FRUITLESS_MS * 1_000_000;

impl Patience {
    /// Whether one more question may turn out fruitless.
    pub(super) fn is_left(&self, now: Moment) -> bool {
        let paid = self.0.load(Ordering::Relaxed);
        paid.saturating_sub(now.as_nanos()) <= (limits::FRUITLESS_BURST - 1) * INTERVAL_NS
    }

    /// One did. Only the side thread writes.
    fn charge(&self, now: Moment) {
        let paid = self.0.load(Ordering::Relaxed).max(now.as_nanos());
        self.0.store(paid.saturating_add(INTERVAL_NS), Ordering::Relaxed);
    }
}

/// What may be asked.
#[derive(Debug)]
pub(super) enum Leave {
    /// The token was not active a moment ago.
    Remembered,
    /// Too many questions to this issuer led to nothing.
    HeldBack,
    /// Where it has to wait: as long as there is patience.
    Given(Option<Patience>),
}

/// Names with the moment at which each is forgotten.
#[derive(Debug)]
struct Names<const MAX: usize>(HashMap<Name, Moment>);

impl<const MAX: usize> Names<MAX> {
    fn has(&self, name: &Name, now: Moment) -> bool {
        self.0.get(name).is_some_and(|until| now < *until)
    }

    /// True where all others had to be forgotten for it.
    fn keep(&mut self, name: Name, until: Moment, now: Moment) -> bool {
        if self.0.len() >= MAX {
            self.0.retain(|_, until| now < *until);
        }
        let full = self.0.len() >= MAX;
        if full {
            self.0.clear();
        }
        self.0.insert(name, until);
        full
    }
}

#[derive(Debug)]
pub(super) struct Fruitless {
    inactive: Names<{ limits::INACTIVE_TOKENS_MAX }>,
    active: Names<{ limits::ACTIVE_TOKENS_MAX }>,
    /// Of the issuers that were asked: no more than plans had.
    patience: HashMap<Box<str>, Patience>,
}

impl Fruitless {
    pub(super) fn new() -> Self {
        Self { inactive: Names(HashMap::new()), active: Names(HashMap::new()), patience: HashMap::new() }
    }

    /// Whether to ask this issuer for this token.
    pub(super) fn leave(&mut self, issuer: &str, token: &str, now: Moment) -> Leave {
        let name = name(issuer, token);
        if self.inactive.has(&name, now) {
            return Leave::Remembered;
        }
        if self.active.has(&name, now) {
            return Leave::Given(None);
        }
        let patience = self.patience(issuer);
        if patience.is_left(now) { Leave::Given(Some(patience)) } else { Leave::HeldBack }
    }

    /// The issuer vouches for it. True where the others had to be forgotten.
    pub(super) fn vouched(&mut self, issuer: &str, token: &str, now: Moment) -> bool {
        self.active.keep(name(issuer, token), now.plus_millis(limits::ACTIVE_TOKEN_MS), now)
    }

    /// The issuer does not vouch for it. True where the others had to be forgotten.
    pub(super) fn disowned(&mut self, issuer: &str, token: &str, now: Moment) -> bool {
        let name = name(issuer, token);
        self.active.0.remove(&name);
        self.failed(issuer, now);
        self.inactive.keep(name, now.plus_millis(limits::INACTIVE_TOKEN_MS), now)
    }

    /// The issuer did not answer: a token is not to blame for that, but asking again at once would not help.
    pub(super) fn failed(&mut self, issuer: &str, now: Moment) {
        self.patience(issuer).charge(now);
    }

    fn patience(&mut self, issuer: &str) -> Patience {
        if !self.patience.contains_key(issuer) && self.patience.len() >= limits::ISSUERS_MAX {
            // Only reloads bring more.
            self.patience.clear();
        }
        self.patience.entry(issuer.into()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    #[test]
    fn an_inactive_token_is_not_asked_for_again_at_once() {
        let mut fruitless = Fruitless::new();
        assert!(matches!(fruitless.leave("one", "t", at(0)), Leave::Given(Some(_))));
        assert!(!fruitless.disowned("one", "t", at(0)));
        assert!(matches!(fruitless.leave("one", "t", at(limits::INACTIVE_TOKEN_MS - 1)), Leave::Remembered));
        assert!(matches!(fruitless.leave("two", "t", at(1)), Leave::Given(_)), "another issuer");
        assert!(matches!(fruitless.leave("one", "T", at(1)), Leave::Given(_)), "another token");
        assert!(matches!(fruitless.leave("one", "t", at(limits::INACTIVE_TOKEN_MS)), Leave::Given(_)));
    }

    #[test]
    fn fruitless_questions_have_a_rate() {
        let mut fruitless = Fruitless::new();
        fruitless.vouched("one", "known", at(0));
        for number in 0..limits::FRUITLESS_BURST {
            let token = number.to_string();
            assert!(matches!(fruitless.leave("one", &token, at(0)), Leave::Given(Some(_))), "{number}");
            fruitless.disowned("one", &token, at(0));
        }
        let held_back =
            |fruitless: &mut Fruitless, at| matches!(fruitless.leave("one", "x", at), Leave::HeldBack);
        assert!(held_back(&mut fruitless, at(0)));
        assert!(held_back(&mut fruitless, at(limits::FRUITLESS_MS - 1)));
        assert!(matches!(fruitless.leave("one", "known", at(0)), Leave::Given(None)), "nobody is shut out");
        assert!(matches!(fruitless.leave("two", "x", at(0)), Leave::Given(_)), "another issuer");
        assert!(!held_back(&mut fruitless, at(limits::FRUITLESS_MS)));
        fruitless.failed("one", at(limits::FRUITLESS_MS));
        assert!(held_back(&mut fruitless, at(limits::FRUITLESS_MS)));
        // A token that is withdrawn is a stranger from then on.
        fruitless.disowned("one", "known", at(0));
        let later = at(limits::INACTIVE_TOKEN_MS);
        (0..limits::FRUITLESS_BURST).for_each(|_| fruitless.failed("one", later));
        assert!(matches!(fruitless.leave("one", "known", later), Leave::HeldBack));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut names = Names::<4>(HashMap::new());
        let name = |number: u8| [number; 32];
        for number in 0..4 {
            assert!(!names.keep(name(number), at(u64::from(number) + 1), at(0)));
        }
        assert!(!names.keep(name(4), at(9), at(1)), "the first one's time was over");
        assert!(names.has(&name(3), at(1)));
        assert!(names.keep(name(5), at(9), at(1)));
        assert!(!names.has(&name(3), at(1)) && names.has(&name(5), at(1)));
        assert_eq!(names.0.len(), 1);
        let mut fruitless = Fruitless::new();
        for number in 0..=limits::ISSUERS_MAX {
            fruitless.failed(&number.to_string(), at(0));
        }
        assert_eq!(fruitless.patience.len(), 1);
    }
}
