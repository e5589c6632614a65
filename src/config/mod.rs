//! Configuration: what the operator writes (`file`) becomes an immutable plan (`plan`).
//!
//! Not here: anything that changes by itself while the gateway runs.

pub mod access;
pub mod address;
pub mod compile;
pub mod compile_access;
pub mod compile_auth;
pub mod compile_hub;
pub mod compile_identity;
pub mod compile_limit;
pub mod compile_override;
pub mod compile_pools;
pub mod compile_routing;
pub mod compile_server;
pub mod compile_tls;
pub mod compile_traffic;
pub mod credentials;
pub mod expand;
pub mod expression;
pub mod file;
pub mod file_access;
pub mod file_auth;
pub mod file_hub;
pub mod file_identity;
pub mod file_limit;
pub mod file_tls;
pub mod file_traffic;
pub mod fuzz;
pub mod hub;
pub mod identity;
pub mod key_file;
pub mod keys;
pub mod labels;
pub mod limit;
pub mod limits;
pub mod pattern;
pub mod plan;
pub mod problem;
pub mod read;
pub mod read_access;
pub mod read_auth;
pub mod read_hub;
pub mod read_identity;
pub mod read_limit;
pub mod read_routing;
pub mod read_server;
pub mod read_tls;
pub mod read_traffic;
pub mod reader;
pub mod replace;
pub mod routing;
pub mod schema;
pub mod signing_key;
pub mod strangers;
pub mod table;
pub mod tls;
pub mod tls_server;
pub mod traffic;
pub mod tree;
pub mod units;

use crate::config::plan::Plan;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::config::reader::Reader;
use std::path::Path;
use std::path::PathBuf;

/// A config that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub plan: Plan,
    /// Files that the config refers to, the config itself not among them: a change of any is a reload.
    pub watched: Vec<PathBuf>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads a config file and whatever it refers to.
///
/// # Errors
/// Everything that is wrong with it, all at once.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let cure = "Name a file that this user can read: `-c FILE`.";
    let bytes = reader::read_up_to(path, limits::CONFIG_BYTES_MAX as u64)
        .map_err(|reason| Problems::of_file(&name, format!("cannot read the config: {reason}"), cure))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problems::of_file(&name, "the config is not UTF-8 text", "Save it as UTF-8."))?;
    load_text(&text, &name, path.parent().unwrap_or(Path::new("")))
}

/// The same for a text: `name` stands in messages, `base` is what relative paths are relative to.
///
/// # Errors
/// Everything that is wrong with it, all at once.
pub fn load_text(text: &str, name: &str, base: &Path) -> Result<Loaded, Problems> {
    load_with(text, name, base, &|variable| std::env::var(variable).ok())
}

/// The same with another environment.
///
/// # Errors
/// Everything that is wrong with it, all at once.
pub fn load_with(
    text: &str,
    name: &str,
    base: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    if text.len() > limits::CONFIG_BYTES_MAX {
        let what =
            format!("the config is larger than {}", units::show_bytes(limits::CONFIG_BYTES_MAX as u64));
        return Err(Problems::of_file(name, what, ""));
    }
    let mut reader = Reader::new(name, base, environment);
    reader.digest.update(text.as_bytes());
    let mut plan = match tree::parse(text) {
        Ok(root) => {
            let file = read::file(&mut reader, &root);
            Some(compile::plan(&mut reader, file))
        }
        Err(broken) => {
            reader.problem(broken.place, broken.what, broken.cure);
            None
        }
    };
    let (watched, warnings) = (std::mem::take(&mut reader.watched), std::mem::take(&mut reader.warnings));
    if let Some(plan) = &mut plan {
        plan.digest = reader.digest_hex();
    }
    match (reader.into_problems(), plan) {
        (None, Some(plan)) => Ok(Loaded { plan, watched, warnings }),
        (problems, _) => Err(problems.unwrap_or(Problems(Vec::new()))),
    }
}
