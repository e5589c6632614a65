//! What one server's catalogue is in this process, over plans: when it is listed, how long it is fresh, and how long it
//! is kept while the server cannot be asked.
//!
//! Not here: listing. Pure: time is an argument.

use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::config::traffic::Health;
use crate::control::catalogue::attention;
use crate::control::errand::Errand;
use crate::control::errand::Terms;

static TERMS: Terms = Terms {
    asked_ms: limits::CATALOGUE_ASKED_MS,
    retry_ms: limits::CATALOGUE_RETRY_MS,
    retry_ms_max: limits::CATALOGUE_RETRY_MS_MAX,
};

pub(super) struct Desk {
    /// Who waits: worker and ticket.
    pub(super) errand: Errand<(usize, u64)>,
    /// The era that it has shown, until the next reload.
    pub(super) era: EraChoice,
    /// Listed now and then, whoever asks.
    is_needed: bool,
    /// When somebody last wanted to know; None: nobody has.
    wanted: Option<Moment>,
    known: Option<Known>,
    is_failing: bool,
    /// When it is listed because it has changed, and when it was so last.
    changed: Option<Moment>,
    followed: Option<Moment>,
    /// The listing under way follows a change.
    is_following: bool,
    /// How often the server has said that its tools, prompts and resources have changed; index is a `Named`.
    pub(super) told: [u64; 3],
}

/// How long the newest good listing is of use.
struct Known {
    /// From when on it is fresh.
    listed: Moment,
    fresh_until: Moment,
    /// Until when it is kept if the server cannot be asked.
    stale_until: Moment,
}

/// How long a list is fresh, in milliseconds: as long as both say, or as long as the one that says anything, within
/// bounds. `spread` thousandths of a tenth are taken off, so that gateways do not all ask at once.
pub(super) fn fresh_ms(configured: Option<u64>, ttl_ms: Option<u64>, spread: u64) -> u64 {
    let (min, max) = (limits::CATALOGUE_FRESH_MS_MIN, limits::CATALOGUE_FRESH_MS_MAX);
    let ttl_ms = ttl_ms.filter(|ttl_ms| *ttl_ms > 0);
    let fresh_ms = [configured, ttl_ms].into_iter().flatten().min().unwrap_or(min).clamp(min, max);
    fresh_ms - (fresh_ms - min) / 10 * spread.min(1_000) / 1_000
}

impl Desk {
    /// Nothing is known; it is due at once.
    pub(super) const fn new(era: EraChoice, now: Moment) -> Self {
        let errand = Errand::new(&TERMS, now);
        Self {
            errand,
            era,
            is_needed: false,
            wanted: None,
            known: None,
            is_failing: false,
            changed: None,
            followed: None,
            is_following: false,
            told: [0; 3],
        }
    }

    /// Known from before the start, and shown as old until it is listed: that is due at once, and nobody waits for it.
    pub(super) fn restored(era: EraChoice, stale_until: Moment, now: Moment) -> Self {
        let known = Known { listed: now, fresh_until: now, stale_until };
        Self { known: Some(known), is_failing: true, wanted: Some(now), ..Self::new(era, now) }
    }

