//! Base64url without padding (RFC 4648 section 5, RFC 7515 section 2), as tokens and keys have it.
//!
//! Not here: other alphabets. Every text of bytes has one spelling: what is padded, broken by spaces, or has spare bits
//! that are not zero is no base64url, so that two tokens that differ are never the same token.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let joined = chunk.iter().fold(0_u32, |joined, byte| joined << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let index = (joined >> (18 - 6 * at)) & 63;
            // Six bits: always in the alphabet.
            out.push(char::from(ALPHABET[index as usize]));
        }
    }
    out
}

/// The bytes that a text stands for; nothing where it is not the one that [`encode`] makes of them.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len().div_ceil(4) * 3);
    for chunk in text.chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut joined = 0;
        for letter in chunk {
            joined = joined << 6 | digit(*letter)?;
        }
        let [_, bytes @ ..] = (joined << (6 * (4 - chunk.len()))).to_be_bytes();
        // A chunk has two to four letters, which are one to three bytes.
        let (whole, spare) = bytes.split_at(chunk.len() - 1);
        if spare.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(whole);
    }
    Some(out)
}

fn digit(letter: u8) -> Option<u32> {
    Some(match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_rfc_4648() {
        let check = |bytes: &[u8], text: &str| {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes), "{text}");
        };
        check(b"", "");
        check(b"f", "Zg");
        check(b"fo", "Zm8");
        check(b"foobar", "Zm9vYmFy");
        check(&[0xfb, 0xff], "-_8");
        for text in ["Z", "Zm9vY", "Zg==", "Zh", "Zm9", "Z g", "Zg\n", "-_9", "+/8", "Zm9v.", "Zm\u{e9}"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_nothing_or_the_only_spelling(text in "[A-Za-z0-9_=+/-]{0,9}", bytes: Vec<u8>) {
            if let Some(bytes) = decode(text.as_bytes()) {
                prop_assert_eq!(encode(&bytes), text);
            }
            prop_assert_eq!(decode(encode(&bytes).as_bytes()), Some(bytes));
        }
    }
}
