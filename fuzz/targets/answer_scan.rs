//! Hands libFuzzer's bytes to `mcp::fuzz::answer_scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::mcp::fuzz::answer_scan(bytes));
