//! What must hold for any bytes: one function a target, called by libFuzzer (`fuzz/`), by the property
//! tests and by the replay of the stored inputs.
//!
//! Not here: generating inputs. A broken promise panics; that is the point.

mod crossing;
mod lists;

use crate::config::limits;
use crate::mcp::answer::AnswerScan;
use crate::mcp::answer::Form;
use crate::mcp::answer::ResultType;
use crate::mcp::envelope::HeaderValue;
use crate::mcp::envelope::McpHeaders;
use crate::mcp::envelope::raw_id;
use crate::mcp::grammar::Broken;
use crate::mcp::header;
use crate::mcp::reading;
use crate::mcp::scratch::Scratch;
use crate::mcp::skipper;
use crate::mcp::skipper::Outline;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The envelope: both readers give one verdict and one call, serde_json agrees on what is JSON, and a
/// readable id is where it is said to be. The length picks the headers, so that every body is an input.
pub fn json_envelope(body: &[u8]) {
    const VERSIONS: [HeaderValue<'_>; 5] = [
        HeaderValue::Missing,
        HeaderValue::One(b"2026-07-28"),
        HeaderValue::One(b"2025-03-26"),
        HeaderValue::One(b"2099-01-01"),
        HeaderValue::Twice,
    ];
    let name = [HeaderValue::One(&b"echo"[..]), HeaderValue::Missing][body.len() / VERSIONS.len() % 2];
    let headers = McpHeaders {
        protocol_version: VERSIONS[body.len() % VERSIONS.len()],
        method: HeaderValue::One(b"tools/call"),
        name,
        session: false,
    };
    readers_agree(body, &headers);
    well_formedness_is_serdes(body);
    id_is_readable(body);
}

/// Lists: nothing that is hidden comes out, and nothing else is other than it was; a stream passes alike however it is
/// cut. The first bit picks a message or a stream.
pub fn listing(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    if first & 1 == 0 { lists::message(body) } else { lists::stream(body) }
}

/// Messages that cross to another era or name: what comes out is readable and complete, whoever reads it. The first bit
/// picks a client's message or a server's.
pub fn crossing(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    if first & 1 == 0 { crossing::request(body) } else { crossing::answer(body) }
}

/// Both readers, where both have a say, give the same answer.
pub(crate) fn readers_agree(body: &[u8], headers: &McpHeaders<'_>) {
    let mut scratch = Scratch::new();
    let by_skipper = reading::by_skipper(&mut scratch, body, headers, &mut |_| ());
    if let Some(by_tape) = reading::by_tape(&mut scratch, body, headers) {
        assert_eq!(format!("{by_tape:?}"), format!("{by_skipper:?}"), "{}", body.escape_ascii());
    }
    // A scratch that was used reads the same.
    let again = reading::by_skipper(&mut scratch, body, headers, &mut |_| ());
    assert_eq!(format!("{again:?}"), format!("{by_skipper:?}"));
}

/// Equal verdicts on what is JSON. The one exception is our bound on the depth: `IgnoredAny` has none, and
/// it neither rounds numbers nor pairs surrogates, which we do not either. A byte order mark is refused
/// by both.
fn well_formedness_is_serdes(body: &[u8]) {
    let ours = skipper::read(body, &mut Outline::new(), &mut String::new());
    if ours == Err(Broken::Depth) {
        return;
    }
    let text = std::str::from_utf8(body);
    let theirs = text.is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    assert_eq!(ours.is_ok(), theirs, "{ours:?}: {}", body.escape_ascii());
}

fn id_is_readable(body: &[u8]) {
    let Some(range) = raw_id(body) else { return };
    let raw = std::str::from_utf8(&body[range]).unwrap_or_default();
    assert!(raw.len() <= limits::ID_BYTES_MAX);
    let is_text = raw.starts_with('"') && serde_json::from_str::<String>(raw).is_ok();
    let is_integer = !raw.is_empty() && raw.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
    assert!(is_text || is_integer, "id {raw}");
    // What serde_json reads as the last id, provided that it can read all else.
    if let Ok(Value::Object(members)) = serde_json::from_slice(body)
        && let Ok(id) = serde_json::from_str::<Value>(raw)
    {
        assert_eq!(members.get("id"), Some(&id));
    }
}

/// A name header that is accepted equals the body's name after the one specified decoding, as a second,
/// plain decoder reads it. Input: header value, NUL, name.
pub fn header_against_body(bytes: &[u8]) {
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (value, name) = (&bytes[..cut], bytes.get(cut + 1..).unwrap_or_default());
    let Ok(name) = std::str::from_utf8(name) else { return };
    if header::names(value, name) {
        assert_eq!(decoded(header::trim(value)).as_deref(), Some(name.as_bytes()));
    }
}

/// Decodes digit by digit; does not refuse what the real one must.
fn decoded(value: &[u8]) -> Option<Vec<u8>> {
    let encoded = value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    let Some(encoded) = encoded else { return Some(value.to_vec()) };
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in encoded.iter().take_while(|byte| **byte != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xFF).unwrap_or(0));
        }
    }
    Some(out)
}

/// The answer scan: cuts change nothing, and what it claims to know is what serde_json reads. The first
/// byte picks the form and the cut.
pub fn answer_scan(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let form = if first & 1 == 0 { Form::Json } else { Form::EventStream };
    let mut whole = AnswerScan::new(form);
    whole.feed(body);
    let mut cut = AnswerScan::new(form);
    for piece in body.chunks(usize::from(first >> 1) + 1) {
        cut.feed(piece);
    }
    assert_eq!(whole.facts(), cut.facts(), "{}", body.escape_ascii());
    if form == Form::Json && body.len() <= limits::ANSWER_SCAN_BYTES_MAX {
        scan_is_serdes(body, &whole);
    }
}

fn scan_is_serdes(body: &[u8], scan: &AnswerScan) {
    // Keys with escapes and doubled keys are not understood.
    if body.contains(&b'\\') || !is_plain(body) {
        return;
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return };
    let facts = scan.facts();
    let (result, error) = (members.get("result"), members.get("error"));
    assert_eq!(facts.complete, result.is_some() || error.is_some());
    assert_eq!(facts.has_result, result.is_some());
    let code = error.and_then(|error| error.get("code")).and_then(Value::as_i64);
    assert_eq!(facts.error_code.map(i64::from), code.filter(|code| i32::try_from(*code).is_ok()));
    let is_error = result.and_then(|result| result.get("isError")) == Some(&Value::Bool(true));
    assert_eq!(facts.is_error, is_error);
    assert_eq!(facts.has_meta, result.is_some_and(|result| result.get("_meta").is_some()));
    let kind = match result.and_then(|result| result.get("resultType")).and_then(Value::as_str) {
        None => ResultType::Unknown,
        Some("complete") => ResultType::Complete,
        Some("input_required") => ResultType::InputRequired,
        Some(_) => ResultType::Other,
    };
    assert_eq!(facts.result_type, kind);
}

/// Whether each key that the scan looks for comes at most once in the whole text.
fn is_plain(body: &[u8]) -> bool {
    let keys: [&[u8]; 6] = [b"result", b"error", b"code", b"isError", b"resultType", b"_meta"];
    keys.iter().all(|key| {
        let quoted = [b"\"", *key, b"\""].concat();
        memchr::memmem::find_iter(body, &quoted).count() <= 1
    })
}
