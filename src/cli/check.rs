//! `ringgate check`: validate a config without serving it.
//!
//! Not here: what is valid (config).

use crate::cli;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Config: YAML or JSON, a client's mcp.json too
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Warnings and problems go to stderr, one a line; a good config is one line on stdout.
pub fn run(args: &Args) -> ExitCode {
    let plan = match cli::plan(&args.config) {
        Ok(plan) => plan,
        Err(failed) => return failed,
    };
    cli::print(format_args!(
        "{}: ok, servers {}, listeners {}, workers {}, digest {}",
        args.config.display(),
        plan.servers.len(),
        plan.listeners.len(),
        plan.workers,
        plan.digest
    ))
}
