//! Hands libFuzzer's bytes to `http::fuzz::event_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::http::fuzz::event_stream(bytes));
