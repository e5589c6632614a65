//! Hands libFuzzer's bytes to `policy::fuzz::access_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::policy::fuzz::access_token(bytes));
