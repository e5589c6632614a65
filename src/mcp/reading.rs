//! From the bytes of a body to a verdict, by either reader.
//!
//! Not here: which reader a body gets is decided here, what is refused in `rules`.

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::base::text::Text;
use crate::config::limits;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::CallKind;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::McpHeaders;
use crate::mcp::envelope::Method;
use crate::mcp::facts::Facts;
use crate::mcp::facts::Key;
use crate::mcp::facts::Level;
use crate::mcp::facts::Value;
use crate::mcp::grammar::Broken;
use crate::mcp::grammar::Shape;
use crate::mcp::rules;
use crate::mcp::scratch::Scratch;
use crate::mcp::skipper;
use crate::mcp::skipper::Outline;
use crate::mcp::skipper::Top;
use crate::mcp::tape;
use crate::mcp::unescape::Unescaped;
use crate::mcp::unescape::unescape;
use simd_json::INPUT_PADDING;
use simd_json::Tape;
use std::ops::Range;

/// The first byte that is no white space.
pub(crate) fn first(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

/// The verdict by simd-json; None where the skipper must be asked: a large body, a batch, anything that
/// simd-json refuses or that its tape cannot tell.
pub(crate) fn by_tape(
    scratch: &mut Scratch,
    body: &[u8],
    headers: &McpHeaders<'_>,
) -> Option<Result<Call, Fault>> {
    if body.len() > limits::SCRATCH_BYTES_MAX || first(body) != Some(b'{') {
        return None;
    }
    scratch.padded.clear();
    scratch.padded.extend_from_slice(body);
    scratch.padded.resize(body.len() + INPUT_PADDING, b' ');
    let mut tape: Tape<'_> = std::mem::replace(&mut scratch.tape, Tape(Vec::new())).reset();
    let parsed =
        simd_json::fill_tape_padded(&mut scratch.padded, body.len(), &mut scratch.buffers, &mut tape);
    // In place: the facts are more than half a KiB.
    let mut facts = Facts::new();
    let known = if parsed.is_ok() { tape::read(&tape.0, &mut facts) } else { None };
    let verdict = known.map(|()| rules::judge(&facts, headers));
    scratch.tape = tape.reset();
    verdict
}

/// The verdict by the skipper.
pub(crate) fn by_skipper(
    scratch: &mut Scratch,
    body: &[u8],
    headers: &McpHeaders<'_>,
    each: &mut dyn FnMut(&Call),
) -> Result<Call, Fault> {
    let mut outline = Outline::new();
    let top = skipper::read(body, &mut outline, &mut scratch.text).map_err(parse_error);
    let verdict = top.and_then(|top| match top {
        Top::Message => rules::judge(&facts(body, &outline, &mut scratch.text), headers),
        Top::Batch(elements) => batch(scratch, body, headers, &mut Elements { count: elements, each }),
        Top::Other => Err(rules::NO_MESSAGE),
    });
    // A long URI with escapes shall not hold its memory for ever.
    scratch.text.clear();
    scratch.text.shrink_to(limits::SCRATCH_BYTES_MAX);
    verdict
}

struct Elements<'e> {
    count: usize,
    each: &'e mut dyn FnMut(&Call),
}

fn batch(
    scratch: &mut Scratch,
    body: &[u8],
    headers: &McpHeaders<'_>,
    elements: &mut Elements<'_>,
) -> Result<Call, Fault> {
    let revision = rules::batch_header(headers)?;
    if elements.count == 0 {
        return Err(rules::BATCH_EMPTY);
    }
    let calls = u16::try_from(elements.count).unwrap_or(u16::MAX);
    if usize::from(calls) > limits::BATCH_CALLS_MAX {
        return Err(rules::BATCH_TOO_LONG);
    }
    let mut places = skipper::Batch::new(body);
    loop {
        let mut outline = Outline::new();
        match places.next(&mut outline, &mut scratch.text) {
            None => break,
            Some(false) => return Err(rules::NO_MESSAGE),
            Some(true) => {}
        }
        let call = rules::judge_element(&facts(body, &outline, &mut scratch.text))?;
        (elements.each)(&call);
    }
    Ok(Call {
        kind: CallKind::Batch,
        era: Era::Legacy,
        method: Method::None,
        method_text: Text::EMPTY,
        target: Text::EMPTY,
        revision: Text::new(revision),
        trace_id: None,
        calls,
        brings_state: false,
    })
}

