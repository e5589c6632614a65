//! Properties: both readers agree on any body, and serde_json on what is JSON.
//!
//! Not here: the promises themselves (`fuzz`). Bodies are built from parts that matter, then broken by
//! the byte, so that most are nearly valid.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::sample::select;

const ENVELOPE_KEYS: &[&str] = &[
    "jsonrpc",
    "id",
    "method",
    "params",
    "result",
    "error",
    r"m\u0065thod",
    "Method",
    "param\u{17f}",
    r"\ud800",
    "vendor",
    "ID",
    r"\u0069d",
    "",
];
const PARAMS_KEYS: &[&str] = &[
    "name",
    "arguments",
    "_meta",
    "uri",
    "taskId",
    "requestState",
    "inputResponses",
    "protocolVersion",
    "cursor",
    "Name",
    r"n\u0061me",
    "ta\u{17f}\u{212a}Id",
    r"\u005fmeta",
    "x",
    r"\udfff",
];
const META_KEYS: &[&str] = &[
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    r"io.modelcontextprotocol\/clientCapabilities",
    "io.modelcontextprotocol/protocolversion",
    "io.modelcontextprotocol/logLevel",
    "progressToken",
    "traceparent",
    "TraceParent",
    "x",
];
const VALUES: &[&str] = &[
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "7",
    "-1",
    "1.5",
    "1e3",
    "1E-2",
    "1e400",
    "-1e400",
    "0.0",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "12345678901234567890.123456789012345678e-3",
    r#""""#,
    r#""2.0""#,
    r#""echo""#,
    r#""\u0065cho""#,
    r#""tools/call""#,
    r#""tools\/call""#,
    r#""tools/list""#,
    r#""initialize""#,
    r#""notifications/progress""#,
    r#""2026-07-28""#,
    r#""2025-11-25""#,
    r#""2099-01-01""#,
    r#""\ud800""#,
    r#""\ud83d\ude00""#,
    r#""\udc00\ud800""#,
    "\"\u{e9}\u{65e5}\u{1f600}\u{2028}\"",
    r#""\"\\\/\b\f\n\r\t\u0000""#,
    r#"[1,[2,{"a":[]}],"x"]"#,
    r#"{"k":1,"k":2,"K":{"":null}}"#,
    r#""00-000102030405060708090a0b0c0d0eff-0123456789abcdef-00""#,
];
/// What is put in place of a byte, or beside it.
const BYTES: &[u8] = b"{}[]:,\"\\ \t\n\r\x00\x0b\x1f\x7f\x80\xbf\xc0\xed\xa0\xff019-+.eEutfna/";

type Members = Vec<(&'static str, String)>;

fn value() -> impl Strategy<Value = String> {
    select(VALUES).prop_map(str::to_owned)
}

fn object(
    keys: &'static [&'static str],
    ordinary: &'static [(&'static str, &'static str)],
) -> impl Strategy<Value = Members> {
    // The ordinary members, few of them left out or changed, and seldom others of any kind.
    let kept = prop_oneof![30 => Just(Some(None)), 1 => Just(None), 2 => value().prop_map(|v| Some(Some(v)))];
    let kept = proptest::collection::vec(kept, ordinary.len());
    let more = || proptest::collection::vec((select(keys), value()), 1..3);
    let more = prop_oneof![8 => Just(Vec::new()), 2 => more()];
    (kept, more).prop_map(|(kept, more)| {
        let members = ordinary
            .iter()
            .zip(kept)
            .filter_map(|((key, value), kept)| Some((*key, kept?.unwrap_or_else(|| (*value).to_owned()))));
        members.chain(more).collect()
    })
}

