//! The rules of the tree as tests: who may import whom, which words have which homes, what every file
//! opens with. Text only, no parser, std only; ARCHITECTURE.md gives the reasons at length.
//!
//! Not here: what clippy can see. Blind to macros, to `use x as y` and to wrappers in a permitted
//! folder; review covers those.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree fails")]

use std::fs;
use std::path::Path;

/// A folder of `src/` (or the stem of a file directly in it) and the folders that it may name.
/// A folder without a row is an error, so that a new folder is a decision.
const ROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("config", &["base"]),
    ("telemetry", &["base"]),
    ("http", &["base"]),
    ("mcp", &["base", "config"]),
    ("policy", &["base", "config", "mcp"]),
    ("route", &["base", "config", "mcp"]),
    ("net", &["base"]),
    ("edge", &["base", "config", "net"]),
    ("upstream", &["base", "config", "net", "http", "mcp"]),
    ("handoff", &["base", "config", "telemetry", "mcp", "policy", "route"]),
    (
        "worker",
        &[
            "base",
            "config",
            "telemetry",
            "net",
            "http",
            "mcp",
            "policy",
            "route",
            "edge",
            "upstream",
            "handoff",
        ],
    ),
    ("adapters", &["base", "config"]),
    ("control", &["base", "config", "telemetry", "mcp", "policy", "route", "adapters", "handoff"]),
    (
        "cli",
        &[
            "base",
            "config",
            "telemetry",
            "mcp",
            "policy",
            "route",
            "adapters",
            "net",
            "control",
            "worker",
            "handoff",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

const PURE: &[&str] = &["base/", "config/", "telemetry/", "http/", "mcp/", "policy/", "route/"];
const TOKIO: Place = Place::OnlyIn(&["control/", "adapters/"]);
const MONOIO: Place = Place::OnlyIn(&["net/", "edge/", "upstream/", "worker/"]);

/// Where a word may stand: prefixes of paths below `src/`.
enum Place {
    OnlyIn(&'static [&'static str]),
    NotIn(&'static [&'static str]),
}

/// A word of non-test code, where it may stand, and what to do instead.
const WORDS: &[(&str, Place, &str)] = &[
    ("tokio::", TOKIO, "only the side thread runs tokio; a worker uses monoio, a stage takes bytes"),
    ("hyper::", TOKIO, "the data plane has its own codec in http/"),
    ("hyper_util::", TOKIO, "the data plane has its own codec in http/"),
    ("axum::", TOKIO, "the data plane has its own codec in http/"),
    ("reqwest::", TOKIO, "the data plane has its own client in upstream/"),
    ("rmcp::", TOKIO, "messages are relayed raw; rmcp is for the sample server"),
    ("monoio::", MONOIO, "keep the runtime replaceable: pass bytes and values to the other folders"),
    (
        "h2::",
        Place::OnlyIn(&["worker/http2.rs", "worker/http2/"]),
        "a stream of HTTP/2 is a connection of HTTP/1.1 to everybody else",
    ),
    ("Instant::now", Place::OnlyIn(&["base/clock.rs"]), "take a `Moment` as an argument"),
    ("SystemTime::now", Place::OnlyIn(&["base/clock.rs"]), "take the wall time as an argument"),
    ("unsafe ", Place::OnlyIn(&["base/sys.rs", "base/sys/"]), "add a safe function to base/sys.rs"),
    ("io_uring::", Place::OnlyIn(&["base/sys/"]), "the ring of calls is base/sys/ring.rs"),
    ("Mutex<", TOKIO, "own the state in one thread, or pass it through handoff"),
    ("RwLock<", TOKIO, "own the state in one thread, or pass it through handoff"),
    ("async ", Place::NotIn(PURE), "return what should happen; the worker awaits it"),
    (".await", Place::NotIn(PURE), "return what should happen; the worker awaits it"),
    ("TcpStream", Place::NotIn(PURE), "take and give bytes"),
    ("unbounded", Place::OnlyIn(&[]), "every queue has a bound in config/limits.rs"),
    ("mpsc::channel()", Place::OnlyIn(&[]), "std's channel has no bound: use sync_channel or handoff"),
    ("crate::{", Place::OnlyIn(&[]), "one `use crate::folder::Item;` a line"),
    ("super::super", Place::OnlyIn(&[]), "name the folder: `use crate::folder::Item;`"),
    ("pub use crate::", Place::OnlyIn(&[]), "users name the folder that owns the item"),
];

