//! Hands libFuzzer's bytes to `http::fuzz::response_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::http::fuzz::response_head(bytes));
