//! The command line: one file a subcommand.
//!
//! Not here: anything that another folder could use. Exit codes: 0 done, 1 a problem that the user can
//! mend (on stderr, with cause and cure), 2 usage. Output has no colours.

pub mod admin;
pub mod check;
pub mod demo;
pub mod explain;
pub mod key;
pub mod kill;
pub mod run;
pub mod schema;

use crate::config;
use crate::config::plan::Plan;
use clap::Parser;
use clap::Subcommand;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// A problem that the user can mend.
pub const FAILED: u8 = 1;

/// MCP gateway: one fast, strict reverse proxy between AI agents and the MCP servers they call.
#[derive(Debug, Parser)]
#[command(name = "ringgate", version, color = clap::ColorChoice::Never)]
#[command(after_help = "Exit codes: 0 done, 1 a problem you can mend, 2 usage.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve
    Run(run::Args),
    /// Serve a sample MCP server to sample agents, to look around
    Demo(demo::Arguments),
    /// Validate a config; every problem as `file:line:column: what`
    Check(check::Args),
    /// Tell what would become of a call, rule by rule, and where it would go
    Explain(explain::Args),
    /// Print the JSON Schema of the config
    Schema,
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(key::Command),
    /// Refuse calls of a running gateway at once, and cut those that run
    Kill(kill::KillArgs),
    /// Let killed calls pass again
    Unkill(kill::UnkillArgs),
    /// Print the version
    Version,
}

/// The whole program; usage errors end it with exit code 2.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::start(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Schema => schema::run(),
        Command::Key(command) => key::run(&command),
        Command::Kill(args) => kill::kill(&args),
        Command::Unkill(args) => kill::unkill(&args),
        Command::Version => print(concat!("ringgate ", env!("CARGO_PKG_VERSION"))),
    }
}

/// One text and a line end on stdout; a closed pipe or a full disk is a failure, not a panic.
pub fn print(text: impl Display) -> ExitCode {
    print_or(text, "")
}

/// The same; `otherwise` is what is said as well where nobody can read the text.
pub fn print_or(text: impl Display, otherwise: impl Display) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = format!("cannot write to stdout: {error}. {otherwise}");
            fail(told.trim_end())
        }
    }
}

/// The plan of a config, its warnings said on stderr.
///
/// # Errors
/// The exit code; every problem is on stderr.
pub fn plan(config: &Path) -> Result<Plan, ExitCode> {
    let loaded = config::load(config).map_err(fail)?;
    for warning in &loaded.warnings {
        // A warning does not decide the exit code.
        let _ = fail(format_args!("warning: {warning}"));
    }
    Ok(loaded.plan)
}

/// Says on stderr what is wrong.
pub fn fail(problem: impl Display) -> ExitCode {
    // If stderr is closed too, the exit code still tells.
    let _ = writeln!(std::io::stderr().lock(), "{problem}");
    ExitCode::from(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
