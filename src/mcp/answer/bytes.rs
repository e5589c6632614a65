//! Looking at the bytes of JSON quickly: what a byte is, and where a string ends.
//!
//! Not here: any state (`message`).

use crate::base::words;
use memchr::memchr2;

/// What a byte outside of strings begins or ends.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// A scalar, or no JSON.
    Scalar,
    Quote,
    Open,
    Close,
    Comma,
    Colon,
    Space,
}

pub(super) static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Scalar; 256];
    classes[b'"' as usize] = Class::Quote;
    (classes[b'{' as usize], classes[b'[' as usize]) = (Class::Open, Class::Open);
    (classes[b'}' as usize], classes[b']' as usize]) = (Class::Close, Class::Close);
    classes[b',' as usize] = Class::Comma;
    classes[b':' as usize] = Class::Colon;
    (classes[b' ' as usize], classes[b'\t' as usize]) = (Class::Space, Class::Space);
    (classes[b'\n' as usize], classes[b'\r' as usize]) = (Class::Space, Class::Space);
    classes
}

/// Strings up to this length are searched by words: calling the wide search costs more than they do.
const SHORT_TEXT_BYTES: usize = 24;

/// How many bytes from `start` on come before the next quote or backslash.
#[inline]
pub(super) fn plain_bytes(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let mut searched = 0;
    while searched < SHORT_TEXT_BYTES
        && let Some(word) = rest.get(searched..).and_then(<[u8]>::first_chunk)
    {
        let word = u64::from_le_bytes(*word);
        let found = (words::equal(word, b'"') | words::equal(word, b'\\')) & words::HIGHS;
        if found != 0 {
            return searched + words::first(found);
        }
        searched += 8;
    }
    let rest = rest.get(searched..).unwrap_or_default();
    searched + memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_quote_or_backslash_is_found(
            text in proptest::collection::vec(
                prop_oneof![8 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\'), 2 => Just(b'#'), 2 => Just(b'!')],
                0..80,
            ),
            plain in 0_usize..80,
            start in 0_usize..8,
        ) {
            let text = [vec![b'a'; plain], text].concat();
            let rest = text.get(start..).unwrap_or_default();
            let expected = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
            prop_assert_eq!(plain_bytes(&text, start), expected);
        }
    }
}
