//! Mutants of the access rules: the second evaluator must catch every one of them.
//!
//! Not here: how a mutant is made and judged (`support/mutant`).

#[path = "../support/mutant.rs"]
mod mutant;

use mutant::Suite;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Builds and runs the unchanged copy, which must agree, and every mutant, which must not.
pub fn judge() {
    let test = env::current_exe().expect("a program has a name");
    let folder = test.parent().expect("it is in a folder");
    let mut library = OsString::from("ringgate=");
    library.push(library_of(&test, folder));
    let mut found = OsString::from("dependency=");
    found.push(folder);
    let suite = Suite {
        mutants: "tests/policies/mutants",
        live: &["policy/access.rs"],
        tests: &["policies", "simulation/random.rs"],
        program: "policies/program.rs",
        // The rest of the live code is the library itself, as it was built for this test.
        arguments: vec!["-L".into(), found, "--extern".into(), library],
        seeds: 500,
        caught: " differs",
    };
    suite.judge();
}

/// The library that was built last before this test.
fn library_of(test: &Path, folder: &Path) -> PathBuf {
    let built = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a file");
    let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().expect("it has a name").to_string_lossy();
        name.starts_with("libringgate-") && name.ends_with(".rlib") && built(path) <= built(test)
    };
    entries.filter(is_library).max_by_key(|path| built(path)).expect("cargo built it before this test")
}
