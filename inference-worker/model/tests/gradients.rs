//! Every gradient of the hand-written backward passes against finite differences of the forward.

use candle_core::{Device, Tensor, Var};
use openledger_model::{
    forward, forward::loss, Adapter, LoraConfig, ModelConfig, RopeScaling, Targets, Weights,
};

fn config(tied: bool) -> ModelConfig {
    ModelConfig {
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
    Weights::random(config, 7)
        .unwrap()
        .map(|name, tensor| {
            Ok(if name.contains("norm") {
                tensor.clone()
            } else {
                (tensor * 12.0)?
            })
        })
        .unwrap()
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
    let step = 2e-3 / (count as f64).sqrt();
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
    for tied in [true, false] {
        let config = config(tied);
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
            check(name, var, grad, &|| run().to_scalar::<f32>().unwrap());
        }
    }
}

#[test]
fn gradients_of_adapters_match_finite_differences() {
    let config = config(true);
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

#[test]
fn masked_positions_have_no_influence_on_the_loss() {
    let config = config(true);
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
