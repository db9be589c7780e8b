#![no_main]

#[path = "../entries/text.rs"]
mod text;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    text::check(data);
});
