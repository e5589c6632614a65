//! Replays the stored inputs of the fuzzers through the functions that the fuzzers call, so that what was
//! found once stays found without a fuzzer.
//!
//! Not here: the search for new inputs (`fuzz/run`).

#![expect(clippy::unwrap_used, reason = "a test that cannot read its inputs fails")]

use std::fs;
use std::path::Path;

/// A target of `fuzz/targets` and the function that it calls.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("access_token", ringgate::policy::fuzz::access_token),
    ("answer_scan", ringgate::mcp::fuzz::answer_scan),
    ("chunked_body", ringgate::http::fuzz::chunked_body),
    ("config_file", ringgate::config::fuzz::config_file),
    ("crossing", ringgate::mcp::fuzz::crossing),
    ("event_stream", ringgate::http::fuzz::event_stream),
    ("header_against_body", ringgate::mcp::fuzz::header_against_body),
    ("json_envelope", ringgate::mcp::fuzz::json_envelope),
    ("listing", ringgate::mcp::fuzz::listing),
    ("request_head", ringgate::http::fuzz::request_head),
    ("response_head", ringgate::http::fuzz::response_head),
];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_target_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let listed: Vec<String> = TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(names(&root.join("targets")), listed);
}

/// Every stored input, whole and cut in half: each function panics where its promise breaks.
#[test]
fn every_stored_input_keeps_its_promise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut replayed = 0;
    for (target, function) in TARGETS {
        for folder in [root.join("fuzz/seeds").join(target), root.join("tests/corpus/json")] {
            for name in names(&folder) {
                let bytes = fs::read(folder.join(&name)).unwrap();
                eprintln!("{target}: {name}");
                function(&bytes);
                function(&bytes[..bytes.len() / 2]);
                replayed += 1;
            }
        }
    }
    assert!(replayed > 100, "only {replayed} inputs were found");
}
