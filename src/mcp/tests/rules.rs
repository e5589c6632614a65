//! The rules of the envelope and of the headers, case by case.

use super::*;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::envelope::inspect_each;
use crate::mcp::envelope::raw_id;

/// Codes, as the wire shows them.
const PARSE: i32 = -32700;
const REQUEST: i32 = -32600;
const PARAMS: i32 = -32602;
const MISMATCH: i32 = -32020;
const VERSION: i32 = -32022;

#[track_caller]
fn check(body: &str, headers: &McpHeaders<'_>, expected: Result<(CallKind, Era), i32>) {
    let got = verdict(body.as_bytes(), headers);
    let got = got.map(|call| (call.kind, call.era)).map_err(|fault| fault.wire().code);
    assert_eq!(got, expected, "{body}");
}

/// The ordinary modern call with its first `old` replaced.
#[track_caller]
fn edited(old: &str, new: &str) -> String {
    let whole = call(r#"{"x":1}"#);
    assert!(whole.contains(old), "{old}");
    whole.replacen(old, new, 1)
}

const OK: Result<(CallKind, Era), i32> = Ok((CallKind::Request, Era::Modern));
const LEGACY: Result<(CallKind, Era), i32> = Ok((CallKind::Request, Era::Legacy));

fn version(value: &'static str) -> McpHeaders<'static> {
    McpHeaders { protocol_version: HeaderValue::One(value.as_bytes()), ..McpHeaders::NONE }
}

#[test]
fn a_modern_call_is_understood() {
    let trace = r#""_meta":{"traceparent":"00-000102030405060708090a0b0c0d0eff-0123456789abcdef-00","#;
    let body = edited(r#""_meta":{"#, trace);
    let call = verdict(body.as_bytes(), &MODERN).unwrap();
    assert_eq!((call.kind, call.era, call.method), (CallKind::Request, Era::Modern, Method::ToolsCall));
    assert_eq!((call.method_text.as_str(), call.target.as_str()), ("tools/call", "echo"));
    assert_eq!((call.revision.as_str(), call.calls), ("2026-07-28", 1));
    assert_eq!(call.trace_id, Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]));
}

#[test]
fn ambiguous_keys_are_refused() {
    let table = [
        (r#""method":"tools/call""#, r#""method":"tools/call","method":"tools/list""#),
        (r#""method":"tools/call""#, r#""method":"tools/call","method":"tools/call""#),
        (r#""method":"tools/call""#, r#""method":"tools/call","m\u0065thod":"tools/list""#),
        (r#""method":"tools/call""#, r#""method":"tools/call","Method":"tools/list""#),
        (r#""method":"#, r#""METHOD":"#),
        (r#""id":7"#, r#""id":7,"id":8"#),
        (r#""id":7"#, r#""id":7,"\u0049D":8"#),
        (r#""jsonrpc":"2.0""#, r#""jsonrpc":"2.0","jsonrpc":"1.0""#),
        (r#""jsonrpc":"2.0""#, "\"jsonrpc\":\"2.0\",\"json\u{17f}pc\":1,\"JSONRPC\":0"),
        (r#""params":{"#, r#""params":{"name":"other"},"params":{"#),
        (r#""params":{"#, "\"param\u{17f}\":{},\"params\":{"),
        (r#""params":{"#, r#""param\u017f":{},"params":{"#),
        (r#""name":"echo""#, r#""name":"echo","name":"other""#),
        (r#""name":"echo""#, r#""name":"other","name":"echo""#),
        (r#""name":"echo""#, r#""name":"echo","Name":"other""#),
        (r#""name":"echo""#, r#""name":"echo","n\u0061me":"other""#),
        (r#""name":"echo""#, r#""name":"echo","URI":"x""#),
        (r#""name":"echo""#, "\"name\":\"echo\",\"ta\u{17f}\u{212a}id\":\"x\""),
        (r#""name":"echo""#, "\"name\":\"echo\",\"ur\u{131}\":\"x\""),
        (r#""name":"echo""#, r#""name":"echo","Arguments":{}"#),
        (r#""name":"echo""#, r#""name":"echo","arguments":{}"#),
        (r#""name":"echo""#, r#""name":"echo","requeststate":"x""#),
        (r#""_meta":{"#, r#""_meta":{},"_meta":{"#),
        (r#""_meta":{"#, r#""_META":{},"_meta":{"#),
        (r#""_meta":{"#, r#""_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28","#),
        (r#""_meta":{"#, r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#),
        (r#""_meta":{"#, r#""_meta":{"traceparent":"","Traceparent":"","#),
        (r#""_meta":{"#, r#""_meta":{"progre\u017fsToken":1,"#),
        // A key that no Unicode text can express, at each level.
        (r#""id":7"#, r#""id":7,"\ud800":8"#),
        (r#""name":"echo""#, r#""name":"echo","\udc00x":1"#),
        (r#""_meta":{"#, r#""_meta":{"a\ud800":1,"#),
    ];
    for (old, new) in table {
        check(&edited(old, new), &MODERN, Err(REQUEST));
    }
}

#[test]
fn keys_that_are_not_critical_where_they_stand_pass() {
    let table = [
        (r#""id":7"#, r#""id":7,"name":1,"Name":2,"name":3"#),
        (r#""id":7"#, r#""id":7,"vendor":{"id":1,"id":2,"ID":3}"#),
        (r#""name":"echo""#, r#""name":"echo","method":1,"Method":2,"method":3"#),
        (r#""name":"echo""#, r#""name":"echo","x":{"name":1,"Name":2}"#),
        (r#""_meta":{"#, r#""_meta":{"name":1,"Name":2,"name":3,"#),
        (r#""x":1"#, r#""x":1,"x":2,"X":3,"name":"a","Name":"b","name":"c""#),
        (r#""x":1"#, r#""_meta":{"traceparent":1,"Traceparent":2},"__proto__":{},"":0"#),
        // Spelled with escapes only, a key is still the key.
        (r#""method""#, r#""m\u0065th\u006fd""#),
        (r#""params""#, r#""\u0070arams""#),
        (r#""_meta""#, r#""\u005fmeta""#),
    ];
    for (old, new) in table {
        check(&edited(old, new), &MODERN, OK);
    }
}

#[test]
fn what_is_no_request_is_refused() {
    for body in [r#""hello""#, "1", "null", "true", "[]", "[1]", "{}"] {
        check(body, &McpHeaders::NONE, Err(REQUEST));
    }
    let table = [
        (r#""jsonrpc":"2.0","#, ""),
        (r#""2.0""#, r#""1.0""#),
        (r#""2.0""#, "2.0"),
        (r#""2.0""#, r#""2.0 ""#),
        (r#""2.0""#, "null"),
        (r#""method":"tools/call","#, ""),
        (r#""tools/call""#, "7"),
        (r#""tools/call""#, r#""""#),
        (r#""tools/call""#, "null"),
        (r#""tools/call""#, r#""tools/call\ud800""#),
        (r#""id":7"#, r#""id":null"#),
        (r#""id":7"#, r#""id":true"#),
        (r#""id":7"#, r#""id":[1]"#),
        (r#""id":7"#, r#""id":{}"#),
        (r#""id":7"#, r#""id":1.5"#),
        (r#""id":7"#, r#""id":1.0"#),
        (r#""id":7"#, r#""id":1e3"#),
        (r#""id":7"#, r#""id":1e400"#),
        (r#""id":7"#, r#""id":"\ud800""#),
        // A tool call that nobody could see answered.
        (r#""id":7,"#, ""),
        (r#""id":7"#, r#""id":7,"result":{}"#),
        (r#""id":7"#, r#""id":7,"error":{}"#),
    ];
    for (old, new) in table {
        check(&edited(old, new), &MODERN, Err(REQUEST));
    }
    for params in ["[]", "null", r#""x""#, "1"] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{params}}}"#);
        check(&body, &McpHeaders::NONE, Err(REQUEST));
    }
}

#[test]
fn ids_of_any_size_and_form_pass_and_are_found() {
    let text = |len| format!("\"{}\"", "z".repeat(len));
    let escaped = format!("\"{}\"", r"\u0061".repeat(1300));
    let long_integer = "9".repeat(400);
    let pass = [
        "0",
        "-0",
        "-7",
        "9007199254740993",
        "9223372036854775807",
        "18446744073709551616",
        r#""""#,
        r#""1""#,
        r#""a\u0062\n""#,
        r#""\ud83d\ude00""#,
        &text(4096),
        &text(limits::ID_BYTES_MAX - 2),
        &escaped,
        &long_integer,
    ];
    for id in pass {
        let body = edited(r#""id":7"#, &format!(r#""id": {id}"#));
        check(&body, &MODERN, OK);
        assert_eq!(raw_id(body.as_bytes()).map(|range| &body[range]), Some(id));
    }
    let long_escaped = format!("\"{}\"", r"\u0061".repeat(1366));
    for id in [&text(limits::ID_BYTES_MAX - 1), &long_escaped, &"9".repeat(limits::ID_BYTES_MAX + 1)] {
        let body = edited(r#""id":7"#, &format!(r#""id":{id}"#));
        check(&body, &MODERN, Err(REQUEST));
        assert_eq!(raw_id(body.as_bytes()), None);
    }
}

#[test]
fn an_id_is_given_back_only_where_it_is_clear() {
    let check = |body: &str, expected: Option<&str>| {
        assert_eq!(raw_id(body.as_bytes()).map(|range| &body[range]), expected, "{body}");
    };
    check(r#"{"id":1}"#, Some("1"));
    check(r#"{"method":"x","method":"y","\u0069d" : "q7" }"#, Some(r#""q7""#));
    check(r#"{"params":{"id":1}}"#, None);
    check(r#"{"id":1,"id":1}"#, None);
    check(r#"{"id":1,"Id":2}"#, None);
    check(r#"{"id":null}"#, None);
    check(r#"{"id":1.0}"#, None);
    check(r#"{"id":"\udfff"}"#, None);
    check(r#"{"id":1"#, None);
    check(r#"[{"id":1}]"#, None);
    check("", None);
}

#[test]
fn names_are_needed_where_the_method_has_one() {
    let table = [
        (r#""name":"echo","#, ""),
        (r#""name":"echo""#, r#""name":5"#),
        (r#""name":"echo""#, r#""name":{"a":"echo"}"#),
        (r#""name":"echo""#, r#""name":null"#),
        (r#""name":"echo""#, r#""name":"echo\ud800""#),
        (r#""name":"echo""#, r#""name":"\ud800\ud800""#),
    ];
    for (old, new) in table {
        check(&edited(old, new), &MODERN, Err(PARAMS));
    }
    let legacy = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#)
    };
    let table = [
        ("tools/call", "name"),
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("resources/subscribe", "uri"),
        ("resources/unsubscribe", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/update", "taskId"),
        ("tasks/cancel", "taskId"),
        ("tasks/result", "taskId"),
    ];
    for (method, key) in table {
        check(&legacy(method, ""), &McpHeaders::NONE, Err(PARAMS));
        check(&legacy(method, &format!(r#""{key}":1"#)), &McpHeaders::NONE, Err(PARAMS));
        let body = legacy(method, &format!(r#""{key}":"caf\u00e9""#));
        check(&body, &McpHeaders::NONE, LEGACY);
        assert_eq!(verdict(body.as_bytes(), &McpHeaders::NONE).unwrap().target.as_str(), "café");
    }
    let long = |len| legacy("tools/call", &format!(r#""name":"{}""#, "n".repeat(len)));
    check(&long(limits::NAME_BYTES_MAX), &McpHeaders::NONE, LEGACY);
    check(&long(limits::NAME_BYTES_MAX + 1), &McpHeaders::NONE, Err(PARAMS));
    check(&legacy("tools/list", r#""name":5"#), &McpHeaders::NONE, LEGACY);
}

#[test]
fn the_era_is_told_by_the_body() {
    let legacy = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    check(legacy, &McpHeaders::NONE, LEGACY);
    check(legacy, &version("2025-06-18"), LEGACY);
    check(legacy, &version(" 2024-11-05\t"), LEGACY);
    check(legacy, &version("2026-07-28"), Err(PARAMS));
    check(legacy, &version("2099-01-01"), Err(REQUEST));
    check(legacy, &version(""), Err(REQUEST));
    check(legacy, &McpHeaders { protocol_version: HeaderValue::Twice, ..McpHeaders::NONE }, Err(REQUEST));
    // Older revisions do not have these headers: whatever they say proves nothing.
    check(
        legacy,
        &McpHeaders { method: HeaderValue::One(b"ping"), name: HeaderValue::Twice, ..McpHeaders::NONE },
        LEGACY,
    );
    // A claim that is no text is a claim.
    check(&edited(r#""2026-07-28""#, "20260728"), &MODERN, Err(PARAMS));
    check(&edited(r#""2026-07-28""#, r#""2026-07-28\ud800""#), &MODERN, Err(PARAMS));
    let initialize = |params: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"2025-11-25"{params}}}}}"#
        )
    };
    let call = verdict(initialize("").as_bytes(), &McpHeaders::NONE).unwrap();
    assert_eq!((call.era, call.revision.as_str()), (Era::Legacy, "2025-11-25"));
    let claim = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let headers =
        McpHeaders { method: HeaderValue::One(b"initialize"), name: HeaderValue::Missing, ..MODERN };
    check(&initialize(claim), &headers, OK);
    assert_eq!(verdict(legacy.as_bytes(), &version("2025-03-26")).unwrap().revision.as_str(), "2025-03-26");
}

#[test]
fn a_notification_without_a_claim_follows_its_header() {
    let body = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    check(body, &McpHeaders::NONE, Ok((CallKind::Notification, Era::Legacy)));
    let headers =
        McpHeaders { method: HeaderValue::One(b"notifications/cancelled"), ..version("2026-07-28") };
    check(body, &headers, Ok((CallKind::Notification, Era::Modern)));
    assert_eq!(verdict(body.as_bytes(), &headers).unwrap().revision.as_str(), "2026-07-28");
    check(body, &version("2026-07-28"), Err(MISMATCH));
    let claim = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    check(claim, &headers, Ok((CallKind::Notification, Era::Modern)));
    check(claim, &McpHeaders::NONE, Err(MISMATCH));
}

#[test]
fn headers_agree_with_the_body() {
    let body = call("{}");
    let one = |value: &'static str| HeaderValue::One(value.as_bytes());
    let check_headers = |headers: McpHeaders<'_>, expected| check(&body, &headers, expected);
    for value in [
        HeaderValue::Missing,
        HeaderValue::Twice,
        one("tools/list"),
        one("Tools/Call"),
        one("tools%2Fcall"),
        one(""),
    ] {
        check_headers(McpHeaders { method: value, ..MODERN }, Err(MISMATCH));
    }
    let wrong = [
        HeaderValue::Missing,
        HeaderValue::Twice,
        one("other"),
        one("echo, echo"),
        one("Echo"),
        one(""),
        one("=?base64?YWRtaW4=?="),
        one("=?base64?!!!?="),
        one("=?BASE64?ZWNobw==?="),
        one("=?base64?//4=?="),
        one("=?base64?ZWNobwA=?="),
        one("=?base64?ZWNobw?="),
        one("=?base64? ZWNobw==?="),
        HeaderValue::One(b"echo\0"),
        HeaderValue::One(b"ech\xc3\xb3"),
    ];
    for value in wrong {
        check_headers(McpHeaders { name: value, ..MODERN }, Err(MISMATCH));
    }
    for value in [HeaderValue::Missing, HeaderValue::Twice, one("2025-11-25"), one("2026-07-28, 2026-07-28")]
    {
        check_headers(McpHeaders { protocol_version: value, ..MODERN }, Err(MISMATCH));
    }
    for value in [one("echo"), one("\t echo "), one("=?base64?ZWNobw==?=")] {
        check_headers(McpHeaders { name: value, ..MODERN }, OK);
    }
    check_headers(McpHeaders { session: true, ..MODERN }, OK);
    // Raw bytes above ASCII have no meaning in a field value (RFC 9110 section 5.5), even equal ones.
    let raw = McpHeaders { method: HeaderValue::One("caf\u{e9}".as_bytes()), ..MODERN };
    check(&edited("tools/call", "caf\u{e9}"), &raw, Err(MISMATCH));
    // Compared after unescaping.
    check(&edited(r#""echo""#, r#""\u0065ch\u006f""#), &MODERN, OK);
    let crlf = McpHeaders { name: one("=?base64?YQ0KYg==?="), ..MODERN };
    check(&edited(r#""echo""#, r#""a\r\nb""#), &crlf, OK);
}

#[test]
fn a_version_that_we_do_not_serve() {
    let body = call("{}").replace("2026-07-28", "2099-01-01");
    let headers = McpHeaders { protocol_version: HeaderValue::One(b"2099-01-01"), ..MODERN };
    check(&body, &headers, Err(VERSION));
    // Agreement comes first.
    check(&body, &MODERN, Err(MISMATCH));
    let headers = McpHeaders { protocol_version: HeaderValue::One(b"2025-11-25"), ..MODERN };
    check(&call("{}").replace("2026-07-28", "2025-11-25"), &headers, Err(VERSION));
}

#[test]
fn capabilities_are_in_each_request() {
    check(&edited(r#","io.modelcontextprotocol/clientCapabilities":{}"#, ""), &MODERN, Err(PARAMS));
    check(&edited(r#"clientCapabilities":{}"#, r#"clientCapabilities":[]"#), &MODERN, Err(PARAMS));
    check(&edited(r#"clientCapabilities":{}"#, r#"clientCapabilities":null"#), &MODERN, Err(PARAMS));
}

#[test]
fn a_name_header_that_nothing_can_contradict_passes() {
    let list = call("{}").replace("tools/call", "tools/list");
    let headers = McpHeaders { method: HeaderValue::One(b"tools/list"), ..MODERN };
    check(&list, &headers, OK);
    check(&list, &McpHeaders { name: HeaderValue::Missing, ..headers }, OK);
    check(&list, &McpHeaders { name: HeaderValue::Twice, ..headers }, Err(MISMATCH));
}

#[test]
fn responses_are_legacy() {
    let response = Ok((CallKind::Response, Era::Legacy));
    let table = [
        (r#""id":1,"result":{}"#, response),
        (r#""id":"a","error":{"code":1,"message":"x"}"#, response),
        (r#""error":{"code":1,"message":"x"}"#, response),
        (r#""result":{}"#, Err(REQUEST)),
        (r#""id":null,"result":{}"#, Err(REQUEST)),
        (r#""id":null,"error":{}"#, Err(REQUEST)),
        (r#""id":1,"result":{},"error":{}"#, Err(REQUEST)),
        (r#""id":1,"result":{},"error":null"#, Err(REQUEST)),
        (r#""id":1,"error":"x""#, Err(REQUEST)),
        (r#""id":1,"result":{},"Result":{}"#, Err(REQUEST)),
        (r#""id":1"#, Err(REQUEST)),
    ];
    for (members, expected) in table {
        let body = format!(r#"{{"jsonrpc":"2.0",{members}}}"#);
        check(&body, &McpHeaders::NONE, expected);
        check(&body, &version("2025-11-25"), expected);
        check(&body, &version("2026-07-28"), Err(REQUEST));
        check(&body, &version("1999-01-01"), Err(REQUEST));
    }
}

#[test]
fn batches_belong_to_one_revision() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let batch = Ok((CallKind::Batch, Era::Legacy));
    let many = |count| format!("[{}]", vec![ping; count].join(" ,\n"));
    for headers in [McpHeaders::NONE, version("2025-03-26")] {
        check(&format!(" [ {ping} , {note} ] "), &headers, batch);
        check(&many(limits::BATCH_CALLS_MAX), &headers, batch);
        check(&many(limits::BATCH_CALLS_MAX + 1), &headers, Err(REQUEST));
        check("[]", &headers, Err(REQUEST));
        check("[ ]", &headers, Err(REQUEST));
        check("[[]]", &headers, Err(REQUEST));
        check(&format!("[{ping},1]"), &headers, Err(REQUEST));
        check(&format!("[{ping},[{ping}]]"), &headers, Err(REQUEST));
        check(
            &format!("[{ping},{}]", r#"{"jsonrpc":"2.0","id":2,"id":3,"method":"ping"}"#),
            &headers,
            Err(REQUEST),
        );
        check(
            &format!("[{ping},{}]", r#"{"jsonrpc":"2.0","id":2,"method":"initialize"}"#),
            &headers,
            Err(REQUEST),
        );
        check(
            &format!("[{ping},{}]", r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#),
            &headers,
            Err(PARAMS),
        );
        check(&format!("[{ping},{}]", call("{}")), &headers, Err(REQUEST));
        check(&format!("[{ping},]"), &headers, Err(PARSE));
        check(&format!("[{ping}{ping}]"), &headers, Err(PARSE));
    }
    for value in ["2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28", "x"] {
        check(&many(2), &version(value), Err(REQUEST));
    }
    check(&many(2), &McpHeaders { protocol_version: HeaderValue::Twice, ..McpHeaders::NONE }, Err(REQUEST));
    check(&format!("[{}]", call("{}")), &MODERN, Err(REQUEST));

    let mut seen = Vec::new();
    let body = format!("[{ping},{note}]");
    let whole = inspect_each(&mut Scratch::new(), body.as_bytes(), &McpHeaders::NONE, &mut |call| {
        seen.push((call.kind, call.method_text.as_str().to_owned()));
    });
    assert_eq!(whole.map(|call| call.calls), Ok(2));
    let expected = [
        (CallKind::Request, "ping".to_owned()),
        (CallKind::Notification, "notifications/initialized".to_owned()),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn every_refusal_stands_alone() {
    let bodies = ["", "{", "\u{feff}{}", "1", "[]", "{}", r#"{"jsonrpc":"2.0","id":1}"#];
    for body in bodies {
        let fault = verdict(body.as_bytes(), &MODERN).unwrap_err();
        assert!(fault.detail.ends_with('.') && fault.detail.contains(". "), "{}", fault.detail);
        assert!(matches!(fault.kind, Kind::ParseError | Kind::InvalidRequest));
    }
}

#[test]
fn methods_have_one_name_each() {
    for method in Method::NAMED {
        assert_eq!(Method::from_text(method.as_str()), *method);
    }
    assert_eq!(Method::from_text("tools/Call"), Method::Other);
    assert_eq!(Method::from_text("other"), Method::Other);
    assert_eq!(Method::from_text(""), Method::Other);
}
