//! Copies of the live files, each made wrong on purpose in one place: the simulation must catch every one of them.
//!
//! A file of `tests/mutants/` names the live file, why the change is wrong, the text as it stands there, exactly once,
//! and what takes its place. A text that is not found fails the test, so that no mutant outlives the code that it was
//! made of.
//!
//! Not here: the promises that are broken (`promises`).

use std::env;
use std::fs;
use std::iter;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Compiled and run at the same time.
const TOGETHER: usize = 2;
/// Every mutant is caught by fewer, and the unchanged copy passes as many.
const SEEDS: u64 = 32;
/// What the program of `program.rs` is made of, besides the simulation.
const LIVE: &[&str] = &[
    "base/atomic.rs",
    "base/clock.rs",
    "config/limits.rs",
    "config/traffic.rs",
    "policy/limits/gate.rs",
    "policy/limits/pinned.rs",
    "policy/limits/table.rs",
    "policy/limits/terms.rs",
    "route",
];

struct Mutant {
    name: String,
    file: String,
    why: String,
    text: String,
    instead: String,
}

impl Mutant {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let all = fs::read_to_string(path).expect("readable");
        let parts: Vec<&str> = all.split("\n----\n").collect();
        let [head, text, instead] = parts[..] else {
            panic!("{name}: not three parts between lines of ----")
        };
        let (file, why) = head
            .strip_prefix("file: src/")
            .and_then(|head| head.split_once("\nwhy: "))
            .unwrap_or_else(|| panic!("{name}: it does not begin with `file: src/…` and `why: …`"));
        let [file, why, text] = [file, why, text].map(str::to_owned);
        Self { name, file, why, text, instead: instead.trim_end_matches('\n').to_owned() }
    }

    fn apply(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(&self.file);
        let before = fs::read_to_string(&path).map_err(|error| format!("src/{}: {error}", self.file))?;
        let found = before.matches(&self.text).count();
        if found != 1 {
            return Err(format!("its text stands {found} times in src/{}; mend the mutant", self.file));
        }
        fs::write(path, before.replace(&self.text, &self.instead)).map_err(|error| error.to_string())
    }
}

/// Builds and runs the unchanged copy, which must keep every promise, and every mutant, which must not.
pub fn judge() {
    let entries = fs::read_dir(Path::new(ROOT).join("tests/mutants")).expect("readable");
    let mutants = entries.map(|entry| Some(Mutant::read(&entry.expect("readable").path())));
    // The unchanged copy is first, because it runs longest.
    let mutants: Vec<Option<Mutant>> = iter::once(None).chain(mutants).collect();
    assert!(mutants.len() > 5, "only {} mutants", mutants.len() - 1);
    let next = AtomicUsize::new(0);
    let some = || -> Vec<String> {
        let mine = iter::from_fn(|| mutants.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.filter_map(|mutant| judge_one(mutant.as_ref()).err()).collect()
    };
    let faults: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(some)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("judges do not panic")).collect()
    });
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn judge_one(mutant: Option<&Mutant>) -> Result<(), String> {
    let name = mutant.map_or("unchanged", |mutant| &mutant.name);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants").join(name);
    // From an earlier run.
    let _ = fs::remove_dir_all(&folder);
    for part in LIVE {
        copy(&Path::new(ROOT).join("src").join(part), &folder.join(part));
    }
    copy(&Path::new(ROOT).join("tests/simulation"), &folder.join("simulation"));
    mutant.map_or(Ok(()), |mutant| mutant.apply(&folder)).map_err(|error| format!("{name}: {error}"))?;
    let program = compile(&folder).map_err(|error| format!("{name}: {error}"))?;
    let Output { status, stderr, .. } =
        Command::new(program).arg(SEEDS.to_string()).output().expect("it runs");
    let said = String::from_utf8_lossy(&stderr);
    match mutant {
        None if !status.success() => Err(format!("the unchanged copy breaks a promise:\n{said}")),
        Some(Mutant { why, .. }) if !said.contains("breaks a promise") => {
            Err(format!("{name} ({why}) is not caught by {SEEDS} seeds: {status}\n{said}"))
        }
        _ => Ok(()),
    }
}

/// Without optimisation: most mutants are caught by the first seeds, and compiling would take longer than that.
fn compile(folder: &Path) -> Result<PathBuf, String> {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let (source, program) = (folder.join("program.rs"), folder.join("program"));
    // The root of the program belongs beside its modules; kept there, in `tests/`, cargo would take it for a test.
    fs::rename(folder.join("simulation/program.rs"), &source).expect("it was copied");
    let mut command = Command::new(compiler);
    command.args(["--edition", "2024", "--cap-lints", "allow", "-C", "debug-assertions=on"]);
    // Links in half the time.
    command.args(["-C", "prefer-dynamic", "-C", "rpath", "-o"]).arg(&program).arg(source);
    let output = command.output().expect("rustc");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(program) } else { Err(said.into_owned()) }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::create_dir_all(to.parent().expect("below target/")).expect("writable");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        return;
    }
    for entry in fs::read_dir(from).expect("readable") {
        let name = entry.expect("readable").file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}
