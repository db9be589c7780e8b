//! The batched, paged, segmented forward against the model crate's plain one.

mod common;

use candle_core::{Device, Tensor};
use common::*;
use openledger_engine::backend::cpu::CpuBackend;
use openledger_engine::lora::LoraAdapter;
use openledger_model::{forward, Adapter, ModelConfig, RopeScaling, Targets, Weights};
use std::sync::Arc;

fn oracle(
    config: &ModelConfig,
    weights: &Weights,
    adapter: Option<&Adapter>,
    ids: &[u32],
) -> Vec<f32> {
    let ids = Tensor::from_vec(ids.to_vec(), (1, ids.len()), &Device::Cpu).unwrap();
    let logits = forward(config, weights, adapter, &ids).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

fn logits_should_agree(config: &ModelConfig, adapters: &[Adapter]) {
    let weights = weights(config);
    let loaded: Vec<_> = adapters
        .iter()
        .map(|a| Arc::new(LoraAdapter::new(config, a).unwrap()))
        .collect();
    // Base, then each adapter twice, in an order that is not the adapters' own.
    let uses = [None, Some(2), Some(0), Some(1), Some(0), None, Some(2)];
    let cases: Vec<Case> = uses
        .iter()
        .enumerate()
        .map(|(i, adapter)| Case {
            ids: prompt(5 + 9 * i, i),
            adapter: adapter.map(|a: usize| Arc::clone(&loaded[a])),
        })
        .collect();
    let mut backend = CpuBackend::new(config, weights.clone(), 40, 160).unwrap();
    let found = forced(&mut backend, 40, &cases);
    for (i, (case, found)) in cases.iter().zip(&found).enumerate() {
        let adapter = uses[i].map(|a| &adapters[a]);
        let expected = oracle(config, &weights, adapter, &case.ids);
        let scale = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
        let error = difference(found, &expected) / scale;
        assert!(error < 1e-5, "case {i}: relative error {error}");
        if adapter.is_some() {
            let base = oracle(config, &weights, None, &case.ids);
            assert!(
                difference(&base, &expected) > 0.05,
                "case {i}: the adapter must matter"
            );
        }
    }
}

#[test]
fn logits_should_agree_with_the_plain_forward() {
    let config = config();
    logits_should_agree(&config, &ragged_adapters(&config));
}

#[test]
fn logits_should_agree_when_tied_and_scaled() {
    let scaling = RopeScaling::Llama3 {
        factor: 4.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    let config = ModelConfig {
        tie_word_embeddings: true,
        rope_scaling: Some(scaling),
        num_key_value_heads: 6,
        ..config()
    };
    logits_should_agree(&config, &ragged_adapters(&config));
}

#[test]
fn logits_should_agree_when_threads_share_the_work() {
    let config = ModelConfig {
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 1,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 32,
        ..config()
    };
    // Ranks at which the adapters' products are cut into tasks too.
    let adapters = [96, 80, 64].map(|r| adapter(&config, r, Targets::AllLinear, r as u64));
    rayon::ThreadPoolBuilder::new()
        .num_threads(4)
        .build()
        .unwrap()
        .install(|| logits_should_agree(&config, &adapters));
}

#[test]
fn every_position_should_have_the_same_bits_alone_and_in_the_batch() {
    let config = config();
    let loaded: Vec<_> = ragged_adapters(&config)
        .iter()
        .map(|a| Arc::new(LoraAdapter::new(&config, a).unwrap()))
        .collect();
    let case = |i: usize| Case {
        ids: prompt(3 + 7 * i, i),
        adapter: (i % 4).checked_sub(1).map(|a| Arc::clone(&loaded[a])),
    };
    let mut backend = CpuBackend::new(&config, weights(&config), 60, 160).unwrap();
    let cases: Vec<Case> = (0..10).map(case).collect();
    let together = forced(&mut backend, 60, &cases);
    for (i, together) in together.iter().enumerate() {
        assert!(forced(&mut backend, 60, &[case(i)])[0] == *together, "{i}");
    }
}