fn written(mut members: Members, below: Option<(&'static str, String)>, space: &str, turn: usize) -> String {
    members.extend(below);
    if !members.is_empty() {
        let middle = turn % members.len();
        members.rotate_left(middle);
    }
    let members = members.iter().map(|(key, value)| format!("{space}\"{key}\"{space}:{space}{value}{space}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

prop_compose! {
    fn message()(
        envelope in object(ENVELOPE_KEYS, &[("jsonrpc", "\"2.0\""), ("id", "7"), ("method", "\"tools/call\"")]),
        params in object(PARAMS_KEYS, &[("name", "\"echo\""), ("arguments", "{\"x\":1}")]),
        meta in object(META_KEYS, &[
            ("io.modelcontextprotocol/protocolVersion", "\"2026-07-28\""),
            ("io.modelcontextprotocol/clientCapabilities", "{}"),
        ]),
        has_meta in proptest::bool::weighted(0.7),
        space in select(&["", "", " ", "\r\n\t "][..]),
        turn in 0_usize..8,
    ) -> String {
        let meta = has_meta.then(|| ("_meta", written(meta, None, space, turn)));
        let params = written(params, meta, space, turn / 2);
        written(envelope, Some(("params", params)), space, turn / 3)
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    Double(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    prop_oneof![
        (place(), select(BYTES)).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (place(), select(BYTES)).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        place().prop_map(Edit::Remove),
        place().prop_map(Edit::Cut),
        (place(), place()).prop_map(|(from, to)| Edit::Double(from, to)),
    ]
}

fn apply(body: &mut Vec<u8>, edit: &Edit) {
    if body.is_empty() {
        return;
    }
    let len = body.len();
    match edit {
        Edit::Replace(at, byte) => body[at.index(len)] = *byte,
        Edit::Insert(at, byte) => body.insert(at.index(len), *byte),
        Edit::Remove(at) => drop(body.remove(at.index(len))),
        Edit::Cut(at) => body.truncate(at.index(len)),
        Edit::Double(from, to) => {
            let (from, to) = (from.index(len), to.index(len));
            let part = body[from.min(to)..from.max(to)].to_vec();
            body.splice(from..from, part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn both_readers_agree_on_messages(body in message()) {
        fuzz::json_envelope(body.as_bytes());
    }

    #[test]
    fn both_readers_agree_on_broken_messages(
        body in message(),
        edits in proptest::collection::vec(edit(), 1..4),
    ) {
        let mut body = body.into_bytes();
        edits.iter().for_each(|edit| apply(&mut body, edit));
        fuzz::json_envelope(&body);
    }

    #[test]
    fn batches_hold_the_same_rules(
        messages in proptest::collection::vec(message(), 0..4),
        edits in proptest::collection::vec(edit(), 0..2),
    ) {
        let mut body = format!("[{}]", messages.join(",")).into_bytes();
        edits.iter().for_each(|edit| apply(&mut body, edit));
        fuzz::json_envelope(&body);
    }

    #[test]
    fn any_value_agrees_with_serde(
        parts in proptest::collection::vec(select(VALUES), 0..6),
        edits in proptest::collection::vec(edit(), 0..4),
    ) {
        let mut body = format!("[{}]", parts.join(",")).into_bytes();
        edits.iter().for_each(|edit| apply(&mut body, edit));
        fuzz::json_envelope(&body);
        fuzz::json_envelope(call(&String::from_utf8_lossy(&body)).as_bytes());
    }

    #[test]
    fn a_name_is_found_in_its_header_in_either_form(name in "\\PC{0,12}", first in any::<u8>()) {
        let mut input = name.clone().into_bytes();
        input.extend([&b"\0"[..], name.as_bytes()].concat());
        fuzz::header_against_body(&input);
        let mut input = vec![first];
        input.extend(&input.clone());
        fuzz::header_against_body(&input);
    }
}

/// The generator is no use if it makes only one kind of verdict.
#[test]
fn generated_messages_are_of_all_kinds() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..2_000 {
        let body = message().new_tree(&mut runner).unwrap().current();
        let verdict = inspect(&mut Scratch::new(), body.as_bytes(), &MODERN);
        *seen.entry(verdict.map_or_else(|fault| fault.wire().code, |_| 0)).or_insert(0) += 1;
    }
    for code in [0, -32600, -32602, -32020] {
        assert!(seen.get(&code).is_some_and(|count| *count >= 20), "{code}: {seen:?}");
    }
}
