//! Merging adapters into the weights and taking them out again.

use candle_core::{Device, Tensor};
use openledger_model::{
    forward, merge, Adapter, Family, LoraConfig, ModelConfig, ModelError, Targets, Weights,
};

fn config(family: Family) -> ModelConfig {
    ModelConfig {
        family,
        vocab_size: 61,
        hidden_size: 32,
        intermediate_size: 56,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 64,
        tie_word_embeddings: family == Family::Qwen3,
        bos_token_id: None,
        eos_token_ids: vec![],
    }
}

/// Weights of a size at which an adapter shows in the logits.
fn weights(config: &ModelConfig) -> Weights {
    Weights::random_with(config, 0.12, 5).unwrap()
}

/// An adapter of ragged ranks with nothing left at its first value.
fn adapter(config: &ModelConfig, weights: &Weights, use_dora: bool, seed: u64) -> Adapter {
    let mut lora = LoraConfig::new(8, 16.0, Targets::AllLinear);
    lora.use_dora = use_dora;
    lora.use_rslora = use_dora;
    lora.rank_pattern = [("q_proj".to_string(), 4), ("down_proj".to_string(), 16)].into();
    lora.alpha_pattern = [("layers.1.mlp.up_proj".to_string(), 5.0)].into();
    let adapter = Adapter::init_on(config, weights, lora, seed).unwrap();
    let (adapter, vars) = adapter.into_vars().unwrap();
    for (index, (name, var)) in vars.iter().enumerate() {
        let wave = |i: usize| ((i * 29 + 7 * index) % 19) as f32 / 9.0 - 1.0;
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f32> = values
            .iter()
            .enumerate()
            .map(|(i, value)| match name {
                name if name.contains("lora_B") => 0.1 * wave(i),
                name if name.contains("magnitude") => value * (1.0 + 0.4 * wave(i)),
                _ => *value,
            })
            .collect();
        let values = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
        var.set(&values).unwrap();
    }
    adapter
}

fn logits(config: &ModelConfig, weights: &Weights, adapter: Option<&Adapter>) -> Vec<Vec<f32>> {
    let ids: Vec<u32> = (0..40u32).map(|i| (i * i * 5 + i * 3 + 1) % 61).collect();
    let ids = Tensor::from_vec(ids, (1, 40), &Device::Cpu).unwrap();
    let logits = forward(config, weights, adapter, &ids).unwrap();
    logits.squeeze(0).unwrap().to_vec2().unwrap()
}

/// Largest difference at each position.
fn differences(a: &[Vec<f32>], b: &[Vec<f32>]) -> Vec<f32> {
    let row = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let each = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        each.fold(0.0, f32::max)
    };
    a.iter().zip(b).map(row).collect()
}

fn bits(weights: &Weights) -> Vec<(String, Vec<u32>)> {
    weights
        .named()
        .into_iter()
        .map(|(name, tensor)| {
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            (name, values.into_iter().map(f32::to_bits).collect())
        })
        .collect()
}

#[test]
fn merged_weights_compute_what_base_and_adapter_did() {
    for family in Family::ALL {
        for use_dora in [false, true] {
            let config = config(family);
            let mut weights = weights(&config);
            let adapter = adapter(&config, &weights, use_dora, 3);
            let base = logits(&config, &weights, None);
            let with_adapter = logits(&config, &weights, Some(&adapter));
            let before = bits(&weights);

            let merged = merge(&mut weights, &adapter).unwrap();
            let alone = logits(&config, &weights, None);
            let name = format!("{family:?}, DoRA {use_dora}");
            let error = differences(&alone, &with_adapter);
            let error = error.into_iter().fold(0.0, f32::max);
            assert!(error <= 1e-4, "{name}: {error}");
            let effect = differences(&alone, &base);
            let effect = effect.into_iter().fold(f32::INFINITY, f32::min);
            assert!(effect >= 0.05, "{name}: {effect}");

            merged.unmerge(&mut weights).unwrap();
            assert!(bits(&weights) == before, "{name}: other bits than before");
        }
    }
}

#[test]
fn adapters_are_unmerged_in_the_reverse_order_of_merging() {
    let config = config(Family::Llama);
    let mut weights = weights(&config);
    let before = bits(&weights);
    let first = adapter(&config, &weights, false, 3);
    let second = adapter(&config, &weights, true, 4);
    let first = merge(&mut weights, &first).unwrap();
    let between = bits(&weights);
    let second = merge(&mut weights, &second).unwrap();
    let after = bits(&weights);
    let error = first.unmerge(&mut weights).unwrap_err().to_string();
    assert!(error.contains("is not the one that was merged"), "{error}");
    assert!(bits(&weights) == after, "a refused unmerge changes nothing");
    second.unmerge(&mut weights).unwrap();
    assert!(bits(&weights) == between);
    first.unmerge(&mut weights).unwrap();
    assert!(bits(&weights) == before);
    assert!(first.unmerge(&mut weights).is_err(), "unmerged twice");
}

#[test]
fn adapters_that_cannot_be_merged_change_nothing() {
    let config = config(Family::Llama);
    let mut weights = weights(&config);
    let adapter = adapter(&config, &weights, true, 3);
    let before = bits(&weights);

    let mut shallow = adapter.clone();
    shallow.layers.pop();
    assert!(merge(&mut weights, &shallow).is_err());

    let last = openledger_model::Site::Down;
    let mut huge = adapter.clone();
    let mut pair = huge.layers[1].get(last).unwrap().clone();
    pair.magnitude = None;
    pair.b = (pair.b * 1e38).unwrap();
    pair.scale = 1e6;
    huge.layers[1].set(last, Some(pair));
    match merge(&mut weights, &huge) {
        Err(ModelError::NonFinite { name }) => {
            assert_eq!(name, "model.layers.1.mlp.down_proj.weight");
        }
        other => panic!("{other:?}"),
    }
    assert!(bits(&weights) == before);
}

#[test]
fn a_row_without_a_direction_is_refused() {
    let config = config(Family::Llama);
    let mut weights = weights(&config);
    let zero = weights.layers[0].q.zeros_like().unwrap();
    weights.layers[0].q = zero;
    let mut lora = LoraConfig::new(4, 8.0, Targets::Names(vec!["q_proj".into()]));
    lora.use_dora = true;
    let adapter = Adapter::init_on(&config, &weights, lora, 1).unwrap();
    let error = merge(&mut weights, &adapter).unwrap_err().to_string();
    assert!(error.contains("lora_magnitude_vector"), "{error}");
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let config = config(Family::Qwen2);
    let weights = weights(&config);
    for use_dora in [false, true] {
        let mut lora = LoraConfig::new(8, 16.0, Targets::AllLinear);
        lora.use_dora = use_dora;
        let adapter = Adapter::init_on(&config, &weights, lora, 1).unwrap();
        let base = logits(&config, &weights, None);
        let change = differences(&logits(&config, &weights, Some(&adapter)), &base);
        let change = change.into_iter().fold(0.0, f32::max);
        assert!(change <= 1e-5, "DoRA {use_dora}: {change}");
    }
}
