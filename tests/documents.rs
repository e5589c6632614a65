//! The documents keep their promises: links and paths lead somewhere, examples load, the first screen is
//! complete, what they count is counted.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// README's first screen.
const FIRST_SCREEN: usize = 40;
const ARCHITECTURE_LINES_MAX: usize = 250;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let folders = [root().to_owned(), root().join("docs"), root().join("docs/decisions")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Also the documents that stand beside what they describe.
fn all_documents() -> Vec<PathBuf> {
    let beside = ["fuzz/README.md", "loadtest/README.md", "tuning/README.md"].map(|path| root().join(path));
    documents().into_iter().chain(beside).collect()
}

/// What stands between single backticks, outside fenced blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2))
}

/// A path of this repository, as a reader would understand it: `tests/all`, `worker/exchange.rs`, `deny.toml`.
fn is_path(word: &str) -> bool {
    let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    let ours = [
        "src/",
        "docs/",
        "tests/",
        "fuzz/",
        "loadtest/",
        "models/",
        "tuning/",
        "examples/",
        "benches/",
        ".ci/",
    ];
    let named = [".rs", ".md", ".toml"].iter().any(|ending| word.ends_with(ending));
    // What a fuzzer writes is not stored.
    plain && (named || ours.iter().any(|folder| word.starts_with(folder))) && !word.contains("/artifacts/")
}

/// Targets of `[text](target)` that are files of this repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with("http")).filter_map(|target| target.split('#').next())
}

/// Contents of fenced blocks in `language`.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut followed = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for link in links(&text).filter(|link| !link.is_empty()) {
            assert!(path.parent().unwrap().join(link).exists(), "{}: {link}", path.display());
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed} links: is anything read?");
}

#[test]
fn paths_lead_somewhere() {
    let mut followed = 0;
    for document in all_documents() {
        let text = fs::read_to_string(&document).unwrap();
        for path in quoted(&text).filter(|word| is_path(word)) {
            // Source files are named from `src/`, those beside a document by their name.
            let from = [root().to_owned(), root().join("src"), document.parent().unwrap().to_owned()];
            let exists = from.iter().any(|base| base.join(path).exists());
            assert!(exists, "{}: `{path}` does not exist", document.display());
            followed += 1;
        }
    }
    assert!(followed > 40, "{followed} paths: is anything read?");
}

#[test]
fn the_first_screen_says_what_matters() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let screen = text.lines().take(FIRST_SCREEN).collect::<Vec<_>>().join("\n");
    for part in ["cargo run --release -- demo", "tests/all", "loadtest", "mcpServers:", "It is not for"] {
        assert!(screen.contains(part), "the first {FIRST_SCREEN} lines lack {part:?}");
    }
    assert_eq!(blocks(&screen, "yaml")[0].lines().count(), 10);
}

#[test]
fn configurations_of_the_documents_load() {
    let [readme, limits, access, federation] =
        ["README.md", "docs/LIMITS.md", "docs/ACCESS.md", "docs/FEDERATION.md"]
            .map(|path| fs::read_to_string(root().join(path)).unwrap());
    let base = std::env::temp_dir().join(format!("ringgate-documents-{}", std::process::id()));
    fs::create_dir_all(&base).unwrap();
    fs::write(base.join("keys.yaml"), "keys: []\n").unwrap();
    let from_shell = readme.split("<<'EOF'\n").skip(1).filter_map(|rest| rest.split("EOF").next());
    let in_yaml = [&readme, &limits, &access, &federation].into_iter().flat_map(|text| blocks(text, "yaml"));
    let written: Vec<&str> = in_yaml.chain(from_shell).collect();
    assert_eq!(written.len(), 7);
    for yaml in written {
        let environment = |_: &str| Some("secret".to_owned());
        let loaded = ringgate::config::load_with(yaml, "a document", &base, &environment);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}\n{yaml}"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
    fs::remove_dir_all(base).unwrap();
}

#[test]
fn the_architecture_stays_short() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= ARCHITECTURE_LINES_MAX);
}

#[test]
fn unsafe_blocks_are_counted() {
    let beside = fs::read_dir(root().join("src/base/sys")).into_iter().flatten().flatten();
    let files: Vec<PathBuf> =
        beside.map(|entry| entry.path()).chain([root().join("src/base/sys.rs")]).collect();
    let rust = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let blocks: usize = rust.map(|path| fs::read_to_string(path).unwrap().matches("unsafe {").count()).sum();
    let told = format!("unsafe blocks: {blocks},");
    for name in ["docs/ARCHITECTURE.md", "SECURITY.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        assert!(text.contains(&told), "{name} must say `{told}`");
    }
}

#[test]
fn every_folder_is_on_the_map() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let mut folders = 0;
    for entry in fs::read_dir(root().join("src")).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        // `cli` is told among the entry points.
        let told = text.contains(&format!("`{name}/")) || text.contains(&format!("`{name}`"));
        assert!(told, "docs/ARCHITECTURE.md does not tell what src/{name}/ is");
        folders += 1;
    }
    assert!(folders > 10);
}
