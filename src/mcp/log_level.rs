//! Levels of log messages, of the eight in the order of RFC 5424 (2025-11-25, logging; 2026-07-28, logging).
//!
//! Not here: who wants which (sessions, `_meta` of a call).

pub const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Its number: 0 is `debug`. None: it is none.
pub fn number(text: &str) -> Option<u8> {
    LEVELS.iter().position(|known| *known == text).and_then(|at| u8::try_from(at).ok())
}
