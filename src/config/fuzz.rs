//! The fuzz body of the configuration as a plain function: libFuzzer and the tests over stored inputs call the
//! same one. It panics where a promise to the operator breaks.
//!
//! Not here: inputs. Not part of any API.

use crate::config;
use crate::config::limits;
use crate::config::problem::Problem;
use std::path::Path;

/// Longer inputs say nothing new and make a run slow.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// A configuration is a plan, or a list of mistakes that each have a place in the file; no text is neither. The
/// environment is empty and relative paths lead nowhere, so that a stored input says the same everywhere.
pub fn config_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(&bytes[..bytes.len().min(INPUT_BYTES_MAX)]) else { return };
    let read = || config::load_with(text, NAME, Path::new("/nonexistent"), &|_| None);
    let size = Size::of(text);
    match read() {
        Ok(loaded) => {
            let plan = loaded.plan;
            assert!(!plan.listeners.is_empty() && plan.servers.len() <= limits::SERVERS_MAX);
            assert!((1..=limits::WORKERS_MAX).contains(&plan.workers));
            assert!(
                plan.http.max_head <= limits::HEAD_BYTES_MAX && plan.http.max_body <= limits::BODY_BYTES_MAX
            );
            loaded.warnings.iter().for_each(|warning| has_a_place(warning, &size));
            let again = read().map(|again| again.plan.digest);
            assert_eq!(again.as_deref(), Ok(plan.digest.as_str()), "the same text is the same plan");
        }
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason");
            // A report of too many ends with their number.
            let is_number = |last: &Problem| last.place.is_none() && last.what.ends_with(" more problems");
            let cut = problems.0.len() >= limits::PROBLEMS_MAX && problems.0.last().is_some_and(is_number);
            let told = problems.0.len() - usize::from(cut);
            problems.0.iter().take(told).for_each(|problem| has_a_place(problem, &size));
        }
    }
}

const NAME: &str = "fuzz.yaml";

/// Of a text; counted once, because a text may have many problems.
struct Size {
    lines: usize,
    letters: usize,
}

impl Size {
    fn of(text: &str) -> Self {
        // Any of YAML's line breaks.
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
        Self { lines, letters: text.chars().count() }
    }
}

/// It stands in the text, and reads as one line that a terminal may show.
fn has_a_place(problem: &Problem, size: &Size) {
    let place = problem.place.map(|place| (place.line, place.column));
    let Some((line, column)) = place else { panic!("no place: {problem}") };
    // A problem may stand behind the last letter.
    assert!((1..=size.lines).contains(&line) && (1..=size.letters + 1).contains(&column), "{problem}");
    assert_eq!(problem.file.as_ref(), NAME);
    let shown = problem.to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES_MAX: usize = 20;

    /// Each seed as it is; the cheap ones also cut, and with bytes that often matter, at many places.
    #[test]
    fn seeds_are_what_their_names_say_and_hold_when_changed() {
        let folder = format!("{}/fuzz/seeds/config_file", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(folder).expect("seeds") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("readable");
            let accepted =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("accepted_"));
            let text = String::from_utf8(bytes.clone()).expect("text");
            let loaded = config::load_with(&text, NAME, Path::new("/nonexistent"), &|_| None);
            assert_eq!(loaded.is_ok(), accepted, "{}: {:?}", path.display(), loaded.err());
            let places = if path.ends_with("refused_alias_bomb") { 0 } else { bytes.len() };
            for at in (0..places).step_by(bytes.len() / PLACES_MAX + 1) {
                config_file(&bytes[..at]);
                for other in
                    [b'\n', b'\r', b' ', b'\t', b':', b'-', b'"', b'{', b']', b'&', b'*', b'$', b'#', 0, 0x1b]
                {
                    let mut changed = bytes.clone();
                    changed[at] = other;
                    config_file(&changed);
                }
            }
        }
    }
}
