//! Finds the members of a JSON object without building anything: spans of the caller's bytes.
//! Not here: a validator; it accepts what is near enough to JSON and refuses what it cannot walk.

/// Walks the members of the object that `text` starts with, after white space. Calls `visit` with each key
/// (as written, without quotes) and its value's bytes; `visit` answers whether to go on. `None` if `text` is
/// no such object.
pub(crate) fn members<'a>(text: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8]) -> bool) -> Option<()> {
    let mut at = blank(text, 0);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    at = blank(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return Some(());
    }
    loop {
        let end = string(text, at)?;
        let key = text.get(at + 1..end - 1)?;
        at = blank(text, end);
        if text.get(at) != Some(&b':') {
            return None;
        }
        at = blank(text, at + 1);
        let end = value(text, at)?;
        if !visit(key, text.get(at..end)?) {
            return Some(());
        }
        at = blank(text, end);
        match text.get(at) {
            Some(b',') => at = blank(text, at + 1),
            Some(b'}') => return Some(()),
            _ => return None,
        }
    }
}

/// The value of member `name`.
pub(crate) fn member<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    members(text, |key, value| {
        if key == name.as_bytes() {
            found = Some(value);
        }
        found.is_none()
    })?;
    found
}

/// A number or a quoted number.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim_matches('"').parse().ok()
}

fn blank(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The end of the string that starts at `at`.
fn string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that starts at `at`.
fn value(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string(text, at),
        b'{' | b'[' => nested(text, at),
        _ => {
            let length = text
                .get(at..)?
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))?;
            (length > 0).then_some(at + length)
        }
    }
}

fn nested(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_u32;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, expected: Option<&str>) {
        assert_eq!(member(text.as_bytes(), name), expected.map(str::as_bytes), "{name} of {text}");
    }

    #[test]
    fn finds_members() {
        check(r#"{"id":7}"#, "id", Some("7"));
        check(r#" { "a" : [1,{"id":2}] , "id" : "x\"}y" } "#, "id", Some(r#""x\"}y""#));
        check(r#"{"a":{"id":1},"id":1.50}"#, "id", Some("1.50"));
        check(r#"{"a":"{\"id\":1}"}"#, "id", None);
        check(r#"{}"#, "id", None);
        check(r#"{"id":}"#, "id", None);
        check(r#"[1]"#, "id", None);
        check(r#"{"id":"cut"#, "id", None);
        check(r#"{"a" 1}"#, "a", None);
        check(r#"{"a":"\"#, "a", None);
    }
}
