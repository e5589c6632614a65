//! One header against one value of the body (MCP 2026-07-28, transports, "Standard Request Headers").
//!
//! Not here: which header must equal what (`rules`). Header values are compared as they came: no percent,
//! no RFC 2047, no case folding; only the one specified Base64 form of a name.

use crate::mcp::envelope::HeaderValue;
use std::borrow::Cow;

const SENTINEL_START: &[u8] = b"=?base64?";
const SENTINEL_END: &[u8] = b"?=";

/// Without the optional whitespace around a field value (RFC 9110 section 5.5).
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether the header came once and is exactly this text.
pub(crate) fn says(header: HeaderValue<'_>, text: &str) -> bool {
    matches!(header, HeaderValue::One(value) if trim(value) == text.as_bytes() && value.is_ascii())
}

/// Whether a value of `Mcp-Name` names `text`, plain or in the Base64 form. A plain value is visible
/// ASCII and spaces; anything else must come encoded.
pub(crate) fn names(value: &[u8], text: &str) -> bool {
    let value = trim(value);
    // A fold without an early end looks at many bytes at once.
    let visible = || value.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~' | b'\t'));
    if value.first() != SENTINEL_START.first() {
        return value == text.as_bytes() && visible();
    }
    let inner = value.strip_prefix(SENTINEL_START).and_then(|rest| rest.strip_suffix(SENTINEL_END));
    match inner {
        Some(encoded) => decodes_to(encoded, text.as_bytes()),
        None => value == text.as_bytes() && visible(),
    }
}

/// The value of a field that says `text`: plain where it can be, else in the Base64 form (MCP 2026-07-28, transports,
/// "Value Encoding"). Plain is what comes through HTTP as it is and looks like no Base64 form.
pub fn encode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    let is_visible = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let is_like_encoded = bytes.starts_with(SENTINEL_START) && bytes.ends_with(SENTINEL_END);
    if is_visible && !is_like_encoded && trim(bytes) == bytes {
        return Cow::Borrowed(bytes);
    }
    let encoded = bytes.len().div_ceil(3) * 4;
    let mut out = Vec::with_capacity(SENTINEL_START.len() + encoded + SENTINEL_END.len());
    out.extend_from_slice(SENTINEL_START);
    bytes.chunks(3).for_each(|plain| out.extend_from_slice(&group(plain)));
    out.extend_from_slice(SENTINEL_END);
    Cow::Owned(out)
}

/// Whether `encoded` is the canonical Base64 of `plain` (RFC 4648 section 4: standard alphabet, padded,
/// spare bits zero). Encoding the known text needs no room and has one spelling: what is malformed or is
/// no UTF-8 cannot be equal.
fn decodes_to(encoded: &[u8], plain: &[u8]) -> bool {
    if encoded.len() != plain.len().div_ceil(3) * 4 {
        return false;
    }
    plain.chunks(3).zip(encoded.chunks(4)).all(|(plain, encoded)| group(plain) == encoded)
}

/// The four characters of up to three bytes.
fn group(plain: &[u8]) -> [u8; 4] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |index: usize| plain.get(index).map_or(0, |byte| u32::from(*byte));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    let digit = |place: u32| ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
    let or_padding = |place: u32, needed: usize| if plain.len() >= needed { digit(place) } else { b'=' };
    [digit(0), digit(1), or_padding(2, 2), or_padding(3, 3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_spelling() {
        let check = |encoded: &str, plain: &[u8], expected: bool| {
            assert_eq!(decodes_to(encoded.as_bytes(), plain), expected, "{encoded}");
        };
        // RFC 4648 section 10
        check("", b"", true);
        check("Zg==", b"f", true);
        check("Zm8=", b"fo", true);
        check("Zm9v", b"foo", true);
        check("Zm9vYg==", b"foob", true);
        check("Zm9vYmE=", b"fooba", true);
        check("Zm9vYmFy", b"foobar", true);
        check("++//", &[0xFB, 0xEF, 0xFF], true);
        check("--__", &[0xFB, 0xEF, 0xFF], false);
        check("Zg", b"f", false);
        check("Zg=", b"f", false);
        check("Zh==", b"f", false);
        check("Zg==\n", b"f", false);
        check("Zm8=", b"fo\0", false);
        check("!!!!", b"foo", false);
    }

    #[test]
    fn names_agree() {
        let check = |value: &str, text: &str, expected: bool| {
            assert_eq!(names(value.as_bytes(), text), expected, "{value}");
        };
        check("echo", "echo", true);
        check(" \techo\t ", "echo", true);
        check("Echo", "echo", false);
        check("echo, echo", "echo", false);
        check("ec%68o", "echo", false);
        check("=?base64?ZWNobw==?=", "echo", true);
        check("=?base64?ZWNobw==?= ", "echo", true);
        check("=?base64?ZWNob?=", "echo", false);
        check("=?BASE64?ZWNobw==?=", "echo", false);
        check("=?base64?ZWNobwA=?=", "echo", false);
        check("=?base64?ZWNobwA=?=", "echo\0", true);
        check("=?base64?w6k=?=", "é", true);
        check("é", "é", false);
        check("=?base64??=", "", true);
        check("", "", true);
        check("", "echo", false);
        // Too short to be both ends of the sentinel: a literal.
        check("=?base64?=", "=?base64?=", true);
        check("=?base64?x?=", "=?base64?x?=", false);
    }

    #[test]
    fn what_cannot_be_plain_is_encoded() {
        for (text, value) in [
            ("echo", "echo"),
            ("", ""),
            ("two words", "two words"),
            (" echo", "=?base64?IGVjaG8=?="),
            ("echo ", "=?base64?ZWNobyA=?="),
            ("\t", "=?base64?CQ==?="),
            ("a\r\nb", "=?base64?YQ0KYg==?="),
            ("\u{e9}", "=?base64?w6k=?="),
            ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
            ("=?base64?x", "=?base64?x"),
            ("=?BASE64?eA==?=", "=?BASE64?eA==?="),
        ] {
            assert_eq!(encode(text), value.as_bytes(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_names_what_it_was(text in "(=\\?base64\\?)?\\PC{0,9}[ \t\r\n\u{0}]?(\\?=)?") {
            let value = encode(&text);
            proptest::prop_assert!(names(&value, &text));
            proptest::prop_assert!(value.iter().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }
}
