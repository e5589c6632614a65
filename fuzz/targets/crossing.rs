//! Hands libFuzzer's bytes to `mcp::fuzz::crossing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::mcp::fuzz::crossing(bytes));
