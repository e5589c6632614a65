//! Something that is fetched now and then, and sooner where a worker wants it: when it is due, and who waits for it.
//!
//! Not here: fetching. Pure: time is an argument. One fetch is under way at a time, however many want it.

use crate::base::clock::Moment;
use crate::config::limits;

/// How often at most, in milliseconds.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Between two fetches that workers cause.
    pub(crate) asked_ms: u64,
    /// After a fetch that failed: twice as long after each, up to the second.
    pub(crate) retry_ms: u64,
    pub(crate) retry_ms_max: u64,
}

/// Why an asker has to do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    /// Fetching again so soon would turn calls into requests.
    TooSoon,
    /// As many wait already as may.
    Full,
}

/// `W` is who waits.
#[derive(Debug)]
pub(crate) struct Errand<W> {
    terms: &'static Terms,
    due: Moment,
    /// When the fetch began that is under way.
    began: Option<Moment>,
    /// Wanted anew while that fetch was under way.
    outdated: bool,
    /// When a worker last caused a fetch.
    asked: Option<Moment>,
    /// Fetches that failed one after the other.
    failures: u32,
    waiting: Vec<W>,
}

impl<W> Errand<W> {
    pub(crate) const fn new(terms: &'static Terms, now: Moment) -> Self {
        Self { terms, due: now, began: None, outdated: false, asked: None, failures: 0, waiting: Vec::new() }
    }

    /// It is wanted anew: what is under way may be what was wanted before.
    pub(crate) const fn hurry(&mut self, now: Moment) {
        self.due = now;
        self.outdated = self.began.is_some();
    }

    /// It is wanted at that time at the latest, if it is not under way.
    pub(crate) fn hasten(&mut self, at: Moment) {
        self.due = self.due.min(at);
    }

