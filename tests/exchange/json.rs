//! The gateway and the upstream read the same message, or the message is refused. Each table runs with
//! small bodies and with bodies beyond 64 KiB, which take another parser.
//!
//! Not here: header against body (headers).

use crate::lab::Lab;
use crate::support::Era;
use crate::support::call::Call;
use crate::support::on_every_driver;
use std::time::Duration;
use std::time::Instant;

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
/// No specification fixes the code.
const ANY: i64 = 0;

/// How a good body becomes the row's.
#[derive(Clone, Copy)]
enum Edit {
    /// The first text becomes the second.
    Replace(&'static str, &'static str),
    /// The argument `x` becomes these bytes.
    Argument(&'static [u8]),
    /// The whole body.
    Whole(&'static [u8]),
    Before(&'static [u8]),
    After(&'static [u8]),
}

use Edit::Argument;
use Edit::Before;
use Edit::Replace;
use Edit::Whole;

fn edited(body: &str, edit: Edit) -> Vec<u8> {
    match edit {
        Replace(old, new) => {
            assert!(body.contains(old), "{old} is not in {body}");
            body.replacen(old, new, 1).into()
        }
        Argument(bytes) => {
            let (front, back) = body.split_once("\"x\":{}").unwrap();
            [front.as_bytes(), b"\"x\":", bytes, back.as_bytes()].concat()
        }
        Whole(bytes) => bytes.into(),
        Before(bytes) => [bytes, body.as_bytes()].concat(),
        Edit::After(bytes) => [body.as_bytes(), bytes].concat(),
    }
}

/// The good call, small or beyond what simd-json parses.
fn good(lab: &Lab, large: bool) -> Call {
    let call = lab.gw.modern("up", "echo");
    if large { call.member("pad", &format!("\"{}\"", "p".repeat(70_000))) } else { call }
}

/// Every row is refused with 400 and its code, and nothing reaches the upstream.
fn refuse(rows: &[(&str, Edit, i64)]) {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for large in [false, true] {
            for (name, edit, code) in rows {
                let call = good(&lab, large);
                let parts = crate::lab::Parts { token: call.token.clone(), ..lab.parts() };
                let raw = call.raw().body(edited(&call.body(), *edit));
                let name = format!("{name}, large: {large}");
                let answer = lab.refused(&name, &parts, &raw.bytes(), &[400]);
                assert!(*code == ANY || answer.code() == *code, "{name}: {answer:?}");
            }
        }
        lab.finish();
    });
}

/// Every row arrives byte for byte.
fn keep(rows: &[(&str, Edit)]) {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for large in [false, true] {
            for (name, edit) in rows {
                let call = good(&lab, large);
                let raw = call.raw().body(edited(&call.body(), *edit));
                lab.kept(&format!("{name}, large: {large}"), &raw, &call.token);
            }
        }
    });
}

