//! Counters with labels that one thread writes: one bounded table of label sets for each family.
//!
//! Not here: names and help (`words`), and calls by outcome, which have an index of their own (`tally`).

use crate::base::counter::Counter;
use ahash::RandomState;
use std::sync::OnceLock;

/// What is counted; `words` says it in words and names the labels in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `rule`
    Denied,
    /// `limit`
    Limited,
    /// None
    LimitTableFull,
    /// `rule`
    CelErrors,
    /// `server`, `instance`
    UpstreamRequests,
    /// `server`, `principal`
    UpstreamLimited,
    /// `server`, `cause`
    Unavailable,
    /// `server`, `fault`
    InjectedFaults,
    /// `server`, `outcome`
    Retries,
    /// `server`, `tool`, `principal`, `direction`
    Tokens,
    /// `server`; nanoseconds
    Wasted,
    /// `issuer`, `outcome`
    JwksRefreshes,
    /// `issuer`, `outcome`
    Introspections,
    /// `rule`, `outcome`
    ExternalDecisions,
    /// `rule`, `outcome`
    RouteHooks,
    /// `outcome`
    TlsHandshakes,
    /// `layer`
    CacheHits,
    /// `outcome`
    OwnCatalogues,
    /// `server`, `outcome`
    SessionMessages,
}

impl Family {
    pub const ALL: [Self; Self::SessionMessages as usize + 1] = [
        Self::Denied,
        Self::Limited,
        Self::LimitTableFull,
        Self::CelErrors,
        Self::UpstreamRequests,
        Self::UpstreamLimited,
        Self::Unavailable,
        Self::InjectedFaults,
        Self::Retries,
        Self::Tokens,
        Self::Wasted,
        Self::JwksRefreshes,
        Self::Introspections,
        Self::ExternalDecisions,
        Self::RouteHooks,
        Self::TlsHandshakes,
        Self::CacheHits,
        Self::OwnCatalogues,
        Self::SessionMessages,
    ];
}

/// All families of one writer.
#[derive(Debug)]
pub struct Families([Table; Family::ALL.len()]);

impl Families {
    /// `series_max`: most label sets of one family (`limits::SERIES_MAX`).
    pub fn new(series_max: usize) -> Self {
        Self(std::array::from_fn(|_| Table::new(series_max)))
    }

    /// Adds to a counter. `labels` are in the order in which [`Family`] names them. Only the one writer may call this.
    pub fn count<const N: usize>(&self, family: Family, labels: &[&str; N], n: u64) {
        self.table(family).count(labels, n);
    }

    pub(crate) fn table(&self, family: Family) -> &Table {
        // In bounds: there is one for each.
        &self.0[family as usize]
    }
}

/// A label set that was seen, and its count.
#[derive(Debug, Default)]
struct Series {
    labels: OnceLock<Box<[Box<str>]>>,
    count: Counter,
}

/// Where a label set is counted; none: with the `other`.
#[derive(Clone, Copy, Debug)]
pub struct Place(Option<usize>);

/// Label sets of one family. Open addressing: a set keeps the place that it took, so that a reader
/// needs no index and no lock.
#[derive(Debug)]
pub(crate) struct Table {
    hasher: RandomState,
    series_max: u64,
    /// Made at the first count: most families of most gateways stay empty.
    series: OnceLock<Box<[Series]>>,
    used: Counter,
    /// What found no place.
    other: Counter,
}

impl Table {
    pub(crate) fn new(series_max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            series_max: series_max as u64,
            series: OnceLock::new(),
            used: Counter::new(),
            other: Counter::new(),
        }
    }

    /// One hash and one comparison once the labels have a place.
    pub(crate) fn count<const N: usize>(&self, labels: &[&str; N], n: u64) {
        match self.place(labels) {
            Some(series) => series.count.add(n),
            None => self.other.add(n),
        }
    }

    /// Where labels are counted, for [`Table::count_at`]: for those that are counted at every call.
    pub(crate) fn place_of<const N: usize>(&self, labels: &[&str; N]) -> Place {
        let series = self.place(labels).map(std::ptr::from_ref);
        let all = self.series.get().map_or(&[][..], |series| series);
        Place(all.iter().position(|one| Some(std::ptr::from_ref(one)) == series))
    }

    /// Only the owning worker may call this, with a place of this very table.
    pub(crate) fn count_at(&self, place: Place, n: u64) {
        match place.0.and_then(|place| self.series.get()?.get(place)) {
            Some(series) => series.count.add(n),
            None => self.other.add(n),
        }
    }

    fn place<const N: usize>(&self, labels: &[&str; N]) -> Option<&Series> {
        // Twice the places, so that a search is short and always meets a free one.
        let places = 2 * usize::try_from(self.series_max).unwrap_or(0).next_power_of_two();
        let series =
            self.series.get_or_init(|| std::iter::repeat_with(Series::default).take(places).collect());
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let first = self.hasher.hash_one(labels) as usize;
        for step in 0..places {
            let series = series.get(first.wrapping_add(step) & (places - 1))?;
            match series.labels.get() {
                Some(taken) if taken.iter().map(|label| &**label).eq(labels.iter().copied()) => {
                    return Some(series);
                }
                Some(_) => {}
                None if self.used.read() >= self.series_max => return None,
                None => {
                    // One writer: nobody can have set it meanwhile.
                    let _ = series.labels.set(labels.iter().map(|label| Box::from(*label)).collect());
                    self.used.add(1);
                    return Some(series);
                }
            }
        }
        None
    }

    /// Every label set that was seen, with its count.
    pub(crate) fn sets(&self) -> impl Iterator<Item = (&[Box<str>], u64)> {
        let series = self.series.get().map_or(&[][..], |series| series);
        series.iter().filter_map(|series| Some((&**series.labels.get()?, series.count.read())))
    }

    /// What was counted for sets that found no place.
    pub(crate) fn other(&self) -> u64 {
        self.other.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn sets(table: &Table) -> BTreeMap<Vec<&str>, u64> {
        table.sets().map(|(labels, count)| (labels.iter().map(|label| &**label).collect(), count)).collect()
    }

    #[test]
    fn families_stand_at_their_place() {
        for (place, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family as usize, place);
        }
    }

    #[test]
    fn equal_labels_share_a_count_and_labels_do_not_run_together() {
        let table = Table::new(8);
        for (labels, n) in [(["a", "bc"], 1), (["ab", "c"], 10), (["a", "bc"], 100), (["", "abc"], 1_000)] {
            table.count(&labels, n);
        }
        let expected =
            BTreeMap::from([(vec!["", "abc"], 1_000), (vec!["a", "bc"], 101), (vec!["ab", "c"], 10)]);
        assert_eq!(sets(&table), expected);
        table.count(&[], 0);
        assert_eq!(sets(&table).len(), 4, "no labels is a label set too");
    }

    #[test]
    fn nothing_is_lost_at_the_bound_and_known_sets_go_on() {
        let table = Table::new(100);
        let names: Vec<String> = (0..250).map(|number| format!("agent-{number}")).collect();
        for round in 1..=3 {
            for name in &names {
                table.count(&[name.as_str()], 1);
            }
            let found = sets(&table);
            assert_eq!(found.len(), 100);
            assert!(names[..100].iter().all(|name| found.get(&vec![name.as_str()]) == Some(&round)));
            assert_eq!(table.other(), 150 * round);
        }
    }
}