/// Strings whose text a rule reads. Of others only the shape counts.
const READ: [Key; 8] = [
    Key::JsonRpc,
    Key::Method,
    Key::Name,
    Key::Uri,
    Key::TaskId,
    Key::Claim,
    Key::ProtocolVersion,
    Key::TraceParent,
];

/// The facts behind an outline; `text` receives the strings that have escapes.
fn facts<'a>(body: &'a [u8], outline: &Outline, text: &'a mut String) -> Facts<'a> {
    let mut facts = Facts::new();
    for level in Level::ALL {
        for (_, key) in level.keys() {
            note_shape(&mut facts, *key, outline);
        }
        if outline.broken[level as usize] {
            facts.mark_broken(level);
        }
    }
    let id = outline.slot(Key::Id);
    facts.id_bytes = id.end - id.start;
    text.clear();
    if id.shape == Shape::Escaped && unescape(inside(body, outline, Key::Id), text, 0) == Unescaped::Surrogate
    {
        facts.replace(Key::Id, Value::Surrogate);
    }
    let mut unescaped: [Option<Range<usize>>; READ.len()] = [const { None }; READ.len()];
    for (key, place) in READ.iter().zip(&mut unescaped) {
        let raw = inside(body, outline, *key);
        match outline.slot(*key).shape {
            Shape::Plain => facts.replace(*key, Value::String(raw)),
            Shape::Escaped => {
                let start = text.len();
                let whole = unescape(raw, text, raw.len()) == Unescaped::Whole;
                *place = whole.then_some(start..text.len());
                facts.replace(*key, Value::Surrogate);
            }
            _ => {}
        }
    }
    let text: &'a str = text;
    for (key, place) in READ.iter().zip(unescaped) {
        if let Some(unescaped) = place.and_then(|range| text.get(range)) {
            facts.replace(*key, Value::String(unescaped));
        }
    }
    facts
}

fn note_shape(facts: &mut Facts<'_>, key: Key, outline: &Outline) {
    if outline.ambiguous[key as usize] {
        facts.mark_ambiguous(key);
    }
    facts.replace(
        key,
        match outline.slot(key).shape {
            Shape::Missing => Value::Missing,
            Shape::Null => Value::Null,
            Shape::Bool => Value::Bool,
            Shape::Integer => Value::Integer,
            Shape::Fraction => Value::Fraction,
            Shape::Plain | Shape::Escaped => Value::String(""),
            Shape::Array => Value::Array,
            Shape::Object => Value::Object,
        },
    );
}

/// What stands between the quotes of a string.
fn inside<'a>(body: &'a [u8], outline: &Outline, key: Key) -> &'a str {
    let slot = outline.slot(key);
    let raw = body.get(slot.start + 1..slot.end.saturating_sub(1)).unwrap_or_default();
    // The skipper accepted the body as UTF-8 and cuts it at quotes.
    std::str::from_utf8(raw).unwrap_or_default()
}

fn parse_error(broken: Broken) -> Fault {
    let detail = match broken {
        Broken::Empty => "The body is empty. Send one JSON-RPC message.",
        Broken::ByteOrderMark => "The body starts with a byte order mark. Send plain UTF-8.",
        Broken::Encoding => "The body is no UTF-8. Send the message in UTF-8.",
        Broken::Depth => "The JSON is nested too deeply. Use at most 128 levels.",
        Broken::Syntax => "The body is not JSON. Send one JSON-RPC message and nothing after it.",
    };
    let fault = Fault::new(Kind::ParseError, detail);
    if broken == Broken::Depth { fault.at(Bound::JsonDepth) } else { fault }
}

pub(crate) fn raw_id(body: &[u8]) -> Option<Range<usize>> {
    let mut outline = Outline::new();
    let mut text = String::new();
    if skipper::read(body, &mut outline, &mut text) != Ok(Top::Message) {
        return None;
    }
    let facts = facts(body, &outline, &mut text);
    let is_readable = matches!(facts.value(Key::Id), Value::String(_) | Value::Integer)
        && !facts.is_ambiguous(Key::Id)
        && facts.id_bytes <= limits::ID_BYTES_MAX;
    let slot = outline.slot(Key::Id);
    is_readable.then_some(slot.start..slot.end)
}