    /// A new plan: all is listed again.
    pub(super) const fn follow(&mut self, era: EraChoice, is_needed: bool, now: Moment) {
        (self.era, self.is_needed) = (era, is_needed);
        self.errand.hurry(now);
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Somebody wants to hear of its changes; that is no reason to ask before it is due.
    pub(super) fn note_interest(&mut self, now: Moment) {
        self.wanted = Some(now);
        if self.is_failing {
            // It may fail for long already, and be asked ever more rarely.
            self.errand.hasten(now.plus_millis(limits::CATALOGUE_WANTED_RETRY_MS));
        }
    }

    /// Somebody wants to know what it offers. True: it is not known yet, and may be soon.
    pub(super) fn want(&mut self, now: Moment) -> bool {
        self.note_interest(now);
        let is_old = self.known.as_ref().is_some_and(|known| known.fresh_until <= now);
        if is_old && !self.is_failing {
            self.errand.hasten(now);
        }
        // Who asks has waited in vain before: nobody else is held up by a server that keeps silent.
        let is_silent =
            self.errand.began().is_some_and(|began| began.plus_millis(limits::QUESTION_MS) <= now);
        self.known.is_none() && !self.is_failing && !is_silent
    }

    /// It says that its lists have changed: it is listed again at once, but no more often than it may be.
    pub(super) fn note_change(&mut self, now: Moment) {
        let again =
            self.followed.map_or(now, |followed| followed.plus_millis(limits::LISTEN_REFRESH_MS).max(now));
        self.changed.get_or_insert(again);
    }

    /// Whether to begin a listing; it is under way from now on.
    pub(super) fn begins(&mut self, now: Moment) -> bool {
        let is_idle = self.errand.began().is_none();
        // A change that comes while it is listed may have been missed.
        let changed = is_idle && self.changed.take_if(|changed| *changed <= now).is_some();
        if changed {
            self.followed = Some(now);
            self.errand.hasten(now);
        }
        let begins = self.errand.begins(now);
        if begins {
            self.is_following = changed;
        }
        begins
    }

    /// Until when its lists are fresh, where they are for long: meanwhile its server is listened to.
    pub(super) fn attends_until(&self, now: Moment) -> Option<Moment> {
        let known = self.known.as_ref().filter(|known| !self.is_failing && now < known.fresh_until)?;
        let fresh_ms = known.fresh_until.nanos_since(known.listed) / 1_000_000;
        attention::is_worth_it(fresh_ms).then_some(known.fresh_until)
    }

    /// From when on what has just been listed is fresh. What only follows a change is so no longer than what it replaces
    /// would have been: a server that changes all the time is not listed for ever, if nobody asks.
    pub(super) fn since(&self, now: Moment) -> Moment {
        let before = self.known.as_ref().filter(|known| self.is_following && now < known.fresh_until);
        before.map_or(now, |known| known.listed)
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Moment {
        let stale = self.known.as_ref().filter(|_| self.is_failing).map(|known| known.stale_until);
        let changed = self.changed.filter(|_| self.errand.began().is_none());
        [stale, changed].into_iter().flatten().fold(self.errand.next(), Moment::min)
    }

    /// Whether what is known has to go; asked once.
    pub(super) fn goes_stale(&mut self, now: Moment) -> bool {
        self.is_failing && self.known.take_if(|known| known.stale_until <= now).is_some()
    }

    /// It was listed. Tells how many listings had failed before.
    pub(super) fn succeeded(&mut self, fresh_ms: u64, stale_ms: u64, now: Moment) -> u32 {
        let listed = self.since(now);
        let fresh_until = listed.plus_millis(fresh_ms);
        self.known = Some(Known { listed, fresh_until, stale_until: fresh_until.plus_millis(stale_ms) });
        self.is_failing = false;
        let pause_ms = if self.is_needed { limits::CATALOGUE_INTERVAL_MS } else { limits::NEVER_MS };
        self.errand.succeeded(pause_ms, now)
    }

    /// It could not be listed. Tells how many listings have failed since a good one.
    pub(super) fn failed(&mut self, health: Option<&Health>, now: Moment) -> u32 {
        self.is_failing = true;
        let wanted = self.wanted.is_some_and(|wanted| now < wanted.plus_millis(limits::CATALOGUE_WANTED_MS));
        let interval_ms = health.map_or(limits::NEVER_MS, |health| health.interval_ms);
        let pause_ms_max = if wanted {
            interval_ms.min(limits::CATALOGUE_WANTED_RETRY_MS)
        } else {
            limits::CATALOGUE_RETRY_MS_MAX
        };
        self.errand.failed_within(pause_ms_max, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    /// Listed at 0, fresh for 10 s, kept for 20 s more.
    fn listed() -> Desk {
        let mut desk = Desk::new(EraChoice::Auto, at(0));
        assert!(desk.want(at(0)) && desk.errand.begins(at(0)));
        assert!(desk.want(at(0)), "under way");
        assert_eq!(desk.succeeded(10_000, 20_000, at(0)), 0);
        desk
    }

    #[test]
    fn a_list_is_fresh_for_its_time_within_bounds() {
        for (configured, ttl_ms, expected) in [
            (None, None, 1_000),
            (None, Some(0), 1_000),
            (None, Some(5), 1_000),
            (None, Some(60_000), 60_000),
            (Some(5_000), None, 5_000),
            (Some(5_000), Some(0), 5_000),
            (Some(5_000), Some(60_000), 5_000),
            (Some(60_000), Some(5_000), 5_000),
            (Some(0), None, 1_000),
            (None, Some(u64::MAX), limits::CATALOGUE_FRESH_MS_MAX),
        ] {
            assert_eq!(fresh_ms(configured, ttl_ms, 0), expected, "{configured:?} {ttl_ms:?}");
        }
        assert_eq!(fresh_ms(None, Some(61_000), 1_000), 55_000);
        assert_eq!(fresh_ms(None, None, 1_000), 1_000);
    }

    #[test]
    fn a_fresh_list_is_not_asked_for_and_an_old_one_once_behind_its_asker() {
        let mut desk = listed();
        assert_eq!(desk.next(), Moment::NEVER, "nobody asks: no polling");
        for millis in (0..10_000).step_by(100) {
            assert!(!desk.want(at(millis)) && !desk.errand.begins(at(millis)), "{millis}");
        }
        let begun: Vec<bool> = (0..1_000)
            .map(|_| {
                assert!(!desk.want(at(10_000)), "served as it is");
                desk.errand.begins(at(10_000))
            })
            .collect();
        assert_eq!((begun[0], begun.iter().filter(|begins| **begins).count()), (true, 1));
    }

    #[test]
    fn a_silent_server_is_waited_for_once() {
        let mut desk = Desk::new(EraChoice::Auto, at(0));
        assert!(desk.want(at(0)) && desk.begins(at(0)));
        assert!(desk.want(at(limits::QUESTION_MS - 1)), "it may still answer in time");
        assert!(!desk.want(at(limits::QUESTION_MS)) && !desk.want(at(limits::CATALOGUE_MS)));
    }

    #[test]
    fn a_failing_server_is_asked_again_soon_while_somebody_wants_it() {
        let mut desk = listed();
        desk.want(at(10_000));
        let (mut now, mut pauses) = (at(10_000), Vec::new());
        for _ in 0..100 {
            assert!(desk.errand.begins(now));
            desk.failed(None, now);
            pauses.push(desk.errand.next().nanos_since(now) / 1_000_000);
            now = desk.errand.next();
        }
        assert_eq!(pauses[..5], [250, 500, 1_000, 2_000, 2_000]);
        assert_eq!(pauses.last(), Some(&30_000), "nobody has asked for long");
        assert!(!desk.want(now), "nobody waits for it");
        assert!(desk.next() <= now.plus_millis(2_000));
        let health = Health { interval_ms: 300, timeout_ms: 100, unhealthy: 1, healthy: 1 };
        desk.failed(Some(&health), now);
        assert_eq!(desk.errand.next(), now.plus_millis(300));
    }

    #[test]
    fn what_is_known_of_a_failing_server_goes_in_its_time() {
        let mut desk = listed();
        assert!(!desk.goes_stale(at(999_999)), "it does not fail");
        desk.want(at(29_000));
        assert!(desk.errand.begins(at(29_000)));
        desk.failed(None, at(29_000));
        assert!(!desk.goes_stale(at(29_999)));
        assert!(desk.goes_stale(at(30_000)) && !desk.goes_stale(at(30_001)), "once");
    }

    #[test]
    fn changes_cause_ten_listings_a_second_at_most_and_none_is_missed() {
        let mut desk = listed();
        let mut begun = Vec::new();
        for millis in 0..1_000 {
            desk.note_change(at(millis));
            if desk.begins(at(millis)) {
                begun.push(millis);
                desk.note_change(at(millis));
                assert!(!desk.begins(at(millis)), "under way");
                desk.succeeded(1_000, 0, at(millis));
            }
        }
        assert_eq!(begun, (0..1_000).step_by(100).collect::<Vec<_>>());
        assert_eq!(desk.next(), at(1_000), "the last one is followed");
        assert!(desk.begins(at(1_000)));
        desk.succeeded(1_000, 0, at(1_000));
        assert_eq!(desk.next(), Moment::NEVER);
    }

    /// A list that is fresh for long is attended to as long, however often it changes meanwhile.
    #[test]
    fn changes_do_not_prolong_what_nobody_asks_for() {
        let mut desk = listed();
        for millis in (1_000..10_000).step_by(1_000) {
            desk.note_change(at(millis));
            assert!(desk.begins(at(millis)));
            assert_eq!(desk.since(at(millis)), at(0));
            desk.succeeded(10_000, 20_000, at(millis));
            assert_eq!(desk.attends_until(at(millis)), Some(at(10_000)));
        }
        assert_eq!(desk.attends_until(at(10_000)), None);
        assert!(!desk.want(at(10_000)) && desk.begins(at(10_000)));
        assert_eq!(desk.since(at(10_000)), at(10_000));
        desk.succeeded(10_000, 20_000, at(10_000));
        assert_eq!(desk.attends_until(at(19_999)), Some(at(20_000)));
        // Nor is a server listened to that fails, or whose list is asked for again before long.
        desk.failed(None, at(11_000));
        assert_eq!(desk.attends_until(at(11_000)), None);
        desk.succeeded(1_000, 0, at(12_000));
        assert_eq!(desk.attends_until(at(12_000)), None);
    }

    #[test]
    fn what_was_known_before_the_start_is_listed_at_once_and_waited_for_by_nobody() {
        let mut desk = Desk::restored(EraChoice::Auto, at(5_000), at(10));
        desk.follow(EraChoice::Auto, false, at(10));
        assert!(desk.is_wanted() && !desk.want(at(10)), "shown as it is");
        assert!(desk.begins(at(10)));
        desk.failed(None, at(20));
        assert_eq!(desk.errand.next(), at(20 + limits::CATALOGUE_RETRY_MS));
        assert!(!desk.goes_stale(at(4_999)) && desk.goes_stale(at(5_000)), "it is not down for ever");
    }

    #[test]
    fn what_rules_need_is_listed_now_and_then() {
        let mut desk = Desk::new(EraChoice::Auto, at(0));
        desk.follow(EraChoice::Auto, true, at(0));
        assert!(desk.errand.begins(at(0)) && !desk.is_wanted());
        desk.succeeded(1_000, 0, at(0));
        assert_eq!(desk.next(), at(limits::CATALOGUE_INTERVAL_MS));
    }
}