#[test]
fn two_readers_two_meanings_are_refused() {
    refuse(&[
        ("method twice", Replace(r#""method":"#, r#""method":"tools/list","method":"#), ANY),
        ("method twice, equal", Replace(r#""method":"#, r#""method":"tools/call","method":"#), ANY),
        ("params twice", Replace(r#""params":{"#, r#""params":{"name":"admin"},"params":{"#), ANY),
        ("name twice", Replace(r#""name":"echo""#, r#""name":"echo","name":"admin""#), ANY),
        ("name twice, other order", Replace(r#""name":"echo""#, r#""name":"admin","name":"echo""#), ANY),
        ("id twice", Replace(r#""id":1"#, r#""id":1,"id":2"#), ANY),
        ("jsonrpc twice", Replace(r#""jsonrpc":"2.0""#, r#""jsonrpc":"2.0","jsonrpc":"1.0""#), ANY),
        ("_meta twice", Replace(r#""_meta":{"#, r#""_meta":{},"_meta":{"#), ANY),
        (
            "version twice",
            Replace(
                r#""io.modelcontextprotocol/protocolVersion":"#,
                r#""io.modelcontextprotocol/protocolVersion":"2025-11-25","io.modelcontextprotocol/protocolVersion":"#,
            ),
            ANY,
        ),
        ("method, escaped", Replace(r#""method":"#, r#""m\u0065thod":"tools/list","method":"#), ANY),
        ("name, escaped", Replace(r#""name":"echo""#, r#""name":"echo","n\u0061me":"admin""#), ANY),
        ("Method", Replace(r#""method":"#, r#""Method":"tools/list","method":"#), ANY),
        ("Name", Replace(r#""name":"echo""#, r#""name":"echo","Name":"admin""#), ANY),
        ("Name, escaped", Replace(r#""name":"echo""#, r#""name":"echo","\u004eame":"admin""#), ANY),
        (
            "params with a long s",
            Replace(r#""params":{"#, "\"param\u{17f}\":{\"name\":\"admin\"},\"params\":{"),
            ANY,
        ),
        ("METHOD alone", Replace(r#""method""#, r#""METHOD""#), ANY),
        ("result beside method", Replace(r#""id":1"#, r#""id":1,"Result":{}"#), ANY),
    ]);
}

#[test]
fn what_is_no_json_is_32700() {
    refuse(&[
        ("bytes after the value", Edit::After(b"x"), PARSE_ERROR),
        ("a second value", Edit::After(b"\n{}"), PARSE_ERROR),
        ("NUL after the value", Edit::After(b"\0"), PARSE_ERROR),
        ("UTF-16", Whole(b"{\0\"\0a\0\"\0:\x001\x00}\0"), PARSE_ERROR),
        ("single quotes", Whole(b"{'jsonrpc':'2.0','id':1,'method':'ping'}"), PARSE_ERROR),
        ("no body", Whole(b""), PARSE_ERROR),
        ("whitespace", Whole(b" \r\n\t "), PARSE_ERROR),
        ("bare key", Replace(r#""id":1"#, "id:1"), PARSE_ERROR),
        ("trailing comma", Replace(r#""id":1,"#, r#""id":1,,"#), PARSE_ERROR),
        ("comment", Replace(r#""id":1"#, r#""id":1/*c*/"#), PARSE_ERROR),
        ("cut", Replace("}}}", "}}"), PARSE_ERROR),
        ("0xff in a string", Argument(b"\"\xff\""), PARSE_ERROR),
        ("overlong slash", Argument(b"\"\xc0\xaf\""), PARSE_ERROR),
        ("surrogate in UTF-8", Argument(b"\"\xed\xa0\x80\""), PARSE_ERROR),
        ("cut sequence", Argument(b"\"\xe4\xb8\""), PARSE_ERROR),
        ("beyond U+10FFFF", Argument(b"\"\xf4\x90\x80\x80\""), PARSE_ERROR),
        ("control character", Argument(b"\"a\x01b\""), PARSE_ERROR),
        ("newline in a string", Argument(b"\"a\nb\""), PARSE_ERROR),
        ("bad escape", Argument(b"\"\\x41\""), PARSE_ERROR),
        ("short escape", Argument(b"\"\\u12\""), PARSE_ERROR),
        ("NaN", Argument(b"NaN"), PARSE_ERROR),
        ("Infinity", Argument(b"-Infinity"), PARSE_ERROR),
        ("leading zero", Argument(b"012"), PARSE_ERROR),
        ("plus", Argument(b"+1"), PARSE_ERROR),
        ("trailing dot", Argument(b"1."), PARSE_ERROR),
        ("no digit in front", Argument(b".5"), PARSE_ERROR),
        ("hexadecimal", Argument(b"0x10"), PARSE_ERROR),
        ("form feed between values", Argument(b"\x0c1"), PARSE_ERROR),
        ("trailing comma in an array", Argument(b"[1,]"), PARSE_ERROR),
        ("byte order mark", Before(b"\xef\xbb\xbf"), ANY),
    ]);
}

#[test]
fn what_is_no_request_is_refused() {
    refuse(&[
        ("string", Whole(b"\"hello\""), INVALID_REQUEST),
        ("number", Whole(b"1"), INVALID_REQUEST),
        ("null", Whole(b"null"), INVALID_REQUEST),
        ("no jsonrpc", Replace(r#""jsonrpc":"2.0","#, ""), INVALID_REQUEST),
        ("jsonrpc 1.0", Replace(r#""2.0""#, r#""1.0""#), INVALID_REQUEST),
        ("jsonrpc a number", Replace(r#""2.0""#, "2.0"), INVALID_REQUEST),
        ("batch", Whole(br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#), INVALID_REQUEST),
        ("empty batch", Whole(b"[]"), INVALID_REQUEST),
        ("no method", Replace(r#""method":"tools/call","#, ""), ANY),
        ("method a number", Replace(r#""tools/call""#, "7"), ANY),
        ("empty method", Replace(r#""tools/call""#, r#""""#), ANY),
        ("params an array", Replace(r#""params":{"#, r#""params":[],"other":{"#), ANY),
        ("name a number", Replace(r#""name":"echo""#, r#""name":5"#), ANY),
        ("no name", Replace(r#""name":"echo","#, ""), ANY),
        ("name an object", Replace(r#""name":"echo""#, r#""name":{"a":1}"#), ANY),
        ("lone surrogate in the name", Replace(r#""name":"echo""#, r#""name":"echo\ud800""#), ANY),
        ("id null", Replace(r#""id":1"#, r#""id":null"#), ANY),
        ("id true", Replace(r#""id":1"#, r#""id":true"#), ANY),
        ("id an array", Replace(r#""id":1"#, r#""id":[1]"#), ANY),
        ("id an object", Replace(r#""id":1"#, r#""id":{}"#), ANY),
        ("id a fraction", Replace(r#""id":1"#, r#""id":1.5"#), ANY),
        ("a response", Replace(r#""method":"tools/call","params""#, r#""result""#), ANY),
    ]);
}

#[test]
fn depth_is_bounded_without_a_stack() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let deep =
            |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for (name, argument) in [
            ("arrays", deep("[", "]", 100_000)),
            ("objects", deep("{\"a\":", "}", 50_000)),
            ("unclosed", "[".repeat(500_000)),
            ("one too many", deep("[", "]", 126)),
        ] {
            let call = lab.gw.modern("up", "echo").argument(argument);
            let parts = crate::lab::Parts { token: call.token.clone(), ..lab.parts() };
            let answer = lab.refused(name, &parts, &call.raw().bytes(), &[400]);
            assert_eq!(answer.code(), PARSE_ERROR, "{name}");
        }
        // The message, params and arguments are three levels of 128.
        let call = lab.gw.modern("up", "echo").argument(deep("[", "]", 125));
        lab.kept("as deep as it may be", &call.raw(), &call.token);
        lab.finish();
    });
}

#[test]
fn valid_json_arrives_byte_for_byte() {
    keep(&[
        ("long number", Argument(b"12345678901234567890.123456789012345678e-3")),
        ("1e400", Argument(b"1e400")),
        ("2^63", Argument(b"9223372036854775808")),
        ("2^200", Argument(b"1606938044258990275541962092341162602522202993782792835301376")),
        ("-0", Argument(b"-0")),
        ("UTF-8", Argument("\"\u{65e5}\u{1f600}\u{2028}\u{e9}\"".as_bytes())),
        ("escapes", Argument(br#""\u0000 \/ \u00e9 \ud83d\ude00 \b\f\n\r\t\"\\""#)),
        ("case variants in arguments", Argument(br#"{"k":1,"K":2,"method":1,"Method":2}"#)),
        ("__proto__", Argument(br#"{"__proto__":{"admin":true},"constructor":1}"#)),
        ("empty key", Argument(br#"{"":0}"#)),
        ("32 levels", Argument(b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]")),
        ("unknown member", Replace(r#""id":1"#, r#""id":1,"vendor":{"a":[1,2,{"b":null}]}"#)),
        ("spaces", Replace(r#","params":{"#, " ,\r\n\t\"params\" : { ")),
        ("space before", Before(b" \r\n\t")),
        ("space after", Edit::After(b" \r\n\t")),
    ]);
}

/// Where two answers are right: refused, or forwarded as it came, never repaired.
#[test]
fn borderline_json_is_refused_or_kept() {
    let rows = [
        Argument(br#""\ud800""#),
        Argument(br#"{"k":1,"k":2}"#),
        Replace(r#""method""#, r#""m\u0065thod""#),
        Replace(r#""name":"echo""#, r#""name":"\u0065cho""#),
        Replace(r#""id":1"#, r#""id":18446744073709551616"#),
    ];
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for (edit, large) in rows.into_iter().flat_map(|edit| [(edit, false), (edit, true)]) {
            let call = good(&lab, large);
            let raw = call.raw().body(edited(&call.body(), edit));
            match lab.gw.client().talk(&raw.bytes()).unwrap().status {
                200 => assert!(lab.up.once(&call.token).body == raw.body),
                status => assert_eq!((status, lab.up.mentions(&call.token)), (400, 0)),
            }
        }
    });
}

#[test]
fn ids_come_back_as_the_same_bytes() {
    let long = format!("\"{}\"", "z".repeat(4096));
    let ids = [
        "0",
        "-7",
        "9007199254740993",
        "9223372036854775807",
        "\"abc\"",
        "\"\"",
        "\"1\"",
        r#""a\u0062\n""#,
        &long,
    ];
    crate::support::everywhere(|run| {
        let lab = Lab::new(run);
        for id in ids {
            let call = lab.gw.call("up", "echo").id(id);
            let answer = call.send();
            assert!(answer.text().contains(&format!("\"id\":{id},")), "{id}: {answer:?}");
            // A refusal carries the same bytes too; the older era has no header to disagree with.
            if run.era == Era::Modern {
                let raw = lab.gw.modern("up", "echo").id(id).raw().without("mcp-name");
                let refused = lab.gw.client().talk(&raw.bytes()).unwrap();
                assert!(refused.text().contains(&format!("\"id\":{id}")), "{id}: {refused:?}");
            }
        }
    });
}

#[test]
fn what_is_not_labelled_json_is_415() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for field in [
            "Content-Type: text/plain",
            "Content-Type: application/json; charset=utf-16",
            "Content-Type: application/json, text/plain",
            "X-No-Content-Type: 1",
            "Content-Type: application/json\r\nContent-Type: application/json",
            "Content-Type: application/json\r\nContent-Encoding: gzip",
        ] {
            let parts = lab.parts();
            let raw = parts.good.clone().without("content-type").field(field);
            lab.refused(field, &parts, &raw.bytes(), &[415, 400]);
        }
        for field in [
            "Content-Type: application/json; charset=utf-8",
            "Content-Type: Application/JSON;charset=\"UTF-8\"",
        ] {
            let parts = lab.parts();
            lab.kept(field, &parts.good.clone().without("content-type").field(field), &parts.token);
        }
    });
}

#[test]
fn many_keys_cost_linear_time() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let keys: Vec<String> = (0..60_000).map(|index| format!("\"k{index}\":{index}")).collect();
        let call = lab.gw.modern("up", "echo").argument(format!("{{{}}}", keys.join(",")));
        let start = Instant::now();
        lab.kept("60,000 keys", &call.raw(), &call.token);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    });
}
