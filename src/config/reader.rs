//! Typed readers over the located tree. A reader never stops: what it cannot read it reports, and
//! gives back nothing, so that one run finds every mistake.
//!
//! Not here: which keys exist (`file`) and what they mean together (`compile`).

use crate::config::expand;
use crate::config::limits;
use crate::config::problem::Place;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::config::problem::nearest;
use crate::config::problem::quoted;
use crate::config::table::Table;
use crate::config::tree::Entry;
use crate::config::tree::Node;
use crate::config::tree::Value;
use crate::config::units;
use aws_lc_rs::digest;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
    /// It came out of `${…}` and may be a secret: no message may show it.
    pub hidden: bool,
}

impl Located<String> {
    /// For messages: the value as written, or what stands for it.
    pub fn shown(&self) -> String {
        if self.hidden { "the value of `${…}`".into() } else { quoted(&self.value) }
    }
}

/// Reads one file and gathers what is wrong with it.
pub struct Reader<'a> {
    name: Arc<str>,
    /// What relative paths are relative to.
    pub base: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Problems that were counted and not described.
    pub untold: usize,
    /// Files that the config refers to.
    pub watched: Vec<PathBuf>,
    /// Over the text and everything that it refers to.
    pub digest: digest::Context,
    /// `path.key` of every key that was asked for, so that a test can compare them with the schema.
    #[cfg(test)]
    pub asked: std::collections::BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub fn new(name: &str, base: &'a Path, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            name: Arc::from(name),
            base,
            environment,
            problems: Vec::new(),
            warnings: Vec::new(),
            untold: 0,
            watched: Vec::new(),
            digest: digest::Context::new(&digest::SHA256),
            #[cfg(test)]
            asked: std::collections::BTreeSet::new(),
        }
    }

    /// First 16 hex digits of the digest so far.
    pub fn digest_hex(&self) -> String {
        let full = self.digest.clone().finish();
        full.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// All problems in the order of the file, or nothing.
    pub fn into_problems(mut self) -> Option<Problems> {
        if self.problems.is_empty() {
            return None;
        }
        // The file itself first, then those that it refers to.
        self.problems.sort_by_key(|problem| (problem.file != self.name, problem.file.clone(), problem.place));
        let more = self.untold + self.problems.len().saturating_sub(limits::PROBLEMS_MAX);
        if more > 0 {
            self.problems.truncate(limits::PROBLEMS_MAX);
            let what = format!("and {more} more problems");
            self.problems.push(Problem { file: self.name, place: None, what, cure: String::new() });
        }
        Some(Problems(self.problems))
    }

    /// `what` without a full stop, `cure` a whole sentence or empty.
    pub fn problem(&mut self, place: Place, what: impl Into<String>, cure: impl Into<String>) {
        let problem = self.located(place, what.into(), cure.into());
        self.problems.push(problem);
    }

    pub fn warn(&mut self, place: Place, what: impl Into<String>, cure: impl Into<String>) {
        let problem = self.located(place, what.into(), cure.into());
        self.warnings.push(problem);
    }

    fn located(&self, place: Place, what: String, cure: String) -> Problem {
        Problem { file: self.name.clone(), place: Some(place), what, cure }
    }

    /// A path as the operator wrote it, relative to the config file.
    pub fn path(&self, written: &str) -> PathBuf {
        self.base.join(written)
    }

    /// The bytes of a file that the config refers to; it is watched from now on.
    ///
    /// # Errors
    /// The reason, without the path.
    pub fn referenced(&mut self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
        let bytes = read_bounded(path, bytes_max)?;
        if !self.watched.iter().any(|known| known == path) {
            self.watched.push(path.to_path_buf());
        }
        self.digest.update(&bytes);
        Ok(bytes)
    }

    /// Any scalar as text, expanded.
    pub fn text(&mut self, node: &Node) -> Option<Located<String>> {
        let Value::Scalar { text, .. } = &node.value else {
            let cure = "Write one value, without `-`, `[` or keys of its own.";
            self.problem(node.place, format!("expected text, found {}", kind(node)), cure);
            return None;
        };
        if node.is_null() {
            self.problem(node.place, "there is no value", "Write one, or remove the key.");
            return None;
        }
        if !text.contains("${") {
            return Some(Located { value: text.clone(), place: node.place, hidden: false });
        }
        match expand::expand(text, self) {
            Ok(value) => {
                self.digest.update(value.as_bytes());
                Some(Located { value, place: node.place, hidden: true })
            }
            Err(flaws) => {
                for flaw in flaws {
                    self.problem(node.place, flaw.what, flaw.cure);
                }
                None
            }
        }
    }

    /// `true` or `false`, nothing else: `yes`, `on` and `1` are text in YAML 1.2.
    pub fn flag(&mut self, node: &Node) -> Option<bool> {
        self.choice(node, &[("true", true), ("false", false)])
    }

    /// `false` stands for `off` where that is one of the words.
    pub fn choice<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        let is = |written: &str| words.iter().find(|(word, _)| *word == written);
        if let Some((_, value)) = is(&text.value).or_else(|| is("off").filter(|_| is_off(&text.value))) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let cure = match nearest(&text.value, known.iter().copied()) {
            Some(word) if !text.hidden => format!("Did you mean `{word}`?"),
            _ => format!("It is one of: {}.", known.join(", ")),
        };
        self.problem(text.place, format!("{} is not a value of this key", text.shown()), cure);
        None
    }

    /// What `parse` makes of the text. `cure` says what it takes.
    pub fn parsed<T>(
        &mut self,
        node: &Node,
        cure: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Located<T>> {
        let text = self.text(node)?;
        let Some(value) = parse(&text.value) else {
            self.problem(text.place, format!("{} is not a value of this key", text.shown()), cure);
            return None;
        };
        Some(Located { value, place: text.place, hidden: text.hidden })
    }

    pub fn number<N: FromStr + PartialOrd + Display>(
        &mut self,
        node: &Node,
        range: RangeInclusive<N>,
    ) -> Option<Located<N>> {
        let cure = format!("It is between {} and {}.", range.start(), range.end());
        self.parsed(node, &cure, |text| text.parse().ok().filter(|value| range.contains(value)))
    }

    /// Milliseconds.
    pub fn duration(&mut self, node: &Node, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        let bounds = (units::show_ms(*range.start()), units::show_ms(*range.end()));
        let cure = format!(
            "A duration is a whole number and a unit (`100ms`, `30s`, `5m`, `1h`), here from {} to {}.",
            bounds.0, bounds.1
        );
        self.parsed(node, &cure, |text| units::duration_ms(text).filter(|ms| range.contains(ms)))
    }

    /// Bytes.
    pub fn size(&mut self, node: &Node, range: RangeInclusive<u64>) -> Option<usize> {
        let bounds = (units::show_bytes(*range.start()), units::show_bytes(*range.end()));
        let cure = format!(
            "A size is a whole number and a unit (`64KiB`, `4MiB`, `1MB`), here from {} to {}.",
            bounds.0, bounds.1
        );
        let bytes =
            self.parsed(node, &cure, |text| units::size_bytes(text).filter(|size| range.contains(size)));
        usize::try_from(bytes?.value).ok()
    }

    /// A number that may end in `k` or `M`.
    pub fn count(&mut self, node: &Node, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        let cure = format!(
            "It is a whole number, `k` and `M` allowed, between {} and {}.",
            range.start(),
            range.end()
        );
        self.parsed(node, &cure, |text| units::count(text).filter(|count| range.contains(count)))
    }

    /// In units of `10^-digits`, at least `least` of them and at most 1.
    pub fn ratio(&mut self, node: &Node, digits: u32, least: u32) -> Option<u32> {
        let one = 10_u32.pow(digits);
        let range = if least > 0 { "above 0 and at most 1" } else { "from 0 to 1" };
        let cure = format!("A ratio is a number {range}, with at most {digits} digits after the point.");
        let parse = |text: &str| units::ratio(text, digits).filter(|ratio| (least..=one).contains(ratio));
        self.parsed(node, &cure, parse).map(|ratio| ratio.value)
    }

    pub fn list<'n>(&mut self, node: &'n Node) -> Option<&'n [Rc<Node>]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                let cure = "Write a list: `[one, two]`, or a line `- one` for each.";
                self.problem(node.place, format!("expected a list, found {}", kind(node)), cure);
                None
            }
        }
    }

    /// A list of names, none of them empty, and at least one: an empty list could mean none or all.
    pub fn names(&mut self, node: &Node) -> Vec<Located<String>> {
        self.names_within(node, limits::NAMES_MAX)
    }

    /// The same with another bound.
    pub fn names_within(&mut self, node: &Node, most: usize) -> Vec<Located<String>> {
        let Some(items) = self.list(node) else { return Vec::new() };
        if items.is_empty() {
            self.problem(node.place, "the list is empty", "Name at least one, or remove the key.");
        }
        if let Some(item) = items.get(most) {
            self.problem(item.place, format!("more than {most} names"), "Use `*`, or split it.");
            return Vec::new();
        }
        let texts: Vec<_> = items.iter().filter_map(|item| self.text(item)).collect();
        for text in texts.iter().filter(|text| text.value.is_empty()) {
            self.problem(text.place, "there is no value", "Write one, or remove it.");
        }
        texts
    }

    /// A mapping whose keys are ours. `path` names it in messages (`http`, `mcpServers.NAME`).
    pub fn table<'n>(&mut self, node: &'n Node, path: &'static str) -> Option<Table<'n>> {
        let entries = self.entries(node)?;
        Some(Table::new(entries, path))
    }

    /// A mapping whose keys are the operator's own. Each key once: later ones are reported and left out.
    pub fn entries<'n>(&mut self, node: &'n Node) -> Option<Vec<&'n Entry>> {
        let Value::Map(entries) = &node.value else {
            let cure = if node.is_null() { "Write its keys below it, indented, or remove it." } else { "" };
            self.problem(node.place, format!("expected keys and values, found {}", kind(node)), cure);
            return None;
        };
        let mut first: HashMap<&str, Place> = HashMap::new();
        let mut unique = Vec::new();
        for entry in entries {
            if let Some(Place { line, column }) = first.get(entry.key.as_str()) {
                let what = format!("{} stands here a second time", quoted(&entry.key));
                self.problem(entry.key_place, what, format!("The first one is at {line}:{column}."));
            } else {
                first.insert(&entry.key, entry.key_place);
                unique.push(entry);
            }
        }
        Some(unique)
    }
}

impl expand::Source for Reader<'_> {
    fn variable(&mut self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        let path = self.path(path);
        let bytes = self.referenced(&path, limits::SECRET_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

/// The bytes of a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// The reason, without the path.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    // A pipe would block: ask before.
    let kind = std::fs::metadata(path).map_err(|error| reason(&error))?;
    if !kind.is_file() && !kind.is_dir() {
        return Err("it is no regular file".into());
    }
    read_up_to(path, bytes_max)
}

/// The same for a path that may be a pipe, such as `/dev/stdin`: this waits for its end.
///
/// # Errors
/// The reason, without the path.
pub fn read_up_to(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| reason(&error))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > bytes_max) {
        return Err(format!("it is larger than {}", units::show_bytes(bytes_max)));
    }
    Ok(bytes)
}

/// An error of the system as the end of a sentence.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::IsADirectory => "it is a directory".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// The contract: `off` may be written `false`.
pub fn is_off(text: &str) -> bool {
    matches!(text, "off" | "false")
}

fn kind(node: &Node) -> &'static str {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => "nothing",
        Value::Scalar { .. } => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "keys and values",
    }
}
