//! `ringgate check`: validate a config without serving it.
//!
//! Not here: what is valid (config).

use crate::cli;
use crate::config;
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
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(problems) => return cli::fail(problems),
    };
    for warning in &loaded.warnings {
        // A warning does not decide the exit code.
        let _ = cli::fail(format_args!("warning: {warning}"));
    }
    let plan = &loaded.plan;
    cli::print(format_args!(
        "{}: ok, servers {}, listeners {}, workers {}, digest {}",
        args.config.display(),
        plan.servers.len(),
        plan.listeners.len(),
        plan.workers,
        plan.digest
    ))
}
