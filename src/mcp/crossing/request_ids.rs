//! Ids of servers' requests where several servers ask one client: `NUMBER~n~7` for 7, `NUMBER~s~a` for `"a"`, NUMBER
//! being the server's.
//!
//! Not here: ids of clients' requests, which no two share a channel with.

use crate::mcp::crossing::fields;
use crate::mcp::grammar::Cursor;
use crate::mcp::grammar::Shape;
use crate::mcp::listing::Unfit;
use crate::mcp::refusal::string;
use crate::mcp::sealed;
use crate::mcp::splice::Splice;

/// The number of an instance in the ids of its requests to older clients: the same after a reload, and on every gateway.
pub fn asker(server: &str, instance: &str) -> u32 {
    numbered(sealed::name_of(server), sealed::instance_name(instance))
}

/// The same of names that are sealed already.
pub fn numbered(server: u64, instance: u32) -> u32 {
    u32::try_from(server >> 32).unwrap_or_default() ^ instance
}

/// The id as the client gets it; both are raw JSON.
pub fn wrap(server: u32, raw: &str) -> String {
    match raw.strip_prefix('"') {
        Some(text) => format!("\"{server}~s~{text}"),
        None => format!("\"{server}~n~{raw}\""),
    }
}

/// Whose request a client answers. `out` has got the answer under the server's own id. None: the id is not one that
/// [`wrap`] makes.
///
/// # Errors
/// It is no message of which that can be told.
pub fn unwrap(message: &[u8], out: &mut Vec<u8>) -> Result<Option<u32>, Unfit> {
    let (text, mut cursor) = fields::open(message)?;
    let [id] = fields::fields(text, &mut cursor, &["id"], |cursor, _| Ok(cursor.value(1)?))?;
    fields::close(text, cursor)?;
    let Some(wrapped) = fields::string(text, id) else { return Ok(None) };
    let Some((server, raw)) = original(&wrapped) else { return Ok(None) };
    let mut splice = Splice::new(message, out);
    splice.replace(id.start, id.end, &raw);
    splice.finish();
    Ok(Some(server))
}

fn original(wrapped: &str) -> Option<(u32, Vec<u8>)> {
    let (server, rest) = wrapped.split_once('~')?;
    let (kind, id) = rest.split_once('~')?;
    if server.len() > 1 && server.starts_with('0') || !server.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut raw = Vec::with_capacity(id.len() + 2);
    match kind {
        "s" => string(&mut raw, id),
        "n" => {
            let number = Cursor::new(id.as_bytes(), 0).value(0).ok()?;
            let (Shape::Integer | Shape::Fraction) = number.shape else { return None };
            if number.end < id.len() {
                return None;
            }
            raw.extend_from_slice(id.as_bytes());
        }
        _ => return None,
    }
    Some((server.parse().ok()?, raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_with_their_type() {
        for (raw, wrapped) in [
            ("7", r#""3~n~7""#),
            ("-1.50e2", r#""3~n~-1.50e2""#),
            (r#""7""#, r#""3~s~7""#),
            (r#""a~n~\"\\é""#, r#""3~s~a~n~\"\\é""#),
            (r#""""#, r#""3~s~""#),
        ] {
            assert_eq!(wrap(3, raw), wrapped);
            let mut out = Vec::new();
            let message = |id| format!(r#" {{"result":{{"id":"3~n~9"}}, "id" : {id}}}"#);
            assert_eq!(unwrap(message(wrapped).as_bytes(), &mut out), Ok(Some(3)));
            assert_eq!(String::from_utf8(out).unwrap(), message(raw));
        }
        for id in ["7", r#""a""#, r#""3~x~1""#, r#""3~n~""#, r#""3~n~1 ""#, r#""3~n~\"a\"""#, r#""+3~n~1""#] {
            check(id, Ok(None));
        }
        for id in [r#""03~n~1""#, r#""~n~1""#, r#""4294967296~n~1""#, r#""3~n~[]""#, "null"] {
            check(id, Ok(None));
        }
        check("1,\"ID\":2", Err(Unfit::Broken));
        check("1,\"id\":\"3~n~1\"", Err(Unfit::Broken));
        check("\"3\\u007en~1\"", Ok(Some(3)));
        assert_eq!(unwrap(b"[]", &mut Vec::new()), Err(Unfit::Broken));
    }

    #[track_caller]
    fn check(id: &str, expected: Result<Option<u32>, Unfit>) {
        let message = format!(r#"{{"id":{id},"result":{{}}}}"#);
        assert_eq!(unwrap(message.as_bytes(), &mut Vec::new()), expected, "{id}");
    }
}
