//! The scan mode of answers: what an upstream answered, learned from the bytes as they pass.
//!
//! Not here: changing an answer, or holding one back. A fact that is not seen is unknown, never a reason
//! to stop the answer; nothing that protects anybody rests on it.
//!
//! Two machines, one inside the other: `Line` takes the `data` out of an event stream, `Message`
//! looks at the JSON. Both keep a fixed state between two pieces, so that cuts change nothing.

mod bytes;
mod message;

use crate::config::limits;
use crate::mcp::answer::message::Message;
use memchr::memchr2;

/// What kind of body is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    EventStream,
    /// Nothing is looked at.
    Opaque,
}

/// `result.resultType` (2026-07-28; absent in older revisions).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultType {
    #[default]
    Unknown,
    Complete,
    InputRequired,
    Other,
}

/// What was learned so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerFacts {
    pub error_code: Option<i32>,
    pub has_result: bool,
    /// `result.isError` of a tool.
    pub is_error: bool,
    pub result_type: ResultType,
    /// Whether the result has a `_meta`.
    pub has_meta: bool,
    /// Whether the message was seen to its end.
    pub complete: bool,
}

/// A streaming scanner; fixed size, no allocation, never fails.
///
/// It stops for good at the end of the first message with a `result` or an `error`, after
/// `ANSWER_SCAN_BYTES_MAX` bytes, and in JSON at the first byte that it does not understand. It does not
/// validate. A critical key that is written with escapes is not understood and stays unknown.
#[derive(Clone, Debug)]
pub struct AnswerScan {
    form: Form,
    /// Bytes that may still be looked at; 0: done.
    left: usize,
    line: Line,
    message: Message,
}

impl AnswerScan {
    pub fn new(form: Form) -> Self {
        let left = if form == Form::Opaque { 0 } else { limits::ANSWER_SCAN_BYTES_MAX };
        Self { form, left, line: Line::Prefix(0), message: Message::new() }
    }

    /// The next bytes of the body, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let seen = bytes.len().min(self.left);
        let Some(bytes) = bytes.get(..seen) else { return };
        self.left -= seen;
        if self.form == Form::Json {
            self.message.feed(bytes);
        } else {
            self.feed_lines(bytes);
        }
        if self.message.facts.complete {
            self.left = 0;
        }
    }

    pub fn facts(&self) -> AnswerFacts {
        self.message.facts
    }

    /// Whether more came than is looked at, so that facts are unknown which the rest would tell.
    pub fn is_cut_short(&self) -> bool {
        self.form != Form::Opaque && self.left == 0 && !self.message.facts.complete
    }

    fn feed_lines(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.line == Line::Prefix(0)
                && let Some(data) = bytes.strip_prefix(FIELD)
            {
                self.line = Line::Data;
                bytes = data;
                continue;
            }
            match (self.line, byte) {
                (Line::Return, b'\n') => self.line = Line::Prefix(0),
                (Line::Return, _) => {
                    self.line = Line::Prefix(0);
                    continue;
                }
                (line, b'\n' | b'\r') => {
                    match line {
                        // An empty line ends the event, and with it whatever its message was.
                        Line::Prefix(0) => self.message = Message::new(),
                        // Lines of one event are joined by a line feed.
                        Line::Data => self.message.feed(b"\n"),
                        _ => {}
                    }
                    self.line = if byte == b'\r' { Line::Return } else { Line::Prefix(0) };
                }
                (Line::Prefix(seen), _) => self.line = line_after(seen, byte),
                (Line::Data | Line::Other, _) => {
                    let len = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
                    let (run, rest) = bytes.split_at(len);
                    if self.line == Line::Data {
                        self.message.feed(run);
                    }
                    if self.message.facts.complete {
                        return;
                    }
                    bytes = rest;
                    continue;
                }
            }
            bytes = rest;
        }
    }
}

/// Where in the lines of an event stream the scan is (WHATWG HTML, section 9.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` were seen since the line began.
    Prefix(u8),
    /// Behind `data:`.
    Data,
    /// In a line that carries no data.
    Other,
    /// Behind a CR, to which a LF may belong.
    Return,
}