/// What one file does wrong, as `file:line: rule; what to do instead`.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut found = every_file(path, text);
    if let Some(below) = path.strip_prefix("src/") {
        let folder = below.split(['/', '.']).next().unwrap_or("");
        if !ROWS.iter().any(|(name, _)| *name == folder) {
            found.push(format!(
                "{path}:1: `{folder}` has no row; decide whom it may import and add one to ROWS"
            ));
        }
        for (number, line) in code_lines(text) {
            let place = format!("{path}:{number}");
            found.extend(import_fault(below, line).map(|fault| format!("{place}: {fault}")));
            found.extend(word_faults(below, line).map(|fault| format!("{place}: {fault}")));
        }
    }
    found
}

/// Lines before the test module, without comments, numbered from 1.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let code = text.get(..end).unwrap_or(text);
    code.lines().enumerate().map(|(index, line)| (index + 1, without_comment(line)))
}

/// `//` begins a comment, unless it belongs to the `://` of an address.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

fn import_fault(below: &str, line: &str) -> Option<String> {
    let folder = below.split(['/', '.']).next()?;
    let (_, allowed) = ROWS.iter().find(|(name, _)| *name == folder)?;
    if line.trim_start().starts_with("use crate::") && line.contains('{') {
        return Some("grouped import; write one `use crate::folder::Item;` a line".into());
    }
    let wrong = named_folders(line).find(|name| *name != folder && !allowed.contains(name))?;
    Some(format!(
        "`{folder}` may not import `{wrong}`; pass the value through worker/exchange.rs, or move the item down"
    ))
}

/// The names that follow `crate::`, and `ringgate::`, which is how `main.rs` sees the library.
fn named_folders(line: &str) -> impl Iterator<Item = &str> {
    let starts = ["crate::", "ringgate::"]
        .into_iter()
        .flat_map(|prefix| occurrences(line, prefix).map(move |at| at + prefix.len()).collect::<Vec<_>>());
    let name = |at: usize| line[at..].split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
    // `crate::{` is a word of its own, and a capital is an item of `lib.rs`, which has none.
    starts.filter_map(name).filter(|name| name.starts_with(|c: char| c.is_lowercase()))
}

fn word_faults(below: &str, line: &str) -> impl Iterator<Item = String> {
    let at_home = |homes: &[&str]| homes.iter().any(|home| below.starts_with(home));
    WORDS.iter().filter_map(move |(word, place, instead)| {
        let wrong = match place {
            Place::OnlyIn(homes) => !at_home(homes),
            Place::NotIn(places) => at_home(places),
        };
        let here = wrong && occurrences(line, word).next().is_some();
        here.then(|| format!("`{}` may not stand here; {instead}", word.trim()))
    })
}

/// Where `word` stands in `line` and is not the tail of a longer name.
fn occurrences<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let begins_name = word.starts_with(|c: char| c.is_alphanumeric());
    let inside = move |at: usize| line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(word).map(|(at, _)| at).filter(move |at| !(begins_name && inside(*at)))
}

/// Rules for every `.rs` file, tests included.
fn every_file(path: &str, text: &str) -> Vec<String> {
    const LINES_MAX: usize = 600;
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push(format!("{path}:1: no `//!`; say what the file is and what is not in it"));
    }
    let lines = if path.starts_with("tests/") { text.lines().count() } else { code_lines(text).count() };
    if lines > LINES_MAX {
        found.push(format!("{path}:{lines}: longer than {LINES_MAX} lines; split it by topic"));
    }
    for (index, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", index + 1);
        for (word, instead) in NOWHERE {
            if line.contains(word) {
                found.push(format!("{place}: `{word}`; {instead}"));
            }
        }
        let waits = path.starts_with("tests/") && !path.starts_with("tests/support/");
        if waits && without_comment(line).contains(SLEEP) {
            found.push(format!("{place}: sleeping; wait for the event with a deadline (tests/support)"));
        }
    }
    found
}

/// Written in two parts, so that this file does not find itself.
const SLEEP: &str = concat!("sle", "ep(");
const NOWHERE: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it now, or open an issue and name it in the code that waits for it"),
    (concat!("FIX", "ME"), "fix it now, or open an issue and name it in the code that waits for it"),
    (concat!("#[ig", "nore]"), "delete the test, or say why: `= \"reason\"`"),
    (concat!("#[al", "low("), "use `#[expect(lint, reason = \"…\")]`, which tells when it is not needed"),
    (concat!("#![al", "low("), "use `#![expect(lint, reason = \"…\")]`, which tells when it is not needed"),
];

