//! `Problem`: one mistake of the operator, with its place and its cure.
//!
//! Not here: how mistakes are found. A problem never carries an expanded value: what `${…}` stood for
//! may be a secret.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// Line and column in characters, both starting at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// None: the file as a whole (it cannot be read, it is too large).
    pub place: Option<Place>,
    /// What is wrong, without a full stop.
    pub what: String,
    /// The cure: a whole sentence, or empty.
    pub cure: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}.", Plain(&self.what))?;
        if !self.cure.is_empty() {
            write!(f, " {}", Plain(&self.cure))?;
        }
        Ok(())
    }
}

/// A text that a terminal shows on one line: a path or name in a config may hold any character.
struct Plain<'t>(&'t str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            let (text, control) = match part.char_indices().next_back() {
                Some((at, last)) if last.is_control() => (&part[..at], Some(last)),
                _ => (part, None),
            };
            f.write_str(text)?;
            if let Some(control) = control {
                write!(f, "{}", control.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the file. Displays one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A file as a whole: `what` without a full stop, `cure` a sentence.
    pub fn of_file(file: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        let problem = Problem { file: Arc::from(file), place: None, what: what.into(), cure: cure.into() };
        Self(vec![problem])
    }
}

impl Display for Problems {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What the operator wrote, for a message: one line and not too long, whatever it was.
pub fn quoted(text: &str) -> String {
    const LETTERS_MAX: usize = 60;
    let mut shown: String = text.chars().take(LETTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(LETTERS_MAX).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The known word that `word` was most likely meant to be: at most a third of its letters wrong,
/// case not counted.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lowered = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&lowered, &candidate.to_lowercase()), candidate))
        .filter(|(steps, candidate)| *steps <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance with neighbouring letters swapped counting as one (optimal string alignment).
/// Words longer than any key of ours are far from all of them.
fn distance(a: &str, b: &str) -> usize {
    const LETTERS_MAX: usize = 64;
    let a: Vec<char> = a.chars().take(LETTERS_MAX).collect();
    let b: Vec<char> = b.chars().take(LETTERS_MAX).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let changed = rows[i][j] + usize::from(left != right);
            let mut steps = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                steps = steps.min(rows[i - 1][j - 1] + 1);
            }
            row.push(steps);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let known = ["listen", "mcpServers", "http", "maxBody", "url"];
        let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
        check("lisen", Some("listen"));
        check("litsen", Some("listen"));
        check("mcpservers", Some("mcpServers"));
        check("max_body", Some("maxBody"));
        check("uri", Some("url"));
        check("completelyElse", None);
        check("x", None);
    }

    #[test]
    fn a_quotation_is_one_short_line() {
        assert_eq!(quoted("a\nb"), "`a\\nb`");
        assert!(quoted(&"x".repeat(10_000)).len() < 100);
    }

    /// Found by `config_file`: a path with a control character reached the terminal as it was.
    #[test]
    fn a_problem_shows_no_control_character() {
        let problem = Problem {
            file: Arc::from("a.yaml"),
            place: None,
            what: "cannot read `k\t\u{1b}[2Js\n.yaml`".into(),
            cure: "é\u{85}".into(),
        };
        let shown = "a.yaml: cannot read `k\\t\\u{1b}[2Js\\n.yaml`. é\\u{85}";
        assert_eq!(problem.to_string(), shown);
    }

    #[test]
    fn a_problem_reads_as_one_line() {
        let mut problem = Problem {
            file: Arc::from("a.yaml"),
            place: Some(Place { line: 3, column: 5 }),
            what: "`htp` is not a key here".into(),
            cure: "Did you mean `http`?".into(),
        };
        assert_eq!(problem.to_string(), "a.yaml:3:5: `htp` is not a key here. Did you mean `http`?");
        problem.place = None;
        problem.cure.clear();
        assert_eq!(Problems(vec![problem]).to_string(), "a.yaml: `htp` is not a key here.");
    }
}
