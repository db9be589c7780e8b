//! The batched path against the logits of transformers and PEFT, kept in the model crate's folder:
//! prefill and decode over pages, every adapter and the base in the same steps.

mod common;

use candle_core::{safetensors, Device};
use common::*;
use openledger_model::{Adapter, ModelConfig, Weights};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest absolute difference from the reference, which computes in f32 too.
const TOLERANCE: f32 = 1e-5;

/// The least by which an adapter moves each position: far above noise.
const EFFECT: f32 = 0.05;

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
        .join("../model/goldens")
}

fn prompts() -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(goldens().join("prompts.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Logits of the first prompts: of as many as the file holds.
fn expected(model: &str, name: &str) -> Vec<Vec<f32>> {
    let path = goldens()
        .join(model)
        .join(format!("expected/{name}.safetensors"));
    let tensors = safetensors::load(path, &Device::Cpu).unwrap();
    (0..tensors.len())
        .map(|i| {
            let logits = tensors.get(&format!("logits.{i}")).unwrap();
            logits.flatten_all().unwrap().to_vec1().unwrap()
        })
        .collect()
}

fn logits_should_be_those_of_the_reference(model: &str, adapters: &[&str]) {
    let folder = goldens().join(model);
    let config = ModelConfig::from_dir(&folder).unwrap();
    let weights = Weights::load(&folder, &config).unwrap();
    let prompts = prompts();
    let names: Vec<&str> = std::iter::once("base")
        .chain(adapters.iter().copied())
        .collect();
    let adapters: Vec<Adapter> = adapters
        .iter()
        .map(|name| Adapter::load(&folder.join("adapters").join(name), &config).unwrap())
        .collect();
    let (mut backend, loaded) = backend(&config, weights, 80, &adapters);
    let references: Vec<Vec<Vec<f32>>> = names.iter().map(|name| expected(model, name)).collect();
    // Prompt by prompt, so that neighbours differ in their adapter.
    let uses: Vec<(usize, usize)> = (0..prompts.len())
        .flat_map(|p| (0..names.len()).map(move |n| (p, n)))
        .filter(|(p, n)| *p < references[*n].len())
        .collect();
    let cases: Vec<Case> = uses
        .iter()
        .map(|(p, n)| Case {
            ids: prompts[*p].clone(),
            adapter: n.checked_sub(1).map(|n| Arc::clone(&loaded[n])),
        })
        .collect();
    let found = forced(&mut *backend, 80, &cases);
    for ((p, n), found) in uses.iter().zip(&found) {
        let (name, reference) = (names[*n], &references[*n][*p]);
        let error = difference(found, reference);
        assert!(
            error <= TOLERANCE,
            "{model}, {name}, prompt {p}: off by {error}"
        );
        if *n > 0 {
            let base = references[0][*p].chunks_exact(config.vocab_size);
            for (ours, base) in found.chunks_exact(config.vocab_size).zip(base) {
                assert!(difference(ours, base) >= EFFECT, "{model}, {name}");
            }
        }
    }
}

#[test]
fn llama2_with_two_adapters_should_match() {
    logits_should_be_those_of_the_reference("llama2", &["r4", "r16"]);
}

#[test]
fn llama3_with_four_adapters_should_match() {
    logits_should_be_those_of_the_reference(
        "llama3",
        &[
            "r4",
            "r8-rslora",
            "r16-patterns",
            "r64-regex",
            "r8-dora",
            "ragged-dora",
        ],
    );
}

#[test]
fn a_tied_model_with_excluded_modules_should_match() {
    logits_should_be_those_of_the_reference("tied", &["r8-exclude"]);
}

#[test]
fn a_sharded_model_should_match() {
    logits_should_be_those_of_the_reference("sharded", &[]);
}

#[test]
fn mistral_qwen2_and_qwen3_should_match_with_ragged_ranks_and_doras_in_one_batch() {
    for model in ["mistral", "qwen2", "qwen3"] {
        logits_should_be_those_of_the_reference(model, &["r4", "ragged", "r8-dora", "ragged-dora"]);
    }
}
