//! What is JSON: the stored inputs of `tests/corpus/json`, alone and as the arguments of a call.
//!
//! `y_` must be read, `n_` must be refused as no JSON. `i_` is where RFC 8259 leaves the choice or where
//! readers differ in practice; [`DECISIONS`] says what we chose, and why.

use super::*;
use crate::base::fault::Kind;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Read, and forwarded byte for byte.
    Kept,
    /// 400, -32700.
    Refused,
}
use Choice::Kept;
use Choice::Refused;

/// Prefixes of file names behind `i_`; the longest that fits decides.
const DECISIONS: &[(&str, Choice, &str)] = &[
    (
        "number_",
        Kept,
        "the grammar bounds neither size nor precision; we never compute with a number of a peer",
    ),
    (
        "string_",
        Kept,
        "a lone surrogate is within the grammar and inside arguments the tool's business; noncharacters are \
         Unicode. In the envelope, where we act on the text, rules.rs refuses what Unicode cannot express",
    ),
    ("object_key_lone_surrogate", Kept, "as in strings: this object is not one whose keys we read"),
    (
        "object_same_key",
        Kept,
        "the grammar allows it (SHOULD be unique, RFC 8259 section 4) and no rule reads arguments; forwarded \
         with both. Where keys matter to us they are refused",
    ),
    ("utf8_", Refused, "RFC 8259 section 8.1: UTF-8; RFC 3629 forbids overlong forms, surrogates and more"),
    ("latin1", Refused, "RFC 8259 section 8.1: UTF-8"),
    ("bom_", Refused, "RFC 8259 section 8.1 lets a reader ignore it; readers differ, so it is refused"),
    ("utf16_", Refused, "RFC 8259 section 8.1: UTF-8 between systems; MCP: UTF-8"),
    ("utf32", Refused, "RFC 8259 section 8.1: UTF-8"),
    (
        "depth_",
        Kept,
        "up to 128 levels, the call's own two included (RFC 8259 section 9 lets a reader choose)",
    ),
    ("depth_129", Refused, "above the bound"),
    ("depth_objects_129", Refused, "above the bound"),
    ("depth_unclosed", Refused, "not closed, and above the bound"),
];

fn decision(name: &str) -> Option<Choice> {
    let name = name.strip_prefix("i_")?;
    let fitting = DECISIONS.iter().filter(|(prefix, ..)| name.starts_with(prefix));
    fitting.max_by_key(|(prefix, ..)| prefix.len()).map(|(_, choice, _)| *choice)
}

/// The files of a folder of the project: name without extension, content.
fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    files("tests/corpus/json").into_iter().filter(|(name, _)| name != "README").collect()
}

fn is_parse_error(body: &[u8], headers: &McpHeaders<'_>) -> bool {
    let fault = verdict(body, headers).err();
    fault.is_some_and(|fault| fault.kind == Kind::ParseError)
}

#[test]
fn stored_inputs_are_read_or_refused() {
    let mut counts = [0; 3];
    for (name, body) in corpus() {
        let (count, is_json) = match name.split_at(2).0 {
            "y_" => (&mut counts[0], true),
            "n_" => (&mut counts[1], false),
            _ => {
                let choice = decision(&name).unwrap_or_else(|| panic!("no decision on {name}"));
                (&mut counts[2], choice == Kept)
            }
        };
        *count += 1;
        assert_eq!(!is_parse_error(&body, &McpHeaders::NONE), is_json, "{name}");
        // Alone and in a batch it is no message, inside a call it is arguments.
        assert!(inspect(&mut Scratch::new(), &body, &McpHeaders::NONE).is_err(), "{name}");
        let whole = call("0").into_bytes();
        let at = memchr::memmem::find(&whole, b":0,").unwrap() + 1;
        let wrapped = [&whole[..at], &body, &whole[at + 1..]].concat();
        assert_eq!(verdict(&wrapped, &MODERN).is_ok(), is_json, "{name} as arguments");
        assert_eq!(is_parse_error(&wrapped, &MODERN), !is_json, "{name} as arguments");
        // The same by the skipper alone.
        let spaces = vec![b' '; crate::config::limits::SCRATCH_BYTES_MAX];
        let large = [&spaces, wrapped.as_slice()].concat();
        assert_eq!(inspect(&mut Scratch::new(), &large, &MODERN).is_ok(), is_json, "{name} in a large body");
        fuzz::json_envelope(&body);
    }
    assert!(counts[0] >= 60 && counts[1] >= 170 && counts[2] >= 50, "inputs are missing: {counts:?}");
}

#[test]
fn every_decision_is_about_a_stored_input() {
    let names: BTreeSet<_> = corpus().into_iter().map(|(name, _)| name).collect();
    for (prefix, _, why) in DECISIONS {
        assert!(names.iter().any(|name| name.starts_with(&format!("i_{prefix}"))), "{prefix}: {why}");
    }
}

/// What libFuzzer starts from, and what it once found.
#[test]
fn seeds_hold_their_promises() {
    type Promise = fn(&[u8]);
    let targets: [(&str, Promise); 3] = [
        ("json_envelope", fuzz::json_envelope),
        ("header_against_body", fuzz::header_against_body),
        ("answer_scan", fuzz::answer_scan),
    ];
    for (target, promise) in targets {
        let seeds = files(&format!("fuzz/seeds/{target}"));
        assert!(seeds.len() >= 4, "{target}: {}", seeds.len());
        seeds.iter().for_each(|(_, seed)| promise(seed));
    }
}
