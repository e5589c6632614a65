//! When the keys of one issuer are fetched, and how long those that are known stay in force.
//!
//! Not here: fetching, and the keys themselves. Pure: time is an argument.

use crate::base::clock::Moment;
use crate::config::identity::Issuer;
use crate::config::identity::KeySource;
use crate::config::limits;
use crate::control::errand::Errand;
use crate::control::errand::Terms;

static TERMS: Terms = Terms {
    asked_ms: limits::TOKEN_KEYS_UNKNOWN_MS,
    retry_ms: limits::TOKEN_KEYS_RETRY_MS,
    retry_ms_max: limits::TOKEN_KEYS_RETRY_MS_MAX,
};

/// A worker that waits for a key.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) worker: usize,
    pub(super) ticket: u64,
    pub(super) kid: Box<str>,
}

/// What an issuer is in this process, over plans.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) source: KeySource,
    pub(super) errand: Errand<Waiting>,
    max_stale_ms: u64,
    /// From when on the keys that are in force are not any more; none: no keys are in force.
    stale: Option<Moment>,
}

impl Desk {
    /// Nothing is known, and all of it wanted.
    pub(super) fn new(issuer: &Issuer, now: Moment) -> Self {
        let errand = Errand::new(&TERMS, now);
        Self { source: issuer.keys.clone(), errand, max_stale_ms: issuer.max_stale_ms, stale: None }
    }

    /// A new plan: the keys are asked for again.
    pub(super) fn follow(&mut self, issuer: &Issuer, now: Moment) {
        self.max_stale_ms = issuer.max_stale_ms;
        self.errand.hurry(now);
    }

    /// Whether keys are in force.
    pub(super) const fn has_keys(&self) -> bool {
        self.stale.is_some()
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Moment {
        self.stale.map_or(self.errand.next(), |stale| stale.min(self.errand.next()))
    }

    /// Whether the keys in force have to go; asked once.
    pub(super) fn goes_stale(&mut self, now: Moment) -> bool {
        self.stale.take_if(|stale| *stale <= now).is_some()
    }

    /// New keys are in force. They are fresh for `max_age` seconds as the issuer says; `spread` thousandths of a tenth
    /// of the time are taken off, so that gateways do not all ask at once. Tells how many fetches had failed before.
    pub(super) fn succeeded(&mut self, max_age: Option<u64>, spread: u64, now: Moment) -> u32 {
        let began = self.errand.began().unwrap_or(now);
        self.stale = Some(began.plus_millis(self.max_stale_ms));
        let fresh_ms = match (&self.source, max_age) {
            (KeySource::File(_), _) => limits::TOKEN_KEYS_FILE_MS,
            (_, None) => limits::TOKEN_KEYS_MS_DEFAULT,
            (_, Some(seconds)) => {
                seconds.saturating_mul(1_000).clamp(limits::TOKEN_KEYS_MS_MIN, limits::TOKEN_KEYS_MS_MAX)
            }
        };
        // A fetch that fails once leaves time for another.
        let fresh_ms = fresh_ms.min((self.max_stale_ms / 2).max(limits::TOKEN_KEYS_RETRY_MS));
        self.errand.succeeded(fresh_ms - fresh_ms / 10 * spread.min(1_000) / 1_000, now)
    }

    /// Seconds since the Unix epoch at which keys go stale that are fetched now.
    pub(super) const fn stale_unix(&self, now_unix_ms: u64) -> u64 {
        now_unix_ms.saturating_add(self.max_stale_ms).div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::token_keys::tests::issuer;

    const HOUR_MS: u64 = 3_600_000;

    fn desk(keys: KeySource, max_stale_ms: u64) -> Desk {
        let mut issuer = issuer("one", keys);
        std::sync::Arc::get_mut(&mut issuer).expect("alone").max_stale_ms = max_stale_ms;
        Desk::new(&issuer, at(0))
    }

    /// Milliseconds after the start.
    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    #[test]
    fn keys_are_fetched_again_when_their_issuer_says_within_bounds() {
        let table = [
            (None, 300_000),
            (Some(600), 600_000),
            (Some(0), 60_000),
            (Some(1), 60_000),
            (Some(86_400), 1_800_000),
            (Some(u64::MAX), 1_800_000),
        ];
        for (max_age, millis) in table {
            let mut desk = desk(KeySource::Discovery, HOUR_MS);
            assert!(desk.errand.begins(at(0)));
            desk.succeeded(max_age, 0, at(7));
            assert_eq!(desk.next(), at(7 + millis), "{max_age:?}");
            for spread in [1, 500, 1_000, u64::MAX] {
                desk.succeeded(max_age, spread, at(7));
                assert!((at(7 + millis * 9 / 10)..at(7 + millis)).contains(&desk.next()), "{max_age:?}");
            }
        }
    }

    #[test]
    fn keys_that_may_be_stale_soon_are_fetched_sooner() {
        for (max_stale_ms, expected) in [(40_000, 20_000), (2_000, 1_000), (500, 500)] {
            let mut desk = desk(KeySource::Discovery, max_stale_ms);
            assert!(desk.errand.begins(at(0)));
            desk.succeeded(None, 0, at(0));
            assert_eq!(desk.next(), at(expected));
        }
    }

    #[test]
    fn a_file_is_read_again_soon() {
        let mut desk = desk(KeySource::File("keys.json".into()), HOUR_MS);
        assert!(desk.errand.begins(at(0)));
        desk.succeeded(Some(3_000), 0, at(0));
        assert_eq!(desk.next(), at(limits::TOKEN_KEYS_FILE_MS));
    }

    /// An hour after the last good fetch began, whatever failed since.
    #[test]
    fn keys_outlive_an_outage_for_their_time_and_no_longer() {
        let mut desk = desk(KeySource::Discovery, HOUR_MS);
        assert!(desk.errand.begins(at(1_000)));
        assert_eq!(desk.stale_unix(100_900), 3_701);
        desk.succeeded(None, 0, at(1_900));
        assert!(desk.errand.begins(at(301_900)));
        desk.errand.failed(at(303_900));
        for millis in (304_000..3_601_000).step_by(997) {
            assert!(!desk.goes_stale(at(millis)) && desk.has_keys(), "{millis}");
            assert!(desk.next() <= at(3_601_000), "looked at when they go");
        }
        assert!(desk.goes_stale(at(3_601_000)));
        assert!(!desk.goes_stale(at(3_601_001)) && !desk.has_keys(), "once");
    }

    #[test]
    fn a_new_plan_asks_again() {
        let mut desk = desk(KeySource::Discovery, HOUR_MS);
        assert!(desk.errand.begins(at(0)) && desk.succeeded(None, 0, at(0)) == 0);
        assert!(!desk.errand.begins(at(5)));
        let mut shorter = issuer("one", KeySource::Discovery);
        std::sync::Arc::get_mut(&mut shorter).expect("alone").max_stale_ms = 1_000;
        desk.follow(&shorter, at(5));
        assert!(desk.errand.begins(at(5)));
        desk.succeeded(None, 0, at(5));
        assert!(desk.goes_stale(at(1_005)));
    }
}
