//! `ringgate key add|list|revoke`: API keys in a file of hashes.
//!
//! Not here: the file (config). The key itself is printed once, alone on the last line of stdout.

use crate::base::clock;
use crate::cli;
use crate::config::key_file;
use crate::config::key_file::NewKey;
use crate::config::key_file::Which;
use crate::config::keys;
use crate::config::keys::WrittenKey;
use crate::config::units;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key for a principal and print it, this once
    Add(Add),
    /// Show the keys: ids, principals, roles, expiry, last use
    List(List),
    /// Remove a key, or all keys of a principal
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub struct Add {
    /// Key file; made if there is none
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Whose key it is
    #[arg(long, value_name = "NAME")]
    principal: String,
    /// Roles, separated by commas
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<String>,
    /// When it ends: a time from now (`30d`, `12h`) or a date (`2027-01-31T12:00:00Z`); never if not given
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    expires: Option<Expiry>,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Key file
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["id", "principal"])))]
pub struct Revoke {
    /// Key file
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Id of the key, as `key list` shows it
    id: Option<String>,
    /// All keys of this principal
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Expiry {
    InSeconds(u64),
    AtUnix(u64),
}

fn expiry(text: &str) -> Result<Expiry, String> {
    match (units::duration_ms(text), keys::parse_moment(text)) {
        (Some(ms), _) if ms >= 1_000 => Ok(Expiry::InSeconds(ms / 1_000)),
        (_, Some(at)) => Ok(Expiry::AtUnix(at)),
        _ => Err("write a time from now (`30d`, `12h`) or a date (`2027-01-31T12:00:00Z`)".into()),
    }
}

pub fn run(command: &Command) -> ExitCode {
    let now_unix = clock::wall().as_secs();
    match command {
        Command::Add(args) => add(args, now_unix),
        Command::List(args) => list(args, now_unix),
        Command::Revoke(args) => revoke(args),
    }
}

fn add(args: &Add, now_unix: u64) -> ExitCode {
    let expires_unix = match args.expires {
        None => u64::MAX,
        Some(Expiry::InSeconds(seconds)) => now_unix.saturating_add(seconds),
        Some(Expiry::AtUnix(at)) if at > now_unix => at,
        Some(Expiry::AtUnix(_)) => return cli::fail("The date of `--expires` has passed."),
    };
    let new = NewKey { principal: &args.principal, roles: &args.roles, expires_unix, now_unix };
    match key_file::add(&args.file, &new) {
        Ok(added) => {
            let text = format!(
                "key {} for {}; it is shown this once, keep it safe:\n{}",
                added.id, args.principal, added.key
            );
            let file = args.file.display();
            let otherwise = format!("Take the key back: `ringgate key revoke --file {file} {}`.", added.id);
            cli::print_or(text, otherwise)
        }
        Err(problems) => cli::fail(problems),
    }
}

fn list(args: &List, now_unix: u64) -> ExitCode {
    let written = match keys::read_written(&args.file) {
        Ok(written) => written,
        Err(problems) => return cli::fail(problems),
    };
    let used = keys::read_last_used(&args.file);
    let mut rows = vec![["ID", "PRINCIPAL", "ROLES", "CREATED", "EXPIRES", "LAST USED"].map(String::from)];
    rows.extend(written.iter().map(|key| row(key, used.get(&key.id).copied(), now_unix)));
    cli::print(table(&rows))
}

fn row(key: &WrittenKey, used: Option<u64>, now_unix: u64) -> [String; 6] {
    let roles = if key.roles.is_empty() { "-".into() } else { key.roles.join(",") };
    let expires = match key.expires_unix {
        u64::MAX => "never".into(),
        at if at <= now_unix => format!("{} (expired)", keys::show_moment(at)),
        at => keys::show_moment(at),
    };
    let used = used.map_or_else(|| "never".into(), keys::show_moment);
    [key.id.clone(), key.principal.clone(), roles, keys::show_moment(key.created_unix), expires, used]
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut out = String::new();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.trim_end().to_owned()
}

fn revoke(args: &Revoke) -> ExitCode {
    let which = match (&args.id, &args.principal) {
        (Some(id), _) => Which::Id(id),
        (None, Some(principal)) => Which::Principal(principal),
        // clap has asked for one of them.
        (None, None) => return cli::fail("Name a key by its id or by `--principal`."),
    };
    match key_file::revoke(&args.file, which) {
        Ok(ids) => cli::print(format_args!("revoked {}", ids.join(", "))),
        Err(problems) => cli::fail(problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_a_time_from_now_or_a_date() {
        assert!(matches!(expiry("30d"), Ok(Expiry::InSeconds(2_592_000))));
        assert!(matches!(expiry("2027-01-31T12:00:00Z"), Ok(Expiry::AtUnix(1_801_396_800))));
        for text in ["", "30", "0", "1ms", "tomorrow"] {
            assert!(expiry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "b"], ["long", "c"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "a     b\nlong  c");
    }
}
