//! The fuzz target `form` (`fuzz/`), driven by mutations of its corpus.

#[path = "../../../fuzz/entries/form.rs"]
mod form;
#[path = "../../../fuzz/entries/mutate.rs"]
mod mutate;

use std::fs;
use std::path::Path;

/// Some seconds' worth.
const CASES: u64 = 400;

#[test]
fn mutations_of_the_corpus_should_be_taken_or_refused() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it");
    let corpus = Path::new(&root).join("../../fuzz/corpus/form");
    let mut seeds: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    assert!(seeds.iter().filter(|seed| form::check(seed)).count() >= 3);
    let taken = |case: &u64| form::check(&mutate::mutate(&seeds, *case));
    let taken = (0..CASES).filter(taken).count() as u64;
    // Both ways are taken.
    assert!((1..CASES).contains(&taken), "{taken}");
}
