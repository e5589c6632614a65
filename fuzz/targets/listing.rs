//! Hands libFuzzer's bytes to `mcp::fuzz::listing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::mcp::fuzz::listing(bytes));
