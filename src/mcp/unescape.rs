//! Unescapes the inside of a JSON string (RFC 8259 section 7).
//!
//! Not here: checking the escapes. The text comes from a string that the skipper accepted.

use std::borrow::Cow;

/// What became of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unescaped {
    Whole,
    /// The output would pass the limit; what is there is a prefix.
    Cut,
    /// A lone surrogate: no Unicode text can express the string.
    Surrogate,
}

/// Appends the text of the raw string `raw` (between its quotes) to `out`, at most about `limit` bytes.
/// A lone surrogate is found behind the limit too.
pub(crate) fn unescape(raw: &str, out: &mut String, limit: usize) -> Unescaped {
    let end = out.len().saturating_add(limit);
    let mut cut = false;
    let mut rest = raw;
    loop {
        let plain = rest.find('\\').unwrap_or(rest.len());
        let (before, escape) = rest.split_at(plain);
        cut |= out.len() + before.len() > end;
        if !cut {
            out.push_str(before);
        }
        if escape.is_empty() {
            return if cut { Unescaped::Cut } else { Unescaped::Whole };
        }
        let Some((character, after)) = character(escape) else { return Unescaped::Surrogate };
        cut |= out.len() + character.len_utf8() > end;
        if !cut {
            out.push(character);
        }
        rest = after;
    }
}

/// The text of the raw string `raw`, borrowed where it has no escapes. None: a lone surrogate.
pub(crate) fn whole(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    (unescape(raw, &mut out, usize::MAX) == Unescaped::Whole).then_some(Cow::Owned(out))
}

/// The character of the escape at the start, and what follows it.
fn character(escape: &str) -> Option<(char, &str)> {
    let simple = match escape.as_bytes().get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{C}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(escape),
        other => char::from(*other),
    };
    Some((simple, escape.get(2..)?))
}

fn unicode(escape: &str) -> Option<(char, &str)> {
    let high = unit(escape)?;
    if let Some(character) = char::from_u32(high) {
        return Some((character, escape.get(6..)?));
    }
    let low = unit(escape.get(6..)?)?;
    if high >= 0xDC00 || !(0xDC00..0xE000).contains(&low) {
        return None;
    }
    let character = char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))?;
    Some((character, escape.get(12..)?))
}

/// The UTF-16 unit of a `\uXXXX` at the start.
fn unit(escape: &str) -> Option<u32> {
    u32::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_string() {
        let check = |raw: &str, expected: Result<&str, Unescaped>| {
            let mut out = String::new();
            let result = match unescape(raw, &mut out, 16) {
                Unescaped::Whole => Ok(out.as_str()),
                other => Err(other),
            };
            assert_eq!(result, expected, "{raw}");
        };
        check("", Ok(""));
        check("plain é", Ok("plain é"));
        check(r#"\"\\\/\b\f\n\r\t"#, Ok("\"\\/\u{8}\u{C}\n\r\t"));
        check(r"\u0065cho", Ok("echo"));
        check(r"\ud83d\uDE00!", Ok("😀!"));
        check(r"\u0000", Ok("\0"));
        check(r"\ud800", Err(Unescaped::Surrogate));
        check(r"\udc00\ud800", Err(Unescaped::Surrogate));
        check(r"\ud800\u0041", Err(Unescaped::Surrogate));
        check(r"\ud800x", Err(Unescaped::Surrogate));
        check(r"\ud800\n", Err(Unescaped::Surrogate));
        check("1234567890123456", Ok("1234567890123456"));
        check("12345678901234567", Err(Unescaped::Cut));
        check(r"123456789012345\u00e9", Err(Unescaped::Cut));
        check(r"12345678901234567\ud800", Err(Unescaped::Surrogate));
    }
}
