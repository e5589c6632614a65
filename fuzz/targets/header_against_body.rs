//! Hands libFuzzer's bytes to `mcp::fuzz::header_against_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::mcp::fuzz::header_against_body(bytes));
