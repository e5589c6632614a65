//! Every kind of message between every two eras, and the same changes made on what serde_json makes of them.
//!
//! Not here: streams.

use super::*;
use crate::mcp::fuzz;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use serde_json::json;

fn lens(server: Era, client: Era) -> Lens {
    let able = Abilities::ALL;
    let method = Method::ToolsCall;
    Lens { client, server, method, id: None, progress: None, wraps: None, asker: None, logs: None, able }
}

const LIFTS: fn() -> Lens = || lens(Era::Legacy, Era::Modern);
const LOWERS: fn() -> Lens = || lens(Era::Modern, Era::Legacy);
const OLD: fn() -> Lens = || lens(Era::Legacy, Era::Legacy);
const NEW: fn() -> Lens = || lens(Era::Modern, Era::Modern);

/// What goes on, changed or not.
fn passed(lens: &Lens, message: &str) -> Result<String, Result<Seen, Unfit>> {
    let mut out = b"before".to_vec();
    match lens.look(message.as_bytes(), &mut out) {
        Ok(Seen::On { changed: true, .. }) => {
            Ok(String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned())
        }
        Ok(Seen::On { changed: false, .. }) => {
            assert_eq!(out, b"before");
            Ok(message.to_owned())
        }
        other => Err(other),
    }
}

#[track_caller]
fn check(lens: &Lens, message: &str, expected: &str) {
    assert_eq!(passed(lens, message).as_deref(), Ok(expected), "{message}");
}

#[track_caller]
fn refuse(lens: &Lens, message: &str) {
    assert_eq!(passed(lens, message), Err(Err(Unfit::Broken)), "{message}");
}

#[track_caller]
fn seen(lens: &Lens, message: &str) -> Seen {
    lens.look(message.as_bytes(), &mut Vec::new()).unwrap()
}

#[test]
fn messages_of_the_same_era_pass_as_they_are() {
    for message in [
        " {\"result\" : {\"x\":1.50,\"\\u0041\":{}} , \"id\":7}\n",
        r#"{"id":1,"error":{"code":-32002,"message":"no"}}"#,
        r#"{"id":1,"error":null,"result":{}}"#,
        r#"{"error":{"code":-32042}}"#,
        r#"{"method":"notifications/message","params":{}}"#,
        r#"{"method":"notifications/tools/list_changed"}"#,
        r#"{"result":{"content":[{"type":"resource_link","uri":"a:b"}],"ResultType":1},"id":1}"#,
    ] {
        for lens in [OLD(), NEW()] {
            check(&lens, message, message);
        }
    }
    let request = r#"{"id":1,"method":"sampling/createMessage","params":{}}"#;
    check(&OLD(), request, request);
    assert_eq!(seen(&NEW(), request), Seen::Dropped);
    assert_eq!(seen(&LOWERS(), request), Seen::Dropped);
}

#[test]
fn what_is_no_message_is_refused() {
    for message in [
        "",
        "{}",
        "[]",
        r#"[{"id":1,"result":{}}]"#,
        r#"{"id":1}"#,
        r#"{"id":1,"result":{},"error":{}}"#,
        r#"{"id":1,"result":{},"result":{}}"#,
        r#"{"id":1,"result":{},"Result":{}}"#,
        r#"{"id":1,"ID":1,"result":{}}"#,
        r#"{"id":1,"error":"no"}"#,
        r#"{"id":null,"method":"ping"}"#,
        r#"{"id":{},"method":"ping"}"#,
        r#"{"id":1,"method":"ping","result":{}}"#,
        r#"{"id":1,"method":7}"#,
        r#"{"id":1,"method":"\ud800"}"#,
        r#"{"id":1,"result":{}}}"#,
        r#"{"id":1,"result":{]}"#,
    ] {
        for lens in [OLD(), NEW(), LIFTS(), LOWERS()] {
            refuse(&lens, message);
        }
    }
    for message in [
        r#"{"id":1,"result":[]}"#,
        r#"{"id":1,"result":null}"#,
        r#"{"id":1,"result":{"result_type":"complete"}}"#,
        r#"{"id":1,"result":{"resultType":"a","resultType":"b"}}"#,
        r#"{"id":1,"error":{"code":-32002,"Code":1}}"#,
    ] {
        refuse(&LIFTS(), message);
    }
}

