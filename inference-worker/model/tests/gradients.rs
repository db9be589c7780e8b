//! Every gradient of the hand-written backward passes against finite differences of the forward.

use candle_core::{Device, Tensor, Var};
use openledger_model::{
    forward, forward::loss, Adapter, Family, LoraConfig, ModelConfig, RopeScaling, Site, Targets,
    Weights,
};

fn config(family: Family, tied: bool) -> ModelConfig {
    ModelConfig {
        family,
        vocab_size: 37,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: Some(RopeScaling::Llama3 {
            factor: 4.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 32,
        }),
        max_position_embeddings: 128,
        tie_word_embeddings: tied,
        bos_token_id: None,
        eos_token_ids: vec![],
    }
}

/// Larger weights than a fresh model's, so that no gradient is lost in rounding.
fn weights(config: &ModelConfig) -> Weights {
    Weights::random_with(config, 0.24, 7).unwrap()
}

/// Two sequences of 70 tokens: longer than one block of queries.
fn batch() -> (Tensor, Tensor, Tensor) {
    let ids: Vec<u32> = (0..140u32).map(|i| (i * 17 + i * i * 3) % 37).collect();
    let targets: Vec<u32> = (0..140u32).map(|i| (i * 11 + 5) % 37).collect();
    let mask: Vec<f32> = (0..140)
        .map(|i| {
            if i % 3 == 0 {
                0.0
            } else {
                1.0 + (i % 2) as f32
            }
        })
        .collect();
    let shape = (2, 70);
    (
        Tensor::from_vec(ids, shape, &Device::Cpu).unwrap(),
        Tensor::from_vec(targets, shape, &Device::Cpu).unwrap(),
        Tensor::from_vec(mask, shape, &Device::Cpu).unwrap(),
    )
}

/// Compares the gradient of `var` along a fixed direction with a central difference of `loss_at`.
fn check(name: &str, var: &Var, grad: &Tensor, loss_at: &dyn Fn() -> f32) {
    let original = var.as_tensor().copy().unwrap();
    let count = original.elem_count();
    let direction: Vec<f32> = (0..count)
        .map(|i| {
            if (i * 2_654_435_761) >> 7 & 1 == 0 {
                1.0
            } else {
                -1.0
            }
        })
        .collect();
    let direction = Tensor::from_vec(direction, original.shape(), &Device::Cpu).unwrap();
    let expected = (grad * &direction)
        .unwrap()
        .sum_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    // The loss hardly depends on the bias of the keys (the softmax takes out what all of them share),
    // so a small step would be lost in rounding.
    let length = if name.ends_with("k_proj.bias") {
        2e-2
    } else {
        2e-3
    };
    let step = length / (count as f64).sqrt();
    var.set(&(&original + (&direction * step).unwrap()).unwrap())
        .unwrap();
    let above = loss_at();
    var.set(&(&original - (&direction * step).unwrap()).unwrap())
        .unwrap();
    let below = loss_at();
    var.set(&original).unwrap();
    let measured = (f64::from(above) - f64::from(below)) / (2.0 * step);
    let scale = grad
        .sqr()
        .unwrap()
        .sum_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap()
        .sqrt();
    assert!(scale > 0.0, "{name}: no gradient");
    let error = (measured - f64::from(expected)).abs() / f64::from(scale.max(1e-2));
    assert!(
        error < 0.03,
        "{name}: measured {measured}, computed {expected}, norm {scale}"
    );
}

#[test]
fn gradients_of_all_weights_match_finite_differences() {
    let cases = [
        (Family::Llama, true),
        (Family::Llama, false),
        (Family::Qwen2, true),
        (Family::Qwen3, false),
    ];
    for (family, tied) in cases {
        let config = config(family, tied);
        let mut vars = Vec::new();
        let weights = weights(&config)
            .map(|name, tensor| {
                let var = Var::from_tensor(tensor)?;
                vars.push((name.to_string(), var.clone()));
                Ok(var.as_tensor().clone())
            })
            .unwrap();
        let (ids, targets, mask) = batch();
        let run = || {
            loss(
                &forward(&config, &weights, None, &ids).unwrap(),
                &targets,
                &mask,
            )
            .unwrap()
        };
        let grads = run().backward().unwrap();
        for (name, var) in &vars {
            let grad = grads
                .get(var)
                .unwrap_or_else(|| panic!("{name} has no gradient"));
            let name = format!("{family:?} {name}");
            check(&name, var, grad, &|| run().to_scalar::<f32>().unwrap());
        }
    }
}

