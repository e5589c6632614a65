//! Which instance of a pool calls with an equal value go to: rendezvous hashing.
//!
//! Each instance has a score for each value, and the highest wins. So an instance that leaves moves its own values and
//! no others, and one that comes takes its share of each (Thaler and Ravishankar, 1998).
//!
//! Not here: what the value of a call is (`policy::routing`).

/// A call's value, and what its instances are told apart by.
#[derive(Clone, Copy, Debug)]
pub struct Handle<'a> {
    pub hash: u64,
    /// One for each instance of the server, in its order. Equal in all gateways, so that they send a value to the same
    /// instance.
    pub seeds: &'a [u64],
}

impl Handle<'_> {
    /// The one of `candidates` that the value belongs to.
    pub(super) fn best(&self, candidates: impl Iterator<Item = usize>) -> Option<usize> {
        candidates.max_by_key(|index| self.score(*index))
    }

    fn score(&self, index: usize) -> u64 {
        let seed = self.seeds.get(index).copied().unwrap_or(0);
        // SplitMix64.
        let mut bits = self.hash ^ seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feature `balance_affinity`: "removing one of four instances moves at most 30 % of the handles".
    #[test]
    fn an_instance_that_leaves_moves_its_own_values_only() {
        let seeds: Vec<u64> = (1..=4_u64).map(|seed| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let mut moved = 0;
        let mut counts = [0; 4];
        for value in 0..10_000_u64 {
            let handle = Handle { hash: value.wrapping_mul(0xD6E8_FEB8_6659_FD93), seeds: &seeds };
            let before = handle.best(0..4).unwrap();
            counts[before] += 1;
            let after = handle.best((0..4).filter(|index| *index != 2)).unwrap();
            assert!(before == after || before == 2, "{value} moved from {before} to {after}");
            moved += usize::from(before != after);
        }
        assert!(moved < 3_000, "{moved} of 10,000 moved");
        assert!(counts.iter().all(|count| (2_250..2_750).contains(count)), "{counts:?}");
    }
}