#[test]
fn answers_get_the_id_of_their_request() {
    for mut lens in [OLD(), NEW()] {
        lens.id = Some("\"a\"".into());
        check(&lens, r#"{"id" : 7.0,"result":{"id":7}}"#, r#"{"id" : "a","result":{"id":7}}"#);
        check(&lens, r#"{"error":{"code":1},"id":null}"#, r#"{"error":{"code":1},"id":"a"}"#);
        check(&lens, r#" { "error":{"code":1}}"#, r#" {"id":"a", "error":{"code":1}}"#);
        let notification = r#"{"method":"notifications/progress","params":{"progressToken":7}}"#;
        check(&lens, notification, notification);
    }
    let mut out = Vec::new();
    let answer = OLD().look(br#"{"id":1,"result":{}}"#, &mut out);
    assert_eq!(answer, Ok(Seen::On { changed: false, is_answer: true }));
    let progress = OLD().look(br#"{"method":"notifications/progress"}"#, &mut out);
    assert_eq!(progress, Ok(Seen::On { changed: false, is_answer: false }));
}

#[test]
fn results_get_what_newer_clients_want() {
    for (before, after) in [
        ("", r#""resultType":"complete""#),
        (r#" "content":[] "#, r#""resultType":"complete", "content":[] "#),
        (r#""a":{"resultType":"x"}"#, r#""resultType":"complete","a":{"resultType":"x"}"#),
        (r#""a":1,"result\u0054ype":"x""#, r#""a":1,"result\u0054ype":"x""#),
    ] {
        let message = |result| format!(r#"{{"id":1,"result":{{{result}}}}}"#);
        check(&LIFTS(), &message(before), &message(after));
    }
    for method in Method::NAMED {
        let is_cacheable = [
            "tools/list",
            "prompts/list",
            "resources/list",
            "resources/templates/list",
            "resources/read",
            "server/discover",
        ]
        .contains(&method.as_str());
        let lens = Lens { method: *method, ..LIFTS() };
        let hints = if is_cacheable { r#","ttlMs":0,"cacheScope":"private""# } else { "" };
        let expected = format!(r#"{{"result":{{"resultType":"complete"{hints}}},"id":1}}"#);
        check(&lens, r#"{"result":{},"id":1}"#, &expected);
    }
    let lens = Lens { method: Method::ResourcesRead, ..LIFTS() };
    check(
        &lens,
        r#"{"result":{"ttlMs":5,"contents":[]},"id":1}"#,
        r#"{"result":{"resultType":"complete","cacheScope":"private","ttlMs":5,"contents":[]},"id":1}"#,
    );
}

#[test]
fn errors_get_codes_that_newer_clients_know() {
    let message =
        |code: &str| format!(r#"{{"id":1,"error":{{"message":"-32002","code": {code} ,"data":1}}}}"#);
    for (before, after) in [
        ("-32002", "-32602"),
        ("-32042", "-32603"),
        ("-32602", "-32602"),
        ("7", "7"),
        ("\"-32002\"", "\"-32002\""),
    ] {
        check(&LIFTS(), &message(before), &message(after));
        check(&LOWERS(), &message(before), &message(before));
    }
    let list = r#"[ {"mode":"url"}]"#;
    let wanted = format!(r#" {{"error":{{ "data":{{"x":1, "elicitations":{list}}},"code":-32042}},"id":1}}"#);
    let Seen::UrlsRequired { elicitations } = seen(&LIFTS(), &wanted) else { panic!() };
    assert_eq!(&wanted[elicitations], list);
    let lens = Lens { method: Method::ToolsList, ..LIFTS() };
    check(&lens, &wanted, &wanted.replace("-32042", "-32603"));
}

#[test]
fn questions_are_told_apart() {
    let lens = LIFTS();
    for (name, method) in [
        ("elicitation/create", Method::ElicitationCreate),
        ("sampling/createMessage", Method::SamplingCreate),
        ("roots/list", Method::RootsList),
    ] {
        let message = format!(r#"{{"method":"{name}", "params": {{"a":1}},"id":"q\u0041"}}"#);
        let Seen::Asks { id, method: found, params: Some(params) } = seen(&lens, &message) else { panic!() };
        assert_eq!((found, &message[id], &message[params]), (method, r#""q\u0041""#, r#"{"a":1}"#));
    }
    let bare = r#"{"id":3,"method":"roots/list"}"#;
    assert_eq!(seen(&lens, bare), Seen::Asks { id: 6..7, method: Method::RootsList, params: None });
    assert_eq!(seen(&lens, r#"{"id":3,"method":"ping"}"#), Seen::Ping { id: 6..7 });
    assert_eq!(seen(&lens, r#"{"id":3,"method":"tasks/get"}"#), Seen::Unanswerable { id: 6..7 });

    let wants = r#"{"id":1,"result": {"resultType":"input\u005frequired","requestState":"s"}}"#;
    let Seen::InputRequired { result } = seen(&LOWERS(), wants) else { panic!() };
    assert_eq!(&wants[result], r#"{"resultType":"input\u005frequired","requestState":"s"}"#);
    check(&NEW(), wants, wants);
    // Only these three may want input (2026-07-28, multi round-trip requests).
    for method in Method::NAMED.iter().copied() {
        let may_ask = matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead);
        let asks = seen(&Lens { method, ..LIFTS() }, bare);
        assert_eq!(matches!(asks, Seen::Asks { .. }), may_ask, "{method:?}");
        assert_eq!(asks == Seen::Unanswerable { id: 6..7 }, !may_ask, "{method:?}");
        let lowers = Lens { method, ..LOWERS() };
        if may_ask {
            assert!(matches!(seen(&lowers, wants), Seen::InputRequired { .. }))
        } else {
            refuse(&lowers, wants)
        }
    }
    let complete = r#"{"id":1,"result": {"resultType":"complete","content":[]}}"#;
    check(&LOWERS(), complete, complete);
}

#[test]
fn notifications_pass_to_those_who_know_them() {
    for (lens, logs, method, passes) in [
        (LIFTS(), None, "notifications/progress", true),
        (LIFTS(), None, "notifications/message", false),
        (LIFTS(), Some(0), "notifications/message", true),
        (LIFTS(), Some(0), "notifications/tools/list_changed", false),
        (LIFTS(), Some(0), "notifications/elicitation/complete", false),
        (LOWERS(), None, "notifications/progress", true),
        (LOWERS(), None, "notifications/message", false),
        (LOWERS(), Some(0), "notifications/message", true),
        (LOWERS(), None, "notifications/tools/list_changed", true),
    ] {
        let message = format!(r#"{{"method":"{method}","params":{{}}}}"#);
        let expected = if passes { Seen::On { changed: false, is_answer: false } } else { Seen::Dropped };
        assert_eq!(seen(&Lens { logs, ..lens }, &message), expected, "{method}");
    }
}

#[test]
fn several_askers_have_ids_of_their_own() {
    let lens = Lens { asker: Some(2), id: Some("9".into()), wraps: Some("a_b".into()), ..OLD() };
    check(&lens, r#"{"id":7,"method":"roots/list"}"#, r#"{"id":"2~n~7","method":"roots/list"}"#);
    check(&lens, r#"{"method":"ping","id" : "x"}"#, r#"{"method":"ping","id" : "2~s~x"}"#);
    check(
        &lens,
        r#"{"params": {"reason":"r","requestId":7},"method":"notifications/cancelled"}"#,
        r#"{"params": {"reason":"r","requestId":"2~n~7"},"method":"notifications/cancelled"}"#,
    );
    check(
        &lens,
        r#"{"params":{"uri":"u:a"},"method":"notifications/resources/updated"}"#,
        r#"{"params":{"uri":"a.b+u:a"},"method":"notifications/resources/updated"}"#,
    );
    refuse(&lens, r#"{"params":{"uri":7},"method":"notifications/resources/updated"}"#);
    refuse(&lens, r#"{"params":{"requestId":7,"request_id":8},"method":"notifications/cancelled"}"#);
}

/// Blocks of content, and the same wrapped.
const BLOCKS: &[(&str, &str)] = &[
    (r#"{"type":"resource_link","uri":"file:///a"}"#, r#"{"type":"resource_link","uri":"a.b+file:///a"}"#),
    (
        r#"{"uri" : "ui:\/\/\u0061\"", "type":"resource_lin\u006b"}"#,
        r#"{"uri" : "ui://a.b/a\"", "type":"resource_lin\u006b"}"#,
    ),
    (
        r#"{"resource":{"text":"t","uri":"u:1","uris":[]},"type":"resource"}"#,
        r#"{"resource":{"text":"t","uri":"a.b+u:1","uris":[]},"type":"resource"}"#,
    ),
    (r#"{"type":"text","text":"u:1","uri":"u:1"}"#, r#"{"type":"text","text":"u:1","uri":"u:1"}"#),
    (r#"{"type":"resource","uri":"u:1"}"#, r#"{"type":"resource","uri":"u:1"}"#),
    (r#"{"type":"resource_link","uri":7}"#, r#"{"type":"resource_link","uri":7}"#),
    ("7", "7"),
];

#[test]
fn uris_say_whose_they_are() {
    for era in [Era::Legacy, Era::Modern] {
        let lens = Lens { wraps: Some("a_b".into()), ..lens(era, era) };
        let message = |result: &str| format!(r#"{{"id":1,"result":{{{result}}}}}"#);
        for (before, after) in BLOCKS {
            for around in [
                [r#""content":[7,"#, "]"],
                [r#""messages":[{"role":"user","content":"#, "}]"],
                [r#""messages":[[],{"content":["#, ",{}]}]"],
            ] {
                check(&lens, &message(&around.join(before)), &message(&around.join(after)));
            }
        }
        check(
            &lens,
            &message(r#""contents": [{"uri":"u:1","text":"u:1"}, 7, {"blob":"","uri":"u:2"}]"#),
            &message(r#""contents": [{"uri":"a.b+u:1","text":"u:1"}, 7, {"blob":"","uri":"a.b+u:2"}]"#),
        );
        let structured =
            message(r#""structuredContent":{"uri":"u:1"},"content":"u:1","contents":{"uri":"u"}"#);
        check(&lens, &structured, &structured);
        for result in [
            r#""content":[],"Content":[]"#,
            r#""content":[{"type":"resource_link","uri":"a","URI":"b"}]"#,
            r#""content":[{"type":"resource_link","uri":"\ud800"}]"#,
            r#""contents":[{"uri":"a","uri":"b"}]"#,
        ] {
            refuse(&lens, &message(result));
        }
    }
}

/// The changes of one lens, on a tree.
fn lifted(mut message: Value) -> Value {
    let wrap = |uri: &mut Value| {
        if let Some(text) = uri.as_str() {
            *uri = uris::wrap("a_b", text).into();
        }
    };
    message["id"] = json!("x");
    let result = message["result"].as_object_mut().unwrap();
    for block in result.get_mut("content").into_iter().flat_map(|list| list.as_array_mut().unwrap()) {
        let kind = block["type"].clone();
        if kind == "resource_link" {
            wrap(&mut block["uri"]);
        } else if kind == "resource" && block.get("resource").is_some() {
            wrap(&mut block["resource"]["uri"]);
        }
    }
    result.entry("resultType").or_insert_with(|| json!("complete"));
    message
}

proptest! {
    #[test]
    fn it_is_the_same_change_as_on_a_tree(
        blocks in proptest::collection::vec(select(BLOCKS), 0..6),
        members in proptest::sample::subsequence(
            vec![r#""isError":false"#, r#""_meta":{"uri":"u","n":1.50}"#, r#""resultType":"task""#], 0..=3),
        space in select(&["", " ", "\r\n"]),
    ) {
        let list: Vec<&str> = blocks.iter().map(|(before, _)| *before).filter(|block| *block != "7").collect();
        let content = format!(r#""content":[{space}{}]"#, list.join(&format!("{space},")));
        let members: Vec<String> = members.into_iter().map(Into::into).chain([content]).collect();
        let message = format!(r#"{space}{{"result":{{{}}}{space},"id":{space}1}}"#, members.join(","));
        let lens = Lens { wraps: Some("a_b".into()), id: Some("\"x\"".into()), ..LIFTS() };
        let out = passed(&lens, &message).unwrap();
        let tree: Value = serde_json::from_str(&message).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), lifted(tree));
        for member in members.iter().filter(|member| !member.starts_with("\"content")) {
            prop_assert!(out.contains(member));
        }
    }

    #[test]
    fn any_bytes_are_judged(message in r#"[{}\[\]",:a-z0-9\\]{0,40}"#) {
        for lens in [OLD(), NEW(), LIFTS(), LOWERS()] {
            if let Ok(Seen::On { .. }) = lens.look(message.as_bytes(), &mut Vec::new()) {
                prop_assert!(serde_json::from_str::<Value>(&message).is_ok());
            }
        }
    }

    #[test]
    fn whatever_comes_keeps_the_promise(
        parts in proptest::collection::vec(select(PIECES), 0..24),
        members in proptest::collection::vec(select(MEMBERS), 0..6),
        first in select(&["0", "1"]),
    ) {
        fuzz::crossing(format!("{first}{}", parts.concat()).as_bytes());
        let members = members.join(",");
        fuzz::crossing(format!("{first}{{{members}}}").as_bytes());
        fuzz::crossing(format!("{first}{{\"params\":{{{members}}},\"id\":1,\"method\":\"m\"}}").as_bytes());
        fuzz::crossing(format!("{first}{{\"result\":{{{members}}},\"id\":1}}").as_bytes());
        fuzz::crossing(format!("{first}{{\"error\":{{{members}}}}}").as_bytes());
    }
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "7",
    "null",
    r#""id""#,
    r#""result""#,
    r#""params":{"#,
    r#""_meta":{"#,
    r#""name":"a""#,
    r#""id":1"#,
    r#""method":"ping""#,
    r#""\u0069d""#,
];

const MEMBERS: &[&str] = &[
    r#""id":1"#,
    r#""id":"7~n~1""#,
    r#""ID":1"#,
    r#""method":"notifications/cancelled""#,
    r#""method":"notifications/resources/updated""#,
    r#""params":{"requestId":1,"uri":"a"}"#,
    r#""params":null"#,
    r#""name" : "n""#,
    r#""_meta":{"io.modelcontextprotocol/a":1 , "b":2}"#,
    r#""_meta":{}"#,
    r#""_meta":null"#,
    r#""requestState":"s""#,
    r#""inputResponses":{"k":{}}"#,
    r#""inputRequests":{"k":{"method":"elicitation/create","params":{"mode":"url"}}}"#,
    r#""result":{}"#,
    r#""result":{"resultType":"input_required"}"#,
    r#""error":{"code":-32042,"data":{"elicitations":[]}}"#,
    r#""code":-32002"#,
    r#""data":{"elicitations":[]}"#,
    r#""content":[{"type":"resource_link","uri":"\u0061"},{"resource":{"uri":"ui://a"},"type":"resource"}]"#,
    r#""contents":[{"uri":"a"}]"#,
    r#""ttlMs":1"#,
];

/// 2026-07-28, logging: nothing below the level that the request names.
#[test]
fn log_messages_pass_from_the_level_on_that_is_wanted() {
    for (params, passes) in [
        (r#"{"level":"debug","data":1}"#, false),
        (r#"{"data":1,"level":"notice"}"#, false),
        (r#"{"level":"warning","data":1}"#, true),
        (r#"{"level":"warn\u0069ng","data":1}"#, true),
        (r#"{"level":"emergency","data":1}"#, true),
        (r#"{"level":"loud","data":1}"#, true),
        (r#"{"level":3}"#, true),
        ("{}", true),
        ("[]", true),
    ] {
        let message = format!(r#"{{"method":"notifications/message","params":{params}}}"#);
        let expected = if passes { Seen::On { changed: false, is_answer: false } } else { Seen::Dropped };
        assert_eq!(seen(&Lens { logs: Some(3), ..LIFTS() }, &message), expected, "{params}");
    }
}
