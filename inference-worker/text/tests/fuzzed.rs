//! The fuzz target `text` (`fuzz/`), driven by mutations of its corpus.

#[path = "../../../fuzz/entries/mutate.rs"]
mod mutate;
#[path = "../../../fuzz/entries/text.rs"]
mod text;

use std::fs;
use std::path::Path;

/// Some seconds' worth.
const CASES: u64 = 20000;

#[test]
fn mutations_of_the_corpus_should_be_taken_or_refused() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it");
    let corpus = Path::new(&root).join("../../fuzz/corpus/text");
    let mut seeds: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    assert!(seeds.iter().filter(|seed| text::check(seed)).count() >= 3);
    let taken = |case: &u64| text::check(&mutate::mutate(&seeds, *case));
    let taken = (0..CASES).filter(taken).count() as u64;
    // Both ways are taken.
    assert!((1..CASES).contains(&taken), "{taken}");
}