/// Every `.rs` file below `folder`, as paths relative to the root of the repository.
fn rust_files(root: &Path, folder: &Path, into: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            if !path.ends_with("target") {
                rust_files(root, &path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn the_tree_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "loadtest", "fuzz", "models"] {
        rust_files(root, &root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "the walk found only {files:?}");
    files.sort();
    let found: Vec<String> =
        files.iter().flat_map(|path| faults(path, &fs::read_to_string(root.join(path)).unwrap())).collect();
    assert!(found.is_empty(), "\n{} faults\n{}\n", found.len(), found.join("\n"));
}

/// (file, its text after the opening comment, a part of the fault that must be found; "" for none)
const PLANTED: &[(&str, &str, &str)] = &[
    ("src/http/head.rs", "use crate::mcp::Call;", "`http` may not import `mcp`"),
    ("src/edge/accept.rs", "fn f() { crate::upstream::pool::close() }", "`edge` may not import `upstream`"),
    ("src/control/reload.rs", "use crate::worker::Loop;", "`control` may not import `worker`"),
    ("src/worker/mod.rs", "use crate::control::Side;", "`worker` may not import `control`"),
    ("src/main.rs", "fn main() { ringgate::control::start() }", "`main` may not import `control`"),
    ("src/plugins/mod.rs", "fn f() {}", "`plugins` has no row"),
    ("src/worker/mod.rs", "use crate::{base, http};", "`crate::{` may not stand here"),
    ("src/worker/mod.rs", "use crate::http::{Head, Event};", "grouped import"),
    ("src/policy/key.rs", "let now = Instant::now();", "`Instant::now` may not stand here"),
    ("src/edge/accept.rs", "use tokio::net::TcpListener;", "`tokio::` may not stand here"),
    ("src/control/mod.rs", "use monoio::net::TcpStream;", "`monoio::` may not stand here"),
    ("src/worker/relay.rs", "use h2::SendStream;", "`h2::` may not stand here"),
    ("src/policy/decide.rs", "pub async fn decide() {}", "`async` may not stand here"),
    ("src/mcp/era.rs", "let x = f().await;", "`.await` may not stand here"),
    ("src/worker/mod.rs", "let lock: Mutex<u8>;", "`Mutex<` may not stand here"),
    ("src/base/buffer.rs", "unsafe { f() }", "`unsafe` may not stand here"),
    ("src/control/mod.rs", "let (a, b) = mpsc::unbounded_channel();", "`unbounded` may not stand here"),
    ("src/control/mod.rs", "let (a, b) = mpsc::channel();", "has no bound"),
    ("src/http/sse.rs", "use super::super::mcp;", "`super::super` may not stand here"),
    ("src/worker/mod.rs", "pub use crate::http::Head;", "`pub use crate::` may not stand here"),
    ("src/base/text.rs", concat!("// TO", "DO: later"), "open an issue"),
    ("tests/exchange/pool.rs", concat!("thread::sle", "ep(TICK);"), "wait for the event"),
    ("tests/exchange/pool.rs", concat!("#[ig", "nore]"), "delete the test"),
    ("loadtest/src/main.rs", concat!("#[al", "low(dead_code)]"), "#[expect"),
    // What must stay silent.
    ("src/worker/exchange.rs", "use crate::http::Head;", ""),
    ("src/worker/client.rs", "use crate::worker::http2::lanes;", ""),
    ("src/upstream/tls.rs", "use tokio_rustls::TlsConnector;", ""),
    ("src/policy/key.rs", "// not async here, and no Instant::now", ""),
    ("src/config/plan.rs", "let url = \"http://a\"; // crate::worker", ""),
    ("src/http/head.rs", "#[cfg(test)]\nmod tests { use crate::mcp::Call; }", ""),
    ("src/main.rs", "fn main() { ringgate::cli::main() }", ""),
];

#[test]
fn every_planted_fault_is_found() {
    for (path, text, expected) in PLANTED {
        let found = faults(path, &format!("//! A file.\n{text}\n"));
        if expected.is_empty() {
            assert_eq!(found, Vec::<String>::new(), "{path}: {text}");
        } else {
            let line = if expected.contains("no row") { 1 } else { 2 };
            let place = format!("{path}:{line}: ");
            let hit = found.iter().any(|fault| fault.starts_with(&place) && fault.contains(expected));
            assert!(hit, "{path}: {text}: {found:?}");
        }
    }
}

#[test]
fn a_file_without_an_opening_or_too_long_is_found() {
    assert!(faults("src/base/x.rs", "fn f() {}\n")[0].contains("no `//!`"));
    let long = format!("//! A file.\n{}", "fn f() {}\n".repeat(600));
    assert!(faults("src/base/x.rs", &long)[0].contains("longer than 600"));
    let tested = format!("//! A file.\n#[cfg(test)]\nmod tests {{\n{}}}", "fn f() {}\n".repeat(600));
    assert_eq!(faults("src/base/x.rs", &tested), Vec::<String>::new());
}
