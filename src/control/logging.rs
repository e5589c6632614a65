//! The program's own log on stderr: text for people on a terminal, one JSON object a line elsewhere.
//! `RUST_LOG` filters as usual; the default is `info`, and warnings only of the sample servers' library. The HTTP/2
//! library is silent whatever it says: its log quotes what clients send.
//!
//! Not here: call records (`writer`). No colour is ever used, so there is nothing for `NO_COLOR` to
//! switch off.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sets the log up, once a process; a second call does nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,rmcp=warn"));
    let filter = match "h2=off".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Told on stderr as well, by a macro that panics where stderr is full or gone: in any thread with news.
    let lines = lines.log_internal_errors(false);
    let _ = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_target(false).try_init()
    };
}
