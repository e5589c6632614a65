//! Eight bytes looked at together, as one number: which of them is the first of a kind.
//!
//! Each test sets the high bit of every byte of its kind, and perhaps of others above the lowest of them (Hacker's Delight
//! 6-1): the lowest hit is right, also of several tests together. Not here: what the bytes mean.

/// Eight times this byte.
pub const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bits, in which the tests say what they found. Their other bits say nothing.
pub const HIGHS: u64 = each(0x80);

/// Bytes that are `byte`.
pub const fn equal(word: u64, byte: u8) -> u64 {
    let zero = word ^ each(byte);
    zero.wrapping_sub(each(1)) & !zero
}

/// Bytes below `bound`, which is at most 128.
pub const fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(each(bound)) & !word
}

/// The place of the lowest hit; 8 where there is none.
pub const fn first(found: u64) -> usize {
    (found.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_hit_is_right() {
        for (before, byte) in [(0_u8, 1_u8), (b'a', b'"'), (0xff, b' '), (b'!', b'"'), (0x80, 0x7f)] {
            for place in 0..8 {
                for behind in 0..=u8::MAX {
                    let mut bytes = [before; 8];
                    bytes[place] = byte;
                    bytes[place + 1..].fill(behind);
                    let word = u64::from_le_bytes(bytes);
                    assert_eq!(first(equal(word, byte) & HIGHS), place, "{bytes:?}");
                    let expected = bytes.iter().position(|byte| *byte < 0x20).unwrap_or(8);
                    assert_eq!(first(below(word, 0x20) & HIGHS), expected, "{bytes:?}");
                }
            }
        }
    }
}
