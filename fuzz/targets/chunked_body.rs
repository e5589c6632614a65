//! Hands libFuzzer's bytes to `http::fuzz::chunked_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::http::fuzz::chunked_body(bytes));
