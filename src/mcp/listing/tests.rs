//! Lists in every spelling, streams in every cut, and what serde_json makes of them.
//!
//! Not here: what is hidden from whom.

use super::events::Events;
use super::*;
use crate::mcp::fuzz;
use proptest::prelude::*;
use proptest::sample::select;

const HIDES: fn(&Entry<'_>) -> bool = |entry| !entry.name.contains("hide");

fn screened(message: &str, modern: bool) -> Result<String, Unfit> {
    let (mut out, mut keeps) = (Vec::new(), HIDES);
    let changed =
        screen(message.as_bytes(), &mut Screen { modern, hides_tasks: false, keeps: &mut keeps }, &mut out)?;
    Ok(if changed { String::from_utf8(out).unwrap() } else { message.into() })
}

#[track_caller]
fn check(message: &str, expected: &str) {
    assert_eq!(screened(message, false).as_deref(), Ok(expected), "{message}");
}

/// The same as a list of tools in a result.
#[track_caller]
fn tools(entries: &str, expected: &str) {
    let message = |entries: &str| format!(r#"{{"id":1,"result":{{"tools":[{entries}],"nextCursor":"a"}}}}"#);
    check(&message(entries), &message(expected));
}

const A: &str = r#"{"name":"a","x":[1.50,{"name":"hide"}]}"#;
const B: &str = r#"{"name":"b"}"#;
const H: &str = r#"{"description":"}],{","name":"hide"}"#;

#[test]
fn hidden_entries_go_with_one_comma_each() {
    for (before, after) in [
        (vec![], ""),
        (vec![A], A),
        (vec![H], ""),
        (vec![H, H, H], ""),
        (vec![A, H], A),
        (vec![H, A], A),
        (vec![H, H, A, H, H], A),
        (vec![A, H, B], "A,B"),
        (vec![H, A, H, H, B, H], "A,B"),
    ] {
        tools(&before.join(","), &after.replace("A,B", &[A, B].join(",")));
    }
    tools(&format!("\n  {A},\n  {H},\n  {B}\n"), &format!("\n  {A},\n  {B}\n"));
    tools(&format!(" {H} , {A} , {H} "), &format!(" {A} "));
    tools(&format!(" {H} , {H} "), "  ");
}

#[test]
fn every_list_is_told_by_its_shape() {
    for (list, name) in
        [("tools", "name"), ("prompts", "name"), ("resources", "uri"), ("resourceTemplates", "uriTemplate")]
    {
        let message = |entries: &str| format!(r#" {{"result" : {{"{list}": [{entries}]}}, "id": 7}} "#);
        let entry = |text: &str| format!(r#"{{"other":"hide","{name}":"{text}"}}"#);
        check(&message(&[entry("hide"), entry("a")].join(",")), &message(&entry("a")));
        // The other names of an entry decide nothing.
        for other in ["name", "uri", "uriTemplate"].iter().filter(|other| **other != name) {
            check(&message(&format!(r#"{{"{other}":"a"}}"#)), &message(""));
        }
    }
    let lists = r#"{"result":{"tools":[],"prompts":[HERE],"resources":[],"a":[{"name":"hide"}]}}"#;
    check(&lists.replace("HERE", H), &lists.replace("HERE", ""));
}

#[test]
fn what_is_no_list_passes_as_it_is() {
    for message in [
        r#"{"id":1,"method":"tools/list","params":{"tools":[{"name":"hide"}]}}"#,
        r#"{"id":1,"error":{"code":-32602,"message":"hide","data":{"tools":[{"name":"hide"}]}}}"#,
        r#"{"result":{"content":[{"name":"hide"}],"structuredContent":{"tools":[{"name":"hide"}]}}}"#,
        r#"{"result":{"capabilities":{"tools":{},"prompts":{}}}}"#,
        r#"{"result":{"tools":{"name":"hide"},"prompts":null,"resources":"hide"}}"#,
        r#"{"result":[{"tools":[{"name":"hide"}]}],"tools":[{"name":"hide"}]}"#,
        "{}",
        "[]",
        "[1,[{\"result\":{}}]]",
    ] {
        check(message, message);
    }
}

#[test]
fn a_batch_is_looked_through() {
    let one = r#"{"id":1,"result":{"tools":[HERE]}}"#;
    let batch = format!(r#"[{one},{{"id":2,"result":{{}}}},{one}]"#);
    check(&batch.replace("HERE", &[H, A].join(",")), &batch.replace("HERE", A));
}

#[test]
fn no_spelling_of_a_key_lets_an_entry_through() {
    for list in ["tools", r"t\u006fols", "Tools", "TOOLS", "tool\u{17F}", r"tool\u017F", "too_ls"] {
        let message = |entries: &str| format!(r#"{{"result":{{"{list}":[{entries}]}}}}"#);
        check(&message(H), &message(""));
        check(&message(A), &message(A));
    }
    for result in ["Result", r"r\u0065sult", "re\u{17F}ult"] {
        let message = |entries: &str| format!(r#"{{"result":1,"{result}":{{"tools":[{entries}]}}}}"#);
        check(&message(H), &message(""));
    }
    let templates = |entries: &str| format!(r#"{{"result":{{"resource_templates":[{entries}]}}}}"#);
    check(&templates(r#"{"uriTemplate":"hide"}"#), &templates(""));
    check(&templates(r#"{"uri_template":"a"}"#), &templates(""));
    let twice = |entries: &str| {
        format!(r#"{{"result":{{"tools":[{A}],"tools":[{entries}]}},"result":{{"tools":[{entries}]}}}}"#)
    };
    check(&twice(H), &twice(""));
}

#[test]
fn an_entry_without_one_readable_name_is_nobodys() {
    for entry in [
        "{}",
        "1",
        "null",
        r#""a""#,
        r#"["a"]"#,
        r#"[{"name":"a"}]"#,
        r#"{"name":1}"#,
        r#"{"name":null}"#,
        r#"{"name":"a","name":"a"}"#,
        r#"{"name":"a","Name":"hide"}"#,
        r#"{"name":"a","na\u006de":"hide"}"#,
        r#"{"Name":"a"}"#,
        r#"{"name":"\ud800"}"#,
    ] {
        tools(&[A, entry, B].join(","), &[A, B].join(","));
    }
    tools(r#"{"name":"\u0068ide"}"#, "");
    tools(r#"{"n\u0061me":"\u0061"}"#, r#"{"n\u0061me":"\u0061"}"#);
}

#[test]
fn a_name_has_a_bound() {
    let of = |kind: Kind, bytes: usize, letter: &str| {
        let list = RESULT[Kind::ALL.iter().position(|other| *other == kind).unwrap()];
        format!(r#"{{"result":{{"{list}":[{{"{}":"{}"}}]}}}}"#, kind.member(), letter.repeat(bytes))
    };
    for kind in Kind::ALL {
        for letter in ["q", r"\u0071"] {
            let most = kind.name_bytes_max();
            let (fits, over) = (of(kind, most, letter), of(kind, most + 1, letter));
            assert_eq!(screened(&fits, false), Ok(fits));
            assert!(!screened(&over, false).unwrap().contains(letter), "{kind:?}");
        }
    }
}

#[test]
fn a_list_has_a_bound() {
    let list = |entries: usize| format!(r#"{{"result":{{"tools":[{}]}}}}"#, vec!["{}"; entries].join(","));
    assert!(screened(&list(limits::LISTED_ENTRIES_MAX), false).is_ok());
    assert_eq!(screened(&list(limits::LISTED_ENTRIES_MAX + 1), false), Err(Unfit::TooLarge));
}

#[test]
fn what_is_no_json_is_no_message() {
    let deep = |depth: usize| format!(r#"{{"result":{{"x":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
    let (fits, over) = (deep(limits::JSON_DEPTH_MAX - 2), deep(limits::JSON_DEPTH_MAX - 1));
    assert!(screened(&fits, false).is_ok());
    for message in [
        "",
        "a",
        "1",
        "{",
        r#"{"result":{"tools":[{"name":"hide","x":NaN}]}}"#,
        r#"{"result":{"tools":[{"name":"hide"}],}}"#,
        r#"{"result":{"tools":[{"name":"a"} {"name":"hide"}]}}"#,
        r#"{"result":{"tools":[{"name":"hide"}]}} x"#,
        "\u{FEFF}{\"result\":{\"tools\":[{\"name\":\"hide\"}]}}",
        &over,
    ] {
        assert_eq!(screened(message, false), Err(Unfit::Broken), "{message}");
    }
    let mut keeps = HIDES;
    let latin = screen(
        b"{\"a\":\"\xE9\"}",
        &mut Screen { modern: true, hides_tasks: false, keeps: &mut keeps },
        &mut Vec::new(),
    );
    assert_eq!(latin, Err(Unfit::Broken));
    for (text, expected) in
        [("", false), ("hello {", false), (" {", true), ("\n[", true), ("\u{FEFF}{", true), ("\0{", true)]
    {
        assert_eq!(may_be_message(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn a_modern_list_is_its_callers_alone() {
    let list = |scope: &str| format!(r#"{{"result":{{"ttlMs":5{scope},"tools":[{A}]}}}}"#);
    let private = list(r#","cacheScope":"private""#);
    for scope in [r#","cacheScope":"public""#, r#","cacheScope": null"#, r#","cacheScope":{"a":1}"#] {
        let before = list(scope);
        let spaced =
            if scope.contains(": ") { private.replace("e\":\"p", "e\": \"p") } else { private.clone() };
        assert_eq!(screened(&before, true), Ok(spaced));
        assert_eq!(screened(&before, false), Ok(before), "an older result has no such member");
    }
    assert_eq!(screened(&private, true), Ok(private));
    let added = |scope: &str| format!(r#"{{"result":{{"tools":[ {A} ]{scope}}}}}"#);
    assert_eq!(screened(&added(""), true), Ok(added(r#","cacheScope":"private""#)));
    // The last of two counts for most readers, the first for some; a variant is no scope to the others.
    let twice = r#"{"result":{"cacheScope":"private","tools":[],"cacheScope":"public"}}"#;
    assert_eq!(screened(twice, true), Ok(twice.replace("public", "private")));
    let variant = r#"{"result":{"tools":[],"cachescope":"private"}}"#;
    assert!(screened(variant, true).unwrap().ends_with(r#","cacheScope":"private"}}"#));
    let other = r#"{"result":{"content":[]}}"#;
    assert_eq!(screened(other, true).as_deref(), Ok(other));
}

/// What a stream passes, cut at every byte.
#[track_caller]
fn stream(bytes: &str, expected: &str) {
    let whole = streamed(bytes.as_bytes(), bytes.len().max(1));
    assert_eq!(whole.0, expected, "{bytes:?}");
    for cut in 1..bytes.len() {
        let mut keeps = HIDES;
        let look = &mut Screen { modern: false, hides_tasks: false, keeps: &mut keeps };
        let (mut events, mut out) = (Events::default(), Vec::new());
        let (front, back) = bytes.as_bytes().split_at(cut);
        let fed = events.feed(front, look, &mut out).and_then(|()| events.feed(back, look, &mut out));
        let ended = fed.and_then(|()| events.finish(look, &mut out));
        assert_eq!((String::from_utf8(out).unwrap(), ended), whole, "{bytes:?} cut at {cut}");
    }
    assert_eq!(streamed(bytes.as_bytes(), 1), whole, "{bytes:?} byte by byte");
}

fn streamed(bytes: &[u8], step: usize) -> (String, Result<(), Unfit>) {
    let mut keeps = HIDES;
    let look = &mut Screen { modern: false, hides_tasks: false, keeps: &mut keeps };
    let (mut events, mut out) = (Events::default(), Vec::new());
    let fed = bytes.chunks(step).try_for_each(|piece| events.feed(piece, look, &mut out));
    let ended = fed.and_then(|()| events.finish(look, &mut out));
    (String::from_utf8(out).unwrap(), ended)
}

#[test]
fn events_lose_hidden_entries_and_nothing_else() {
    let list = |entries: &str| format!(r#"{{"result":{{"tools":[{entries}]}}}}"#);
    let (before, after) = (list(&[A, H].join(",")), list(A));
    for end in ["\n", "\r\n", "\r"] {
        let text = |message: &str| {
            let lines =
                [": hi", "", "id: 4", &format!("data: {message}"), "retry: 5", "", "data", "data:x", "", ""];
            lines.join(end)
        };
        stream(&text(&before), &text(&after));
        stream(&text(&after), &text(&after));
    }
    // In lines: those that follow the first are put there.
    let (front, back) = before.split_once("[").unwrap();
    stream(
        &format!("data:{front}\nevent: x\ndata: [{back}\n\n"),
        &format!("data: {}\ndata: [{A}]}}}}\nevent: x\n\n", front),
    );
    // Without an end: an event to some readers.
    stream(&format!("data:{before}"), &format!("data: {after}\n"));
    stream(&format!("\u{FEFF}data:{before}\n\n"), &format!("\u{FEFF}data: {after}\n\n"));
    for other in
        ["", "\n", "\r\n\r\n", ":\n", ": {\n:\n\n", "data\n\n", "data: hello\n\n", "datum: {\n\n", "event: x"]
    {
        stream(other, other);
    }
}

#[test]
fn an_event_that_is_no_json_does_not_pass() {
    let (out, ended) = streamed(b"data: {}\n\ndata: {\"result\n\ndata: {}\n\n", 1000);
    assert_eq!((out.as_str(), ended), ("data: {}\n\n", Err(Unfit::Broken)));
}

#[test]
fn comments_pass_as_they_come() {
    let mut keeps = HIDES;
    let look = &mut Screen { modern: false, hides_tasks: false, keeps: &mut keeps };
    let (mut events, mut out) = (Events::default(), Vec::new());
    events.feed(b": one\n: tw", look, &mut out).unwrap();
    assert_eq!(out, b": one\n");
    events.feed(b"o\n\n:\ndata: {}\n: in an event\n", look, &mut out).unwrap();
    assert_eq!(out, b": one\n: two\n\n:\n");
    events.feed(b"\n", look, &mut out).unwrap();
    assert!(out.ends_with(b":\ndata: {}\n: in an event\n\n"));
}

/// Nobody waits for the end of an event that can be no message; the next one is looked at again.
#[test]
fn an_event_that_is_no_message_passes_as_it_comes() {
    let mut keeps = HIDES;
    let look = &mut Screen { modern: false, hides_tasks: false, keeps: &mut keeps };
    for (front, back, end) in [
        ("id: 1\ndata: 1\n", "data: {\"result\":{\"tools\":[]}}\n", "\n"),
        ("data:\ndata: \"x\r", "data: y\r", "\r"),
        ("data: hello\r\n", "event: x\r\n", "\r\n"),
    ] {
        let (mut events, mut out) = (Events::default(), Vec::new());
        events.feed(front.as_bytes(), look, &mut out).unwrap();
        assert_eq!(out, front.as_bytes(), "{front:?}");
        events.feed(back.as_bytes(), look, &mut out).unwrap();
        assert_eq!(out.len(), front.len() + back.len(), "{back:?}");
        events.feed(end.as_bytes(), look, &mut out).unwrap();
        let before = out.len();
        let list = format!("data: {{\"result\":{{\"tools\":[{H}]}}}}\n");
        events.feed(list.as_bytes(), look, &mut out).unwrap();
        assert_eq!(out.len(), before, "the next one is held");
        events.feed(b"\n", look, &mut out).unwrap();
        assert!(out.ends_with(b"data: {\"result\":{\"tools\":[]}}\n\n"), "{}", String::from_utf8_lossy(&out));
    }
    for held in ["data: {\n", "data: [\n", "data:\n", "data:  \n", "event: 1\n", "data: \u{FEFF}1\n"] {
        let (mut events, mut out) = (Events::default(), Vec::new());
        events.feed(held.as_bytes(), look, &mut out).unwrap();
        assert!(out.is_empty(), "{held:?}");
    }
}

#[test]
fn an_event_has_a_bound() {
    let mut keeps = HIDES;
    let look = &mut Screen { modern: false, hides_tasks: false, keeps: &mut keeps };
    for front in ["data: ", ": "] {
        let (mut events, mut out) = (Events::default(), Vec::new());
        events.feed(front.as_bytes(), look, &mut out).unwrap();
        let piece = vec![b'x'; limits::HELD_ANSWER_BYTES_MAX - front.len()];
        events.feed(&piece, look, &mut out).unwrap();
        assert_eq!(events.feed(b"x", look, &mut out), Err(Unfit::TooLarge));
        assert!(out.is_empty());
    }
}

proptest! {
    #[test]
    fn serde_agrees_on_what_is_left(
        list in select(&["tools", "prompts", "resources", "resourceTemplates", "Tools", "other"][..]),
        parts in proptest::collection::vec(select(PARTS), 0..12),
        space in select(&["", " ", "\n  "][..]),
    ) {
        let entries = parts.join(&format!("{space},{space}"));
        let one = format!(r#"{{"id":1,"result":{{"{list}":[{space}{entries}{space}],"x":[{entries}]}}}}"#);
        let before = screened(&one, false);
        prop_assert!(before.is_ok(), "{}", one);
        for message in [one.clone(), format!("[{one},{one}]")] {
            fuzz::listing(format!("0{message}").as_bytes());
            fuzz::listing(format!("1data: {message}\r\n\r\ndata:{message}\n\n").as_bytes());
        }
    }

    #[test]
    fn whatever_comes_keeps_the_promise(
        parts in proptest::collection::vec(select(PIECES), 0..24),
        first in select(&["0", "1"][..]),
    ) {
        fuzz::listing(format!("{first}{}", parts.concat()).as_bytes());
    }
}

const PARTS: &[&str] = &[
    r#"{"name":"see","uri":"see","uriTemplate":"see","n":1.5}"#,
    r#"{"name":"hide","uri":"hide","uriTemplate":"hide"}"#,
    r#"{"name":"see","uri":"hide"}"#,
    r#"{"uriTemplate":"see","name":"hide"}"#,
    r#"{"name":"see","Name":"see","URI":1}"#,
    r#"{"\u006eame":"\u0068","uri_template":"see","uri":"a\/b"}"#,
    r#"{"annotations":{"readOnlyHint":true},"name":"see"}"#,
    "{}",
    "[]",
    "17",
    "null",
    r#""hide""#,
];
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    " ",
    "\n",
    "\r",
    "data: ",
    "\"result\":{",
    "\"tools\":[",
    "\"name\":",
    "\"hide\"",
    "\"see\"",
    "\"Result\":",
    "\"resources\":",
    "\"uri\":",
    "{\"result\":{\"tools\":[",
    "]}}",
    "{\"name\":\"hide\"}",
    "{\"name\":\"see\"}",
    "1",
    "true",
];
