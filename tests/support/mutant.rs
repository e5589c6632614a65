//! Copies of the live files, each made wrong on purpose in one place: the tests must catch every one of them.
//!
//! A file of a folder of mutants names the live file, why the change is wrong, the text as it stands there, exactly
//! once, and what takes its place. A text that is not found fails the test, so that no mutant outlives the code that it
//! was made of.
//!
//! Not here: the program that is built with such a copy, and what it checks.

use std::env;
use std::ffi::OsString;
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

/// Mutants of the same files, caught by the same program.
pub struct Suite {
    /// The folder of the mutants, below the root of the repository.
    pub mutants: &'static str,
    /// What of `src/` the program is made of, and what of `tests/`.
    pub live: &'static [&'static str],
    pub tests: &'static [&'static str],
    /// Of the files that `live` brings, those that stay the library's own, without their `.rs`.
    pub lent: &'static [&'static str],
    /// The root of the program, below `tests/`: it belongs beside its modules; kept there, cargo would take it for a
    /// test.
    pub program: &'static str,
    /// What the compiler is told besides.
    pub arguments: Vec<OsString>,
    /// Every mutant is caught by fewer, and the unchanged copy passes as many.
    pub seeds: u64,
    /// What the program says where it catches one.
    pub caught: &'static str,
}

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

impl Suite {
    /// Builds and runs the unchanged copy, which must pass, and every mutant, which must not.
    pub fn judge(&self) {
        let entries = fs::read_dir(Path::new(ROOT).join(self.mutants)).expect("readable");
        let mutants = entries.map(|entry| Some(Mutant::read(&entry.expect("readable").path())));
        // The unchanged copy is first, because it runs longest.
        let mutants: Vec<Option<Mutant>> = iter::once(None).chain(mutants).collect();
        assert!(mutants.len() > 3, "only {} mutants", mutants.len() - 1);
        let next = AtomicUsize::new(0);
        let some = || -> Vec<String> {
            let mine = iter::from_fn(|| mutants.get(next.fetch_add(1, Ordering::Relaxed)));
            mine.filter_map(|mutant| self.judge_one(mutant.as_ref()).err()).collect()
        };
        let faults: Vec<String> = thread::scope(|scope| {
            let running: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(some)).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("judges do not panic")).collect()
        });
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    fn judge_one(&self, mutant: Option<&Mutant>) -> Result<(), String> {
        let name = mutant.map_or("unchanged", |mutant| &mutant.name);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.mutants).join(name);
        // From an earlier run.
        let _ = fs::remove_dir_all(&folder);
        for part in self.live {
            copy(&Path::new(ROOT).join("src").join(part), &folder.join(part));
        }
        for part in self.lent {
            let all = format!("pub use ringgate::{}::*;\n", part.replace('/', "::"));
            fs::write(folder.join(part).with_extension("rs"), all).expect("writable");
        }
        for part in self.tests {
            copy(&Path::new(ROOT).join("tests").join(part), &folder.join(part));
        }
        mutant.map_or(Ok(()), |mutant| mutant.apply(&folder)).map_err(|error| format!("{name}: {error}"))?;
        let program = self.compile(&folder).map_err(|error| format!("{name}: {error}"))?;
        let Output { status, stderr, .. } =
            Command::new(program).arg(self.seeds.to_string()).output().expect("it runs");
        let said = String::from_utf8_lossy(&stderr);
        match mutant {
            None if !status.success() => Err(format!("the unchanged copy does not pass:\n{said}")),
            Some(Mutant { why, .. }) if !said.contains(self.caught) => {
                Err(format!("{name} ({why}) is not caught by {} seeds: {status}\n{said}", self.seeds))
            }
            _ => Ok(()),
        }
    }

    /// Without optimisation: most mutants are caught by the first seeds, and compiling would take longer than that. In one
    /// unit, because two programs are compiled at a time.
    fn compile(&self, folder: &Path) -> Result<PathBuf, String> {
        let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let (source, program) = (folder.join("program.rs"), folder.join("program"));
        fs::rename(folder.join(self.program), &source).expect("it was copied");
        let mut command = Command::new(compiler);
        command.args(["--edition", "2024", "--cap-lints", "allow"]);
        command.args(["-C", "debug-assertions=on", "-C", "codegen-units=1"]);
        command.args(&self.arguments).arg("-o").arg(&program).arg(source);
        let output = command.output().expect("rustc");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(program) } else { Err(said.into_owned()) }
    }
}

/// What tells the compiler where the library of this test is, and crates that copies of its files name themselves.
pub fn libraries(crates: &[&str]) -> Vec<OsString> {
    let test = env::current_exe().expect("a program has a name");
    let folder = test.parent().expect("it is in a folder");
    let mut found = OsString::from("dependency=");
    found.push(folder);
    let mut arguments = vec!["-L".into(), found];
    for name in crates {
        let mut library = OsString::from(format!("{name}="));
        library.push(library_of(name, &test, folder));
        arguments.extend(["--extern".into(), library]);
    }
    arguments
}

/// The library of this name that was built last before this test.
fn library_of(name: &str, test: &Path, folder: &Path) -> PathBuf {
    let built = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a file");
    let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let is_library = |path: &PathBuf| {
        let file = path.file_name().expect("it has a name").to_string_lossy();
        file.starts_with(&format!("lib{name}-")) && file.ends_with(".rlib") && built(path) <= built(test)
    };
    entries.filter(is_library).max_by_key(|path| built(path)).expect("cargo built it before this test")
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