/// How the lines begin that count.
const FIELD: &[u8] = b"data:";

/// The state after one more byte at the start of a line.
fn line_after(seen: u8, byte: u8) -> Line {
    if FIELD.get(usize::from(seen)) != Some(&byte) {
        Line::Other
    } else if usize::from(seen) + 1 == FIELD.len() {
        Line::Data
    } else {
        Line::Prefix(seen + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::fuzz;
    use proptest::prelude::*;
    use proptest::sample::select;

    const NOTHING: AnswerFacts = Message::new().facts;

    fn check(form: Form, body: &str, expected: AnswerFacts) {
        let mut scan = AnswerScan::new(form);
        scan.feed(body.as_bytes());
        assert_eq!(scan.facts(), expected, "{body}");
        let mut bytewise = AnswerScan::new(form);
        body.as_bytes().chunks(1).for_each(|byte| bytewise.feed(byte));
        assert_eq!(bytewise.facts(), expected, "byte by byte: {body}");
    }

    #[test]
    fn json_answers() {
        let result = AnswerFacts { has_result: true, complete: true, ..NOTHING };
        let json = |body, expected| check(Form::Json, body, expected);
        json(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, result);
        json(r#" {"result":{"content":[{"isError":true,"_meta":{}}]},"id":1}"#, result);
        json(r#"{"result":{"isError":true}}"#, AnswerFacts { is_error: true, ..result });
        json(r#"{"result":{"isError": false }}"#, result);
        json(r#"{"result":{"a":[{}],"isError":true}}"#, AnswerFacts { is_error: true, ..result });
        json(r#"{"result":{"_meta":null}}"#, AnswerFacts { has_meta: true, ..result });
        json(r#"{"result":null}"#, result);
        json(r#"{"result":["isError",true]}"#, result);
        json(r#"{"result":{"a":"\"isError\":true,\\"}}"#, result);
        let complete = AnswerFacts { result_type: ResultType::Complete, ..result };
        json(r#"{"result":{"resultType":"complete"}}"#, complete);
        let asks = AnswerFacts { result_type: ResultType::InputRequired, ..result };
        json(r#"{"result":{"resultType":"input_required"}}"#, asks);
        let other = AnswerFacts { result_type: ResultType::Other, ..result };
        json(r#"{"result":{"resultType":"input_required_or_not"}}"#, other);
        let error = AnswerFacts { complete: true, ..NOTHING };
        let code = |code| AnswerFacts { error_code: Some(code), ..error };
        json(r#"{"id":1,"error":{"code":-32602,"message":"x"}}"#, code(-32602));
        json(r#"{"error":{"data":{"code":1},"code" : 7 }}"#, code(7));
        json(r#"{"error":{"code":-2147483648}}"#, code(i32::MIN));
        json(r#"{"error":{"code":2147483648}}"#, error);
        json(r#"{"error":{"code":1.5}}"#, error);
        json(r#"{"error":{"code":99999999999999999999999}}"#, error);
        json(r#"{"error":{"code":"7"}}"#, error);
        json(r#"{"error":"x"}"#, error);
    }

    #[test]
    fn what_is_not_seen_is_unknown() {
        let json = |body, expected| check(Form::Json, body, expected);
        let open = AnswerFacts { has_result: true, ..NOTHING };
        json(r#"{"result":{"content":["#, open);
        json(r#"{"result":{"isError":true"#, AnswerFacts { is_error: true, ..open });
        json(r#"{"error":{"code":-3260"#, NOTHING);
        json(r#"[{"result":{}}]"#, NOTHING);
        json("<html>", NOTHING);
        json("", NOTHING);
        json(r#"{"method":"x","params":{"result":{}}}"#, NOTHING);
        json(r#"{"res\u0075lt":{}}"#, NOTHING);
        check(Form::Opaque, r#"{"result":{}}"#, NOTHING);
        let late = format!(r#"{{"result":{{"a":"{}","isError":true}}}}"#, "x".repeat(65_536));
        json(&late, open);
    }

    #[test]
    fn event_streams() {
        let stream = |body, expected| check(Form::EventStream, body, expected);
        let result = AnswerFacts { has_result: true, complete: true, ..NOTHING };
        stream("event: message\ndata: {\"id\":1,\"result\":{}}\n\n", result);
        stream("data:{\"result\":{}}\r\n\r\n", result);
        stream("data:{\"result\":{}}\r\r", result);
        stream(": ping\n\ndata: {\"method\":\"m\",\"params\":{}}\n\ndata: {\"result\":{}}\n\n", result);
        stream("id: 5\ndata:\n\ndata: {\"result\":{}}\n\n", result);
        stream("data: {\"result\":\ndata: {}}\n\n", result);
        stream("data: {\"result\":\r\ndata: {}}\r\n\r\n", result);
        stream("data: no json\n\ndata: {\"result\":{}}\n\n", result);
        let cut = AnswerFacts { has_result: true, ..NOTHING };
        stream("data: {\"result\":{", cut);
        stream("data: {\"result\":{\n\n", NOTHING);
        stream("datum: {\"result\":{}}\n\n", NOTHING);
        stream("dat\nata: {\"result\":{}}\n\n", NOTHING);
        stream("", NOTHING);
        // The first answer counts.
        stream("data: {\"result\":{}}\n\ndata: {\"error\":{\"code\":1}}\n\n", result);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing_and_serde_agrees(
            parts in proptest::collection::vec(select(PARTS.to_vec()), 0..24),
            first in any::<u8>(),
        ) {
            let mut body = vec![first];
            body.extend(parts.concat().bytes());
            fuzz::answer_scan(&body);
        }
    }

    proptest! {
        #[test]
        fn what_is_known_is_what_serde_reads(
            envelope in select(vec!["result", "error", "params", "x"]),
            inner in proptest::collection::vec((select(KEYS.to_vec()), select(VALUES.to_vec())), 0..5),
            first in any::<u8>(),
        ) {
            let inner: Vec<_> = inner.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
            let message = format!("{{\"id\":1,\"{envelope}\":{{{}}} , \"y\":[]}}", inner.join(","));
            fuzz::answer_scan(&[&[first & !1], message.as_bytes()].concat());
            let stream = format!("data: {{\"method\":1}}\n\ndata: {message}\r\n\r\n");
            fuzz::answer_scan(&[&[first | 1], stream.as_bytes()].concat());
            let mut alone = AnswerScan::new(Form::Json);
            alone.feed(message.as_bytes());
            let mut streamed = AnswerScan::new(Form::EventStream);
            streamed.feed(stream.as_bytes());
            let answers = envelope == "result" || envelope == "error";
            prop_assert_eq!(streamed.facts(), if answers { alone.facts() } else { NOTHING });
        }
    }

    const KEYS: &[&str] = &["code", "isError", "resultType", "_meta", "result", "content", "message"];
    const VALUES: &[&str] = &[
        "1",
        "-32602",
        "true",
        "false",
        "null",
        "{}",
        "[]",
        "\"complete\"",
        "\"input_required\"",
        "\"\"",
        "[{\"isError\":true,\"a\":[]},{}]",
        "{\"code\":7,\"z\":{\"y\":[1,{}]}}",
        "1.5",
        "3e2",
        "\"a, }]: b\"",
    ];
    const PARTS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\n\n",
        "\r",
        "data: ",
        "data:",
        "\"result\":{",
        "\"error\":{",
        "\"code\":",
        "-32600",
        "17",
        "\"isError\":",
        "true",
        "false",
        "\"_meta\":",
        "\"resultType\":",
        "\"complete\"",
        "\"x\"",
        "\"\\\"\"",
        "{\"result\":{",
        "{\"error\":{\"code\":-1",
        "}}",
        "\"a\":",
        "null",
        "{\"method\":\"m\",\"params\":{}}",
    ];
}
