#![no_main]

#[path = "../entries/form.rs"]
mod form;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    form::check(data);
});
