//! Hands libFuzzer's bytes to `http::fuzz::request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::http::fuzz::request_head(bytes));