#[test]
fn gradients_of_adapters_match_finite_differences() {
    let config = config(Family::Llama, true);
    let weights = weights(&config);
    let adapter = Adapter::init(&config, LoraConfig::new(4, 8.0, Targets::AllLinear), 3).unwrap();
    let (adapter, vars) = adapter.into_vars().unwrap();
    assert_eq!(vars.len(), 2 * 7 * 2);
    for (index, (name, var)) in vars.iter().enumerate() {
        if name.contains("lora_B") {
            let values: Vec<f32> = (0..var.elem_count())
                .map(|i| ((i * 31 + index) % 17) as f32 * 0.02 - 0.16)
                .collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
                .unwrap();
        }
    }
    let (ids, targets, mask) = batch();
    let run = || {
        loss(
            &forward(&config, &weights, Some(&adapter), &ids).unwrap(),
            &targets,
            &mask,
        )
        .unwrap()
    };
    let grads = run().backward().unwrap();
    for (name, var) in &vars {
        let grad = grads
            .get(var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        check(name, var, grad, &|| run().to_scalar::<f32>().unwrap());
    }
    assert!(
        grads.get(&weights.layers[0].q).is_none(),
        "frozen weights have no gradient"
    );
}

/// A DoRA in which neither `B` nor the lengths are those of a fresh one.
fn dora(config: &ModelConfig, weights: &Weights) -> (Adapter, Vec<(String, Var)>) {
    let mut lora = LoraConfig::new(4, 8.0, Targets::AllLinear);
    lora.use_dora = true;
    let adapter = Adapter::init_on(config, weights, lora, 3).unwrap();
    let (adapter, vars) = adapter.into_vars().unwrap();
    for (index, (name, var)) in vars.iter().enumerate() {
        let wave = |i: usize| ((i * 31 + index) % 17) as f32 * 0.02 - 0.16;
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f32> = values
            .iter()
            .enumerate()
            .map(|(i, value)| match name {
                name if name.contains("lora_B") => wave(i),
                name if name.contains("magnitude") => value * (1.0 + 3.0 * wave(i)),
                _ => *value,
            })
            .collect();
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
            .unwrap();
    }
    (adapter, vars)
}

#[test]
fn gradients_of_magnitudes_match_finite_differences() {
    let config = config(Family::Qwen2, true);
    let weights = weights(&config);
    let (adapter, vars) = dora(&config, &weights);
    assert_eq!(vars.len(), 2 * 7 * 3);
    let (ids, targets, mask) = batch();
    let run = || {
        loss(
            &forward(&config, &weights, Some(&adapter), &ids).unwrap(),
            &targets,
            &mask,
        )
        .unwrap()
    };
    let grads = run().backward().unwrap();
    let magnitudes = vars.iter().filter(|(name, _)| name.contains("magnitude"));
    for (name, var) in magnitudes {
        let grad = grads.get(var).unwrap();
        check(name, var, grad, &|| run().to_scalar::<f32>().unwrap());
    }
}

/// PEFT takes the lengths of the rows for constants. With them held, a DoRA is a LoRA with `g ⊙ B` on
/// the weights `g ⊙ W`: same gradient of `A`, and that of `B` is `g` times the LoRA's.
#[test]
fn gradients_of_dora_are_those_of_the_lora_on_scaled_weights() {
    let config = config(Family::Qwen3, true);
    let weights = weights(&config);
    let (adapter, _) = dora(&config, &weights);
    let mut scaled_weights = weights.clone();
    let mut scaled = adapter.clone();
    let mut compared = Vec::new();
    for (index, layer) in adapter.layers.iter().enumerate() {
        for site in Site::ALL {
            let pair = layer.get(site).unwrap();
            let factors = pair.row_factors(weights.layers[index].site(site)).unwrap();
            let factors = factors.unwrap().detach().unsqueeze(1).unwrap();
            let weight = scaled_weights.layers[index].site_mut(site);
            *weight = weight.broadcast_mul(&factors).unwrap();
            let mut lora = pair.clone();
            lora.magnitude = None;
            let a = Var::from_tensor(&pair.a).unwrap();
            let b = Var::from_tensor(&pair.b.broadcast_mul(&factors).unwrap()).unwrap();
            (lora.a, lora.b) = (a.as_tensor().clone(), b.as_tensor().clone());
            scaled.layers[index].set(site, Some(lora));
            compared.push((pair.clone(), a, b, factors));
        }
    }
    let (ids, targets, mask) = batch();
    let run = |weights: &Weights, adapter: &Adapter| {
        let logits = forward(&config, weights, Some(adapter), &ids).unwrap();
        loss(&logits, &targets, &mask).unwrap()
    };
    let ours = run(&weights, &adapter).backward().unwrap();
    let theirs = run(&scaled_weights, &scaled).backward().unwrap();
    let length = |tensor: &Tensor| {
        let squares = tensor.sqr().unwrap().sum_all().unwrap();
        squares.to_scalar::<f32>().unwrap().sqrt()
    };
    for (pair, a, b, factors) in &compared {
        let expected_b = theirs.get(b).unwrap().broadcast_mul(factors).unwrap();
        for (ours, expected) in [
            (ours.get(&pair.a).unwrap(), theirs.get(a).unwrap()),
            (ours.get(&pair.b).unwrap(), &expected_b),
        ] {
            assert!(length(expected) > 1e-4, "no gradient");
            let error = length(&(ours - expected).unwrap()) / length(expected);
            assert!(error < 1e-3, "off by {error}");
        }
    }
}

#[test]
fn masked_positions_have_no_influence_on_the_loss() {
    let config = config(Family::Llama, true);
    let weights = weights(&config);
    let (ids, targets, mask) = batch();
    let logits = forward(&config, &weights, None, &ids).unwrap();
    let plain = loss(&logits, &targets, &mask)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    let mut other: Vec<u32> = targets.flatten_all().unwrap().to_vec1().unwrap();
    for target in other.iter_mut().step_by(3) {
        *target = 0;
    }
    let other = Tensor::from_vec(other, (2, 70), &Device::Cpu).unwrap();
    let changed = loss(&logits, &other, &mask)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert_eq!(plain, changed);
}
