//! Requests in every spelling, and the same changes made on what serde_json makes of them.
//!
//! Not here: answers.

use super::*;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Map;
use serde_json::Value;

fn rewritten(message: &str, how: &Rewrite<'_>) -> Result<String, Unfit> {
    let mut out = Vec::new();
    rewrite(message.as_bytes(), how, &mut out).map(|()| String::from_utf8(out).unwrap())
}

#[track_caller]
fn check(message: &str, how: &Rewrite<'_>, expected: &str) {
    assert_eq!(rewritten(message, how).as_deref(), Ok(expected), "{message}");
}

#[track_caller]
fn refuse(message: &str, how: &Rewrite<'_>) {
    assert_eq!(rewritten(message, how), Err(Unfit::Broken), "{message}");
}

fn named(place: Place) -> Rewrite<'static> {
    Rewrite { name: Some("a\"b"), place, ..Rewrite::default() }
}

const STRIP: Rewrite<'_> =
    Rewrite { name: None, place: Place::Nowhere, id: None, params: "", envelope: Envelope::Strip };

#[test]
fn names_are_replaced_where_they_stand() {
    let usual = " {\"id\" : 1e0, \"params\":{ \"name\":1, \"x\":\"\\u0041\" } }\n";
    check(usual, &Rewrite::default(), usual);
    check(
        r#"{"params":{"arguments":{"name":"x"}, "n\u0061me" : "s__x"},"name":"x"}"#,
        &named(Place::Name),
        r#"{"params":{"arguments":{"name":"x"}, "n\u0061me" : "a\"b"},"name":"x"}"#,
    );
    check(
        r#"{"params":{"uri":"\u0061","name":2}}"#,
        &named(Place::Uri),
        r#"{"params":{"uri":"a\"b","name":2}}"#,
    );
    for (kind, key) in [("ref/prompt", "name"), ("ref/resource", "uri")] {
        let message = |name| {
            format!(
                r#"{{"params":{{"argument":{{"name":"n"}},"ref":{{"{key}": {name},"x":[],"type":"{kind}"}}}}}}"#
            )
        };
        check(&message(r#""x""#), &named(Place::Reference), &message(r#""a\"b""#));
    }
    for (place, message) in [
        (Place::Nowhere, r#"{"params":{"name":"a"}}"#),
        (Place::Name, r#"{"params":{"uri":"a"}}"#),
        (Place::Name, r#"{"params":{"name":7}}"#),
        (Place::Name, r#"{"params":{"name":"a","n\u0061me":"b"}}"#),
        (Place::Name, r#"{"params":{"name":"a","Name":"b"}}"#),
        (Place::Name, r#"{"params":{"name":"a"},"Params":{}}"#),
        (Place::Name, r#"{"params":{"name":"a"},"params":{"name":"b"}}"#),
        (Place::Name, r#"{"params":["name"]}"#),
        (Place::Name, r#"{"id":1}"#),
        (Place::Reference, r#"{"params":{"ref":{"type":"ref/x","name":"a","uri":"a"}}}"#),
        (Place::Reference, r#"{"params":{"ref":{"type":"ref/prompt","uri":"a"}}}"#),
        (Place::Reference, r#"{"params":{"ref":"ref/prompt"}}"#),
    ] {
        refuse(message, &named(place));
    }
}

#[test]
fn ids_are_replaced_and_what_is_no_message_is_refused() {
    let how = Rewrite { id: Some("\"7\""), ..Rewrite::default() };
    check(r#"{"id":1.50,"params":{"id":2}}"#, &how, r#"{"id":"7","params":{"id":2}}"#);
    for message in [
        r#"{"method":"a"}"#,
        r#"{"id":1,"ID":2}"#,
        r#"{"id":1,"\u0069d":2}"#,
        r#"[{"id":1}]"#,
        r#"{"id":1}}"#,
    ] {
        refuse(message, &how);
    }
    for message in ["", "1", "{", "{} x", "{\"a\":\"\u{1}\"}"] {
        refuse(message, &Rewrite::default());
    }
    let deep = format!(r#"{{"params":{{"x":{}{}}}}}"#, "[".repeat(127), "]".repeat(127));
    refuse(&deep, &Rewrite::default());
    assert_eq!(rewrite(b"{\"a\":\"\xff\"}", &Rewrite::default(), &mut Vec::new()), Err(Unfit::Broken));
}

#[test]
fn the_envelope_is_stripped() {
    const VERSION: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    const CAN: &str = r#""io.modelcontextprotocol\/clientCapabilities" : {"a":[1]}"#;
    for (before, after) in [
        (format!(r#""_meta":{{{VERSION}}}"#), String::new()),
        (format!(r#""name":"a","_meta":{{{VERSION},{CAN}}}"#), r#""name":"a""#.into()),
        (format!(r#""_meta":{{{VERSION},{CAN}}}, "name":"a""#), r#""name":"a""#.into()),
        (
            format!(r#""_meta":{{{VERSION},"progressToken":1,{CAN},"traceparent":"t"}}"#),
            r#""_meta":{"progressToken":1,"traceparent":"t"}"#.into(),
        ),
        (r#""_meta":{},"a":1"#.into(), r#""_meta":{},"a":1"#.into()),
        (r#""_meta":null"#.into(), r#""_meta":null"#.into()),
        (
            format!(r#""inputResponses":{{}},"requestSt\u0061te":"s","_meta":{{{VERSION}}},"a" : 1"#),
            r#""a" : 1"#.into(),
        ),
        (r#""a":1 , "requestState":"s" "#.into(), r#""a":1 "#.into()),
    ] {
        let message = |params: &str| format!(r#"{{"id":1,"params":{{{params}}}}}"#);
        check(&message(&before), &STRIP, &message(&after));
    }
    for message in [
        r#"{"params":{"_meta":{"IO.modelcontextprotocol/logLevel":"debug"}}}"#,
        r#"{"params":{"_meta":{},"_Meta":{}}}"#,
        r#"{"params":{"_meta":{},"_meta":{}}}"#,
        r#"{"params":{"request_state":"s"}}"#,
    ] {
        refuse(message, &STRIP);
    }
}

#[test]
fn members_are_added() {
    const HOW: Rewrite<'_> = Rewrite {
        name: None,
        place: Place::Nowhere,
        id: None,
        params: r#""requestState":"s""#,
        envelope: Envelope::Add(r#""p/v":1,"p/w":{}"#),
    };
    for (before, after) in [
        (r#"{"id":1}"#, r#"{"id":1,"params":{"requestState":"s","_meta":{"p/v":1,"p/w":{}}}}"#),
        ("{}", r#"{"params":{"requestState":"s","_meta":{"p/v":1,"p/w":{}}}}"#),
        (r#"{"params":null}"#, r#"{"params":{"requestState":"s","_meta":{"p/v":1,"p/w":{}}}}"#),
        (r#"{"params":{ }}"#, r#"{"params":{ "requestState":"s","_meta":{"p/v":1,"p/w":{}}}}"#),
        (r#"{"params":{"a":1}}"#, r#"{"params":{"a":1,"requestState":"s","_meta":{"p/v":1,"p/w":{}}}}"#),
        (r#"{"params":{"_meta":{}}}"#, r#"{"params":{"_meta":{"p/v":1,"p/w":{}},"requestState":"s"}}"#),
        (r#"{"params":{"_meta":null}}"#, r#"{"params":{"_meta":{"p/v":1,"p/w":{}},"requestState":"s"}}"#),
        (
            r#"{"params":{"requestState":2,"_meta":{"p\/v":2,"x":3}}}"#,
            r#"{"params":{"_meta":{"x":3,"p/v":1,"p/w":{}},"requestState":"s"}}"#,
        ),
    ] {
        check(before, &HOW, after);
    }
    for message in [
        r#"{"params":[]}"#,
        r#"{"params":{"_meta":1}}"#,
        r#"{"params":{"_meta":{"P/V":1}}}"#,
        r#"{"params":{"RequestState":1}}"#,
    ] {
        refuse(message, &HOW);
    }
}

/// The change that [`rewrite`] makes, on a tree.
fn changed(mut message: Map<String, Value>, how: &Rewrite<'_>) -> Option<Map<String, Value>> {
    let members = |raw: &str| -> Map<String, Value> { serde_json::from_str(&format!("{{{raw}}}")).unwrap() };
    if let Some(id) = how.id {
        *message.get_mut("id")? = serde_json::from_str(id).unwrap();
    }
    if let Some(name) = how.name {
        *message.get_mut("params")?.get_mut("name").filter(|name| name.is_string())? = name.into();
    }
    if let Envelope::Strip = how.envelope
        && let Some(params) = message.get_mut("params").and_then(Value::as_object_mut)
    {
        params.remove("inputResponses");
        params.remove("requestState");
        if let Some(meta) = params.get_mut("_meta").and_then(Value::as_object_mut) {
            let before = meta.len();
            meta.retain(|key, _| !key.starts_with(PREFIX));
            if before > 0 && meta.is_empty() {
                params.remove("_meta");
            }
        }
    }
    let mut added = members(how.params);
    if let Envelope::Add(raw) = how.envelope {
        let meta = message.get("params").and_then(|params| params.get("_meta"));
        let mut meta = meta.and_then(Value::as_object).cloned().unwrap_or_default();
        meta.extend(members(raw));
        added.insert("_meta".into(), meta.into());
    }
    if !added.is_empty() {
        let params = message.entry("params").or_insert(Value::Null);
        if params.is_null() {
            *params = Map::new().into();
        }
        params.as_object_mut()?.extend(added);
    }
    Some(message)
}

const PARTS: &[&str] = &[
    r#""name":"t""#,
    r#""na\u006de" : "\ud83d\ude00""#,
    r#""arguments":{"name":[1.50, {"_meta":{}}]}"#,
    r#""_meta":{"io.modelcontextprotocol/a":{"x":[1]} , "progressToken":1}"#,
    r#""_meta":{"io.modelcontextprotocol\/a":1,"io.modelcontextprotocol/b":2}"#,
    r#""_meta":{ "a":1,"p/v":[ 2 ] }"#,
    r#""requestState":"s""#,
    r#""inputResponses" : {"k":{}}"#,
    r#""x":"],{\"name\":""#,
];

proptest! {
    #[test]
    fn it_is_the_same_change_as_on_a_tree(
        parts in proptest::collection::vec(select(PARTS), 0..5),
        (space, name, id, params) in (select(&["", " ", "\n\t"]), any::<bool>(), any::<bool>(), any::<bool>()),
        envelope in 0..3_usize,
    ) {
        let message = format!(r#"{space}{{"id":{space}7{space},"params":{{{space}{}}},"method":"m"}}"#,
            parts.join(&format!("{space},{space}")));
        let how = Rewrite {
            name: name.then_some("n\u{1}\\"),
            place: Place::Name,
            id: id.then_some("\"a\""),
            params: if params { r#""requestState":"\u0061""# } else { "" },
            envelope: [Envelope::Keep, Envelope::Strip, Envelope::Add(r#""p/v":1"#)][envelope],
        };
        let tree: Map<String, Value> = serde_json::from_str(&message).unwrap();
        let once = |key: &str| parts.iter().filter(|part| part.starts_with(key)).count() < 2;
        let clear = ["\"na", "\"_meta", "\"requestState", "\"inputR"].into_iter().all(once);
        // Foreign keys may come twice; a tree keeps one.
        let expected = if clear { changed(tree, &how) } else { None };
        let out = rewritten(&message, &how);
        match expected {
            Some(expected) => {
                let out = out.unwrap();
                prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(&out).unwrap(), expected);
                for part in &parts {
                    prop_assert!(!["\"arg", "\"x"].iter().any(|key| part.starts_with(key)) || out.contains(part));
                }
            }
            None => prop_assert_eq!(out, Err(Unfit::Broken)),
        }
    }
}
