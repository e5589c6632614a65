//! What a request says of tasks that its server is to keep for it: `params.task` (2025-11-25, tasks), and the extension
//! that its client declares (2026-07-28, SEP-2663).
//!
//! Not here: for whom it is taken out (`worker::tasks`).

use crate::mcp::crossing::fields;
use crate::mcp::grammar::Cursor;
use crate::mcp::listing::Unfit;
use crate::mcp::splice::Cut;
use crate::mcp::splice::Splice;

/// The keys that lead to each of them.
const PLACES: [&[&str]; 2] = [
    &["params", "task"],
    &[
        "params",
        "_meta",
        "io.modelcontextprotocol/clientCapabilities",
        "extensions",
        "io.modelcontextprotocol/tasks",
    ],
];

/// Takes both out of a message, where they are in it; white space at its end keeps its length.
///
/// # Errors
/// It is no message of which that can be told; it is as it was.
pub fn take_out(message: &mut [u8]) -> Result<(), Unfit> {
    if !may_tell(message) {
        return Ok(());
    }
    for place in PLACES {
        let mut rest = Vec::with_capacity(message.len());
        let (text, mut cursor) = fields::open(message)?;
        let mut splice = Splice::new(message, &mut rest);
        without(text, &mut cursor, &mut splice, (place, 1))?;
        fields::close(text, cursor)?;
        if splice.finish_changed() {
            rest.resize(message.len(), b' ');
            message.copy_from_slice(&rest);
        }
    }
    Ok(())
}

/// Whether any key of a message can be read as `task` or end in `tasks`. Nearly no message has one, and this looks at rare
/// letters only.
fn may_tell(message: &[u8]) -> bool {
    /// Of U+212A, which some readers take for a K.
    const KELVIN: u8 = 0xE2;
    let ends_tas = |at: usize| {
        // U+017F, which some readers take for an S, ends in 0xBF.
        let before = at.checked_sub(1).and_then(|at| message.get(at));
        matches!(before, Some(b's' | b'S' | 0xBF))
    };
    memchr::memchr3_iter(b'k', b'K', KELVIN, message).any(ends_tas)
        || memchr::memmem::find(message, br"\u").is_some()
}

/// One object, with `depth` brackets open in it, without what the keys lead to.
fn without<'m>(
    text: &'m str,
    cursor: &mut Cursor<'m>,
    splice: &mut Splice<'m, '_>,
    (keys, depth): (&[&str], usize),
) -> Result<(), Unfit> {
    let Some((wanted, below)) = keys.split_first() else { return Ok(()) };
    let mut cut = Cut::default();
    cursor.members(|cursor, key| {
        // A key stands behind its quote.
        let member = key.start - 1;
        let is_wanted = fields::is_taken_for(&fields::name(text, key), wanted);
        if is_wanted && !below.is_empty() && cursor.peek() == Some(b'{') {
            cut.stays(splice, member);
            without(text, cursor, splice, (below, depth + 1))?;
        } else {
            cursor.value(depth)?;
        }
        let stays = !is_wanted || !below.is_empty();
        cut.entry(splice, member..cursor.at, stays);
        Ok::<(), Unfit>(())
    })?;
    cut.end(splice);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn taken_out(message: &str) -> Result<String, Unfit> {
        let mut bytes = message.as_bytes().to_vec();
        take_out(&mut bytes)?;
        assert_eq!(bytes.len(), message.len(), "{message}");
        Ok(String::from_utf8(bytes).unwrap().trim_end().to_owned())
    }

    #[test]
    fn tasks_are_taken_out_of_requests() {
        for (said, left) in [
            (r#"{"id":1,"params":{"name":"a","task":{"ttl":1}}}"#, r#"{"id":1,"params":{"name":"a"}}"#),
            (r#"{"id":1,"params":{"task":{"ttl":1} , "name":"a"}}"#, r#"{"id":1,"params":{"name":"a"}}"#),
            (r#"{"params":{"task":null}}"#, r#"{"params":{}}"#),
            (r#"{"params":{"task":1,"name":"a","task":{}}}"#, r#"{"params":{"name":"a"}}"#),
            (r#"{"params":{"t\u0061sk":{},"name":"a"}}"#, r#"{"params":{"name":"a"}}"#),
            (r#"{"params":{"TASK":{},"name":"a"}}"#, r#"{"params":{"name":"a"}}"#),
            ("{\"params\":{\"ta\u{17F}\u{212A}\":{},\"name\":\"a\"}}", r#"{"params":{"name":"a"}}"#),
            (
                r#"{"params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}}}}"#,
                r#"{"params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"roots":{},"extensions":{"a/b":{}}}}}}"#,
            ),
            (
                r#"{"params":{"_meta":{"io.modelcontextprotocol\/clientCapabilities":{"extensions":{"io.modelcontextprotocol\/tasks":{}}}},"task":{}}}"#,
                r#"{"params":{"_meta":{"io.modelcontextprotocol\/clientCapabilities":{"extensions":{}}}}}"#,
            ),
        ] {
            assert_eq!(taken_out(said).as_deref(), Ok(left), "{said}");
        }
    }

    #[test]
    fn what_is_no_task_stays() {
        for said in [
            r#"{"id":1,"method":"tools/call","params":{"name":"task","arguments":{"task":1}}}"#,
            r#"{"task":1,"params":{"name":"a"},"id":"\u0031"}"#,
            r#"{"params":[{"task":1}]}"#,
            r#"{"params":{"_meta":{"task":1,"extensions":{"io.modelcontextprotocol/tasks":{}}}}}"#,
            r#"{"params":{"tasks":1,"taskId":2}}"#,
        ] {
            assert_eq!(taken_out(said).as_deref(), Ok(said), "{said}");
        }
    }

    #[test]
    fn what_is_no_message_is_left_alone() {
        for said in [r#"{"task":"#, r#"["task"]"#, r#"{"params":{"task":1}} x"#, r#"{"params":{"task":1}"#] {
            let mut bytes = said.as_bytes().to_vec();
            assert_eq!(take_out(&mut bytes), Err(Unfit::Broken), "{said}");
            assert_eq!(bytes, said.as_bytes());
        }
    }

    proptest! {
        /// Against a reader that shares no code.
        #[test]
        fn tasks_are_taken_out_as_another_reader_would(
            keys in prop::collection::vec("task|taskId|name|ask|arguments|k", 0..6),
            space in "[ \n\t]{0,2}",
        ) {
            let members: Vec<String> =
                keys.iter().enumerate().map(|(at, key)| format!("{space}\"{key}\"{space}:{at}")).collect();
            let said = format!("{{\"params\":{{{}}}{space}}}", members.join(","));
            let mut expected: Value = serde_json::from_str(&said).unwrap();
            expected["params"].as_object_mut().unwrap().remove("task");
            let left = taken_out(&said).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&left).unwrap(), expected);
        }
    }
}
