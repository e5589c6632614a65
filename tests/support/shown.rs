//! What the callers of all tests have shown the gateway, so that every scripted server can tell that none of it ever came:
//! a caller's token or key is for the gateway alone.
//!
//! Not here: services that are meant to get tokens; they say so (`Builder::hears_tokens`).

use super::upstream::Received;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Shorter words may stand anywhere.
const BYTES_MIN: usize = 12;
const FIELDS: [&str; 2] = ["authorization", "x-api-key"];

static SHOWN: Mutex<Option<HashSet<Vec<u8>>>> = Mutex::new(None);

fn with<T>(look: impl FnOnce(&mut HashSet<Vec<u8>>) -> T) -> T {
    look(SHOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// The words of a text, as values of fields and members of JSON are cut into.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\",;&=".contains(byte);
    text.split(ends).filter(|word| word.len() >= BYTES_MIN)
}

/// A caller sends a field.
pub fn field(name: &[u8], value: &[u8]) {
    if FIELDS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
        with(|shown| shown.extend(words(value).map(<[u8]>::to_vec)));
    }
}

/// A caller sends a request, or what is meant to look like one.
pub fn request(bytes: &[u8]) {
    let head = super::wire::find(bytes, b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    for line in head.split(|byte| *byte == b'\n') {
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            field(&line[..colon], &line[colon + 1..]);
        }
    }
}

/// A field or member of a request to a server that a caller has shown; None: there is none.
pub fn stray(request: &Received) -> Option<String> {
    let fields = request.head.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let parts = fields.chain([("the body", request.body.as_slice())]);
    with(|shown| {
        let is_shown = |text: &[u8]| words(text).any(|word| shown.contains(word));
        let stray = parts.into_iter().find(|(_, text)| is_shown(text));
        stray.map(|(place, _)| format!("a caller's token or key came to a server, in {place}"))
    })
}
