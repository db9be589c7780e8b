//! The fuzz target of adapters (`fuzz/`), driven by mutations of its corpus.

#[path = "../../../fuzz/entries/adapter.rs"]
mod adapter;
#[path = "../../../fuzz/entries/mutate.rs"]
mod mutate;

use std::fs;
use std::path::Path;

/// Enough to reach every check of the loader many times, in seconds.
const CASES: u64 = 4_000;

#[test]
fn mutated_adapters_should_load_whole_or_be_refused() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it");
    let corpus = Path::new(&root).join("../../fuzz/corpus/adapter");
    let mut seeds: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    let whole = seeds.iter().filter(|seed| adapter::check(seed)).count();
    assert!(whole >= 3, "the corpus has good adapters: {whole}");
    let mut accepted = 0;
    for case in 0..CASES {
        let data = mutate::mutate(&seeds, case);
        accepted += u64::from(adapter::check(&data));
    }
    // Both ways are taken.
    assert!((10..CASES).contains(&accepted), "{accepted}");
}
