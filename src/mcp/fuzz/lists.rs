//! Lists as serde_json and the most generous peer read them, against `listing`.
//!
//! Not here: inputs. Shares no code with what it checks.

use crate::mcp::listing::Entry;
use crate::mcp::listing::Screen;
use crate::mcp::listing::events::Events;
use crate::mcp::listing::screen;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use std::fmt;

/// JSON with its members in order, and as often as they stand there.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Scalar(String),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// Whom nobody may see.
fn hides(name: &str) -> bool {
    name.contains('h')
}

/// What comes out of one message is the message without the hidden entries, whoever reads it, and nothing else is
/// other than it was.
pub(super) fn message(bytes: &[u8]) {
    let mut out = Vec::new();
    let Ok(changed) = screened(bytes, &mut out) else { return };
    let passed = if changed { &out[..] } else { bytes };
    assert_eq!(screened(passed, &mut Vec::new()), Ok(false), "once more: {}", passed.escape_ascii());
    // What serde_json does not read, as huge numbers, is nothing that it can be compared on.
    let Ok(before) = serde_json::from_slice::<Json>(bytes) else { return };
    let after: Json = serde_json::from_slice(passed).unwrap_or_else(|error| panic!("{error}: {passed:?}"));
    assert_eq!(after, without_hidden(before), "{}", bytes.escape_ascii());
}

/// A stream passes alike however it is cut.
pub(super) fn stream(bytes: &[u8]) {
    let whole = streamed(bytes, bytes.len().max(1));
    for step in [1, 2, 7] {
        assert_eq!(streamed(bytes, step), whole, "in steps of {step}: {}", bytes.escape_ascii());
    }
}

fn screened(bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, ()> {
    let mut keeps = |entry: &Entry<'_>| !hides(entry.name);
    screen(bytes, &mut Screen { modern: false, hides_tasks: false, keeps: &mut keeps }, out).map_err(|_| ())
}

fn streamed(bytes: &[u8], step: usize) -> (Vec<u8>, bool) {
    let mut keeps = |entry: &Entry<'_>| !hides(entry.name);
    let look = &mut Screen { modern: false, hides_tasks: false, keeps: &mut keeps };
    let (mut events, mut out) = (Events::default(), Vec::new());
    let fed = bytes.chunks(step).try_for_each(|piece| events.feed(piece, look, &mut out));
    let whole = fed.and_then(|()| events.finish(look, &mut out)).is_ok();
    (out, whole)
}

fn without_hidden(message: Json) -> Json {
    match message {
        Json::Array(batch) => Json::Array(batch.into_iter().map(one_message).collect()),
        other => one_message(other),
    }
}

fn one_message(message: Json) -> Json {
    let lists =
        [("tools", "name"), ("prompts", "name"), ("resources", "uri"), ("resourcetemplates", "uritemplate")];
    members(message, |key, value| {
        if key == "result" {
            members(value, |key, value| match (lists.iter().find(|(list, _)| key == *list), value) {
                (Some((_, name)), Json::Array(entries)) => {
                    Json::Array(entries.into_iter().filter(|entry| shown(entry, name)).collect())
                }
                (_, value) => value,
            })
        } else {
            value
        }
    })
}

/// Changes the values of an object, each known by its key as the most generous reader spells it.
fn members(object: Json, change: impl Fn(&str, Json) -> Json) -> Json {
    match object {
        Json::Object(members) => {
            let changed = members.into_iter().map(|(key, value)| {
                let value = change(&generous(&key), value);
                (key, value)
            });
            Json::Object(changed.collect())
        }
        other => other,
    }
}

fn generous(key: &str) -> String {
    let folded = key.replace('_', "").replace(['\u{130}', '\u{131}'], "i");
    folded.replace('\u{17F}', "s").replace('\u{212A}', "k").to_ascii_lowercase()
}

fn shown(entry: &Json, name: &str) -> bool {
    let Json::Object(members) = entry else { return false };
    let mut names = members.iter().filter(|(key, _)| generous(key) == name);
    let exact = if name == "uritemplate" { "uriTemplate" } else { name };
    match (names.next(), names.next()) {
        (Some((key, Json::Text(text))), None) => key == exact && !hides(text),
        _ => false,
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Scalar("null".into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element()? {
            all.push(element);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = members.next_entry()? {
            all.push(member);
        }
        Ok(Json::Object(all))
    }
}
