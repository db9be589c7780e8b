#![no_main]

#[path = "../entries/adapter.rs"]
mod adapter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    adapter::check(data);
});
