#![no_main]

#[path = "../loaders.rs"]
mod loaders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loaders::config(bytes));
