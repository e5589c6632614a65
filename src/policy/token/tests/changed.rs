//! A good token, changed anywhere, is no good token.

use super::*;
use proptest::prelude::*;

fn goods() -> Vec<String> {
    [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "p256"), ("EdDSA", "ed")]
        .map(|(alg, kid)| token(&json!({"alg": alg, "kid": kid, "typ": "JWT"}), &good_claims()))
        .to_vec()
}

static GOODS: LazyLock<Vec<String>> = LazyLock::new(goods);
static WORLD: LazyLock<World> = LazyLock::new(World::usual);

fn refused(token: &[u8]) -> bool {
    verify(&WORLD.issuers, &WORLD.keys, token, NOW).is_err()
}

/// Every bit of the text, every cut, and every part in the place of every other.
#[test]
fn no_flipped_bit_no_cut_and_no_swap_is_accepted() {
    for good in &*GOODS {
        assert!(!refused(good.as_bytes()));
        let mut changed = good.clone().into_bytes();
        for at in 0..changed.len() {
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                assert!(refused(&changed), "bit {bit} of byte {at}");
                changed[at] ^= 1 << bit;
            }
            assert!(refused(&changed[..at]) && refused(&changed[at + 1..]), "cut at {at}");
        }
    }
    let parts: Vec<Vec<&str>> = GOODS.iter().map(|good| good.split('.').collect()).collect();
    for header in &parts {
        for claims in &parts {
            for signature in &parts {
                for (a, b, c) in [(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0)] {
                    let changed = [header[a], claims[b], signature[c]].join(".");
                    assert!(GOODS.contains(&changed) || refused(changed.as_bytes()), "{changed}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn random_changes_are_refused(
        which in 0..4_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let good = GOODS[which].as_bytes();
        let mut changed = good.to_vec();
        for (at, byte, how) in changes {
            let at = at.index(changed.len());
            match how {
                0 => changed[at] = byte,
                1 => changed.insert(at, byte),
                2 => changed[at] = b"AZaz09-_.="[usize::from(byte) % 10],
_ => changed.swap(at, usize::from(byte) % good.len()),
            }
        }
        prop_assert!(changed == good || refused(&changed));
    }

    #[test]
    fn random_texts_are_refused(text in "[A-Za-z0-9_.-]{0,200}", bytes: Vec<u8>) {
        prop_assert!(refused(text.as_bytes()) && refused(&bytes));
    }
}
