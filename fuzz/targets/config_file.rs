//! Hands libFuzzer's bytes to `config::fuzz::config_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringgate::config::fuzz::config_file(bytes));
