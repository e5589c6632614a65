//! Hands libFuzzer's bytes to `mcp::fuzz::json_envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::mcp::fuzz::json_envelope(bytes));
