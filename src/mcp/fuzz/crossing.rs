//! Crossings as serde_json reads them, against `crossing`.
//!
//! Not here: inputs. Shares no code with what it checks.

use crate::mcp::crossing::Abilities;
use crate::mcp::crossing::answer::Lens;
use crate::mcp::crossing::answer::Seen;
use crate::mcp::crossing::questions;
use crate::mcp::crossing::request::Envelope;
use crate::mcp::crossing::request::Place;
use crate::mcp::crossing::request::Rewrite;
use crate::mcp::crossing::request::rewrite;
use crate::mcp::crossing::request_ids;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use serde_json::Value;

/// What serde_json does not read, as huge numbers, is nothing that anything can be compared on.
fn tree(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

/// What is rewritten can be read by whoever read it before, says what it is to say, and is the same after a second time.
pub(super) fn request(bytes: &[u8]) {
    for envelope in
        [Envelope::Keep, Envelope::Strip, Envelope::Add(r#""io.modelcontextprotocol/logLevel":1"#)]
    {
        for name in [None, Some("a\"\u{e9}")] {
            let how = Rewrite { name, place: Place::Name, id: Some("\"i\""), params: "", envelope };
            let mut out = Vec::new();
            if rewrite(bytes, &how, &mut out).is_err() {
                continue;
            }
            let Some(before) = tree(bytes) else { continue };
            let after = tree(&out).unwrap_or_else(|| panic!("{}", out.escape_ascii()));
            assert_eq!(after["id"], "i");
            assert_eq!(after["method"], before["method"]);
            assert!(name.is_none_or(|name| after["params"]["name"] == name));
            is_enveloped(&after["params"], envelope);
            let mut again = Vec::new();
            assert_eq!(rewrite(&out, &how, &mut again), Ok(()), "{}", out.escape_ascii());
            assert_eq!(tree(&again), Some(after), "{}", out.escape_ascii());
        }
    }
}

fn is_enveloped(params: &Value, envelope: Envelope<'_>) {
    let meta = params.get("_meta").and_then(Value::as_object);
    match envelope {
        Envelope::Keep => {}
        Envelope::Strip => {
            let reserved = |key: &String| key.starts_with("io.modelcontextprotocol/");
            assert!(!meta.is_some_and(|meta| meta.keys().any(reserved)), "{params}");
            assert!(
                params.get("inputResponses").or_else(|| params.get("requestState")).is_none(),
                "{params}"
            );
        }
        Envelope::Add(_) => {
            assert!(meta.is_some_and(|meta| meta["io.modelcontextprotocol/logLevel"] == 1), "{params}");
        }
    }
}

/// What goes on can be read by whoever read it before, and has what its client wants.
pub(super) fn answer(bytes: &[u8]) {
    use Era::Legacy;
    use Era::Modern;
    for (server, client) in [(Legacy, Legacy), (Legacy, Modern), (Modern, Legacy), (Modern, Modern)] {
        let plain = Lens {
            client,
            server,
            method: Method::ResourcesRead,
            id: None,
            progress: None,
            wraps: None,
            asker: None,
            logs: u8::try_from(bytes.len() % 9).ok().filter(|level| *level < 8),
            able: Abilities(bytes.first().copied().unwrap_or_default()),
        };
        let out = seen(&plain, bytes);
        if let Some(out) = &out {
            assert_eq!(seen(&plain, out).as_ref(), Some(out), "once more: {}", out.escape_ascii());
        }
        let changes = Lens {
            id: Some("\"i\"".into()),
            progress: Some("7".into()),
            wraps: Some("a_b".into()),
            asker: Some(7),
            ..plain.clone()
        };
        let lifts = server == Legacy && client == Modern;
        for out in [out, seen(&changes, bytes)].into_iter().flatten().filter(|_| tree(bytes).is_some()) {
            let after = tree(&out).unwrap_or_else(|| panic!("{}", out.escape_ascii()));
            let is_complete = |result: &Value| {
                ["resultType", "ttlMs", "cacheScope"].iter().all(|key| result.get(key).is_some())
            };
            assert!(
                !lifts || after.get("result").is_none_or(|result| result.is_null() || is_complete(result))
            );
        }
    }
    questions(bytes);
}

/// What goes on, if anything does.
fn seen(lens: &Lens, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match lens.look(bytes, &mut out) {
        Ok(Seen::On { changed: true, .. }) => Some(out),
        Ok(Seen::On { changed: false, .. }) => {
            assert!(out.is_empty());
            Some(bytes.to_vec())
        }
        _ => None,
    }
}

/// Whatever comes is read or refused.
fn questions(bytes: &[u8]) {
    if let Ok(found) = questions::input_responses(bytes) {
        assert!(found.into_iter().all(|(_, at)| bytes.get(at).is_some_and(|raw| raw.starts_with(b"{"))));
    }
    let _state = questions::request_state(bytes);
    let _answer = questions::answer(bytes);
    let mut out = Vec::new();
    if let (Ok(Some(server)), Some(before)) = (request_ids::unwrap(bytes, &mut out), tree(bytes)) {
        let raw = tree(&out).unwrap_or_else(|| panic!("{}", out.escape_ascii()))["id"].to_string();
        let wrapped: Option<Value> = serde_json::from_str(&request_ids::wrap(server, &raw)).ok();
        // Numbers have several spellings.
        assert!(!raw.starts_with('"') || wrapped.as_ref() == before.get("id"), "{raw}");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(wanted) = questions::parse_input_required(text) else { return };
    for (_, question) in wanted.questions {
        if let (Ok(request), Some(_)) = (questions::question("1", &question), tree(bytes)) {
            assert!(tree(&request).is_some(), "{}", request.escape_ascii());
        }
    }
}
