//! `ringgate schema`: the JSON Schema of the config, for editors.
//!
//! Not here: its content (config).

use crate::cli;
use crate::config;
use std::process::ExitCode;

pub fn run() -> ExitCode {
    match serde_json::to_string_pretty(&config::schema::schema()) {
        Ok(text) => cli::print(text),
        Err(error) => cli::fail(format_args!("cannot write the schema: {error}.")),
    }
}
