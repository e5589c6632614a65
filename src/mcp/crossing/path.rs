//! Finding one value in a message by the keys that lead to it.
//!
//! Not here: whether a message is what it should be. The first value of a key counts, keys may be written with escapes.

use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Cursor;
use crate::mcp::unescape;
use std::borrow::Cow;
use std::ops::Range;

/// Why a walk ends.
enum End {
    Found(Range<usize>),
    Broken,
}

impl From<Broken> for End {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

/// Where the value behind these keys stands; what comes behind it is not looked at. None: there is none, or the message is
/// no JSON up to there.
pub fn find(message: &str, path: &[&str]) -> Option<Range<usize>> {
    let mut cursor = Cursor::new(message.as_bytes(), 0);
    cursor.space();
    match down(&mut cursor, message, path, 0) {
        Err(End::Found(at)) => Some(at),
        Ok(()) | Err(End::Broken) => None,
    }
}

/// The text behind these keys.
pub fn text<'m>(message: &'m str, path: &[&str]) -> Option<Cow<'m, str>> {
    let raw = message.get(find(message, path)?)?;
    unescape::whole(raw.strip_prefix('"')?.strip_suffix('"')?)
}

fn down(cursor: &mut Cursor<'_>, message: &str, path: &[&str], depth: usize) -> Result<(), End> {
    let Some((wanted, below)) = path.split_first() else {
        let slot = cursor.value(depth)?;
        return Err(End::Found(slot.start..slot.end));
    };
    if cursor.peek() != Some(b'{') {
        return Ok(cursor.value(depth).map(drop)?);
    }
    cursor.members(|cursor, key| {
        let key = message.get(key).and_then(unescape::whole);
        if key.as_deref() == Some(*wanted) {
            down(cursor, message, below, depth + 1)
        } else {
            Ok(cursor.value(depth + 1).map(drop)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_keys() {
        let message = r#" {"a":[{"b":1}],"x":{"\u0062":{"c":"d\u0065"},"b":2},"a":{"b":"late"}}"#;
        let at = |path: &[&str]| find(message, path).and_then(|at| message.get(at));
        assert_eq!(at(&["x", "b", "c"]), Some(r#""d\u0065""#));
        assert_eq!(at(&["x"]), Some(r#"{"\u0062":{"c":"d\u0065"},"b":2}"#));
        assert_eq!(at(&["a", "b"]), Some(r#""late""#));
        assert_eq!(at(&["y"]), None);
        assert_eq!(at(&["x", "b", "c", "d"]), None);
        assert_eq!(text(message, &["x", "b", "c"]).as_deref(), Some("de"));
        assert_eq!(text(message, &["x", "b"]), None);
        assert_eq!(find("{\"a\":", &["a"]), None);
        assert_eq!(find("", &["a"]), None);
    }
}