    /// A worker wants it. Gives the asker back where it has to do without.
    pub(crate) fn ask(&mut self, asker: W, now: Moment) -> Result<(), (W, Without)> {
        let again = self.asked.map_or(Moment::ZERO, |asked| asked.plus_millis(self.terms.asked_ms));
        // Where others wait a fetch is under way, or about to be.
        if self.waiting.is_empty() && now < again {
            return Err((asker, Without::TooSoon));
        }
        if self.waiting.len() >= limits::QUESTION_RING {
            return Err((asker, Without::Full));
        }
        // A fetch that is under way anyway was not caused by a worker.
        if self.waiting.is_empty() && self.began.is_none() {
            self.asked = Some(now);
            self.due = now;
        }
        self.waiting.push(asker);
        Ok(())
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> Moment {
        if self.began.is_some() { Moment::NEVER } else { self.due }
    }

    /// Whether to begin a fetch; it is under way from now on.
    pub(crate) fn begins(&mut self, now: Moment) -> bool {
        let begins = self.next() <= now;
        if begins {
            self.began = Some(now);
        }
        begins
    }

    /// When the fetch began that is under way.
    pub(crate) const fn began(&self) -> Option<Moment> {
        self.began
    }

    pub(crate) const fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The fetch was good; the next one is due after this. Tells how many had failed before it.
    pub(crate) fn succeeded(&mut self, pause_ms: u64, now: Moment) -> u32 {
        self.ends(pause_ms, now);
        std::mem::take(&mut self.failures)
    }

    /// The fetch came to nothing. Tells how many have failed since a good one.
    pub(crate) fn failed(&mut self, now: Moment) -> u32 {
        self.failed_within(self.terms.retry_ms_max, now)
    }

    /// The same where the next pause is no longer than this.
    pub(crate) fn failed_within(&mut self, pause_ms_max: u64, now: Moment) -> u32 {
        let pause_ms = self.terms.retry_ms << self.failures.min(16);
        self.ends(pause_ms.min(pause_ms_max).min(self.terms.retry_ms_max), now);
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    fn ends(&mut self, pause_ms: u64, now: Moment) {
        self.began = None;
        let pause_ms = if std::mem::take(&mut self.outdated) { 0 } else { pause_ms };
        self.due = now.plus_millis(pause_ms);
    }

    /// Those who waited for the fetch that is over.
    pub(crate) fn take_waiting(&mut self) -> Vec<W> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TERMS: Terms = Terms { asked_ms: 30_000, retry_ms: 1_000, retry_ms_max: 30_000 };

    /// Milliseconds after the start.
    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    /// The first fetch was good, the next is due in an hour.
    fn settled() -> Errand<u64> {
        let mut errand = Errand::new(&TERMS, at(0));
        assert!(errand.begins(at(0)) && !errand.begins(at(0)));
        assert_eq!(errand.succeeded(3_600_000, at(0)), 0);
        errand
    }

    #[test]
    fn all_who_ask_share_one_fetch() {
        let mut errand = settled();
        for asker in 0..100 {
            assert_eq!(errand.ask(asker, at(1_000)), Ok(()));
            assert_eq!(errand.begins(at(1_000)), asker == 0);
        }
        errand.succeeded(0, at(1_500));
        assert_eq!(errand.take_waiting(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn askers_cause_one_fetch_in_their_time() {
        let mut fetches = Vec::new();
        let mut errand = settled();
        for millis in (1_000..100_000).step_by(100) {
            let asked = errand.ask(millis, at(millis));
            if errand.begins(at(millis)) {
                fetches.push(millis);
                assert_eq!(asked, Ok(()));
                errand.succeeded(3_600_000, at(millis + 50));
                assert_eq!(errand.take_waiting(), [millis]);
            } else {
                assert_eq!(asked, Err((millis, Without::TooSoon)), "at once");
            }
        }
        assert_eq!(fetches, [1_000, 31_000, 61_000, 91_000]);
    }

    #[test]
    fn a_failed_fetch_that_was_asked_for_is_one_too() {
        let mut errand = settled();
        assert_eq!((errand.ask(1, at(5)), errand.begins(at(5))), (Ok(()), true));
        assert_eq!(errand.failed(at(10)), 1);
        assert_eq!(errand.take_waiting(), [1]);
        for millis in [11, 29_000, 30_004] {
            assert_eq!(errand.ask(2, at(millis)), Err((2, Without::TooSoon)));
        }
        assert_eq!(errand.ask(2, at(30_005)), Ok(()));
    }

    #[test]
    fn who_asks_while_a_fetch_is_under_way_anyway_waits_for_it() {
        let mut errand = Errand::new(&TERMS, at(0));
        assert!(errand.begins(at(0)));
        assert_eq!(errand.ask(1, at(10)), Ok(()));
        assert!(!errand.begins(at(10)));
        errand.succeeded(3_600_000, at(20));
        assert_eq!(errand.take_waiting(), [1]);
        assert!(!errand.begins(at(20)), "answered");
        // It has not caused that one.
        assert_eq!((errand.ask(2, at(21)), errand.begins(at(21))), (Ok(()), true));
        errand.succeeded(3_600_000, at(22));
        assert_eq!(errand.take_waiting(), [2]);
        assert_eq!(errand.ask(3, at(23)), Err((3, Without::TooSoon)));
    }

    #[test]
    fn what_is_wanted_anew_is_fetched_once_more_after_the_fetch_that_is_under_way() {
        let mut errand = settled();
        errand.hurry(at(5));
        assert!(errand.begins(at(5)));
        errand.hurry(at(6));
        assert!(!errand.begins(at(6)));
        errand.succeeded(3_600_000, at(7));
        assert!(errand.begins(at(7)));
        errand.hurry(at(8));
        errand.failed(at(9));
        assert!(errand.begins(at(9)));
        errand.succeeded(3_600_000, at(10));
        assert_eq!(errand.next(), at(3_600_010));
    }

    #[test]
    fn those_who_wait_have_a_bound() {
        let mut errand = settled();
        for asker in 0..limits::QUESTION_RING as u64 {
            assert_eq!(errand.ask(asker, at(0)), Ok(()));
        }
        assert_eq!(errand.ask(9_999, at(0)), Err((9_999, Without::Full)));
    }

    #[test]
    fn failures_are_tried_again_ever_more_rarely_and_counted() {
        let mut errand = settled();
        let (mut now, mut pauses) = (3_600_000, Vec::new());
        for number in 0..40 {
            assert!(errand.begins(at(now)));
            assert_eq!(errand.failed(at(now)), number + 1);
            let pause = errand.next().nanos_since(at(now)) / 1_000_000;
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses[..6], [1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
        assert_eq!(pauses[39], 30_000);
        assert!(errand.begins(at(now)));
        assert_eq!((errand.succeeded(1, at(now)), errand.failed(at(now))), (40, 1));
    }
}
