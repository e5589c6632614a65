//! Keys of buckets and cells: 64 bits from the name of a limit and the values of its key.
//!
//! Not here: which values those are (`decide`), and what is kept under a key. Hashes are keyed with a secret of the
//! process, or of its state directory, so that nobody can choose names which meet in one bucket; and they are the
//! same on every machine and in every version (SipHash-1-3), because quotas are found again by them after a restart.

use siphasher::sip::SipHasher13;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::IpAddr;

/// The secret, which outlives the process where quotas do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    pub seeds: [u64; 2],
}

impl Keys {
    pub fn text(&self, text: &str) -> u64 {
        let mut hasher = self.hasher();
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    /// Two tenants may have principals of one name.
    pub fn principal(&self, tenant: &str, principal: &str) -> u64 {
        let principal = self.text(principal);
        if tenant.is_empty() { principal } else { join(self.text(tenant), principal) }
    }

    /// Two servers may have tools of one name.
    pub fn tool(&self, server: &str, tool: &str) -> u64 {
        join(self.text(server), self.text(tool))
    }

    pub fn address(&self, address: IpAddr) -> u64 {
        let mut hasher = self.hasher();
        address.hash(&mut hasher);
        hasher.finish()
    }

    /// For values that are no text.
    pub fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.seeds[0], self.seeds[1])
    }
}

/// Puts the hash of one more part to a key. The order of parts counts.
pub fn join(key: u64, part: u64) -> u64 {
    // Both are uniform and unknown to strangers: a wide product mixes them (as in wyhash).
    let wide = u128::from(key ^ 0x9E37_79B9_7F4A_7C15) * u128::from(part ^ 0xD6E8_FEB8_6659_FD93);
    let low = wide & u128::from(u64::MAX);
    // Both halves have 64 bits.
    u64::try_from((wide >> 64) ^ low).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const KEYS: Keys = Keys { seeds: [1, 2] };

    #[test]
    fn a_key_is_the_same_in_every_version() {
        assert_eq!(KEYS.text("agent-7"), 628_375_979_031_736_118);
    }

    #[test]
    fn parts_and_their_order_make_the_key() {
        let parts: Vec<u64> = (0..300).map(|n| KEYS.text(&format!("agent-{n}"))).collect();
        let mut seen = HashSet::new();
        for a in &parts {
            for b in &parts {
                assert!(seen.insert(join(*a, *b)), "two keys are one");
            }
        }
        assert_ne!(join(1, 2), join(2, 1));
        assert_ne!(Keys { seeds: [1, 3] }.text("a"), KEYS.text("a"));
    }
}
