//! The fuzz targets `request` and `answer` (`fuzz/`), driven by mutations of their corpora.

#[path = "../../../fuzz/entries/answer.rs"]
mod answer;
#[path = "../../../fuzz/entries/mutate.rs"]
mod mutate;
#[path = "../../../fuzz/entries/request.rs"]
mod request;

use std::fs;
use std::path::Path;

/// Some seconds' worth.
const CASES: u64 = 20000;

fn drive(target: &str, check: fn(&[u8]) -> bool) {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it");
    let corpus = Path::new(&root).join("../../fuzz/corpus").join(target);
    let mut seeds: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    assert!(seeds.iter().all(|seed| check(seed)));
    let taken = |case: &u64| check(&mutate::mutate(&seeds, *case));
    let taken = (0..CASES).filter(taken).count() as u64;
    // Both ways are taken.
    assert!((1..CASES).contains(&taken), "{taken}");
}

#[test]
fn mutations_of_requests_should_be_taken_or_refused() {
    drive("request", request::check);
}

#[test]
fn mutations_of_answers_should_be_text_or_calls() {
    drive("answer", answer::check);
}
