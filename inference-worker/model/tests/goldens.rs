//! The forward pass against logits of transformers and PEFT; see `goldens/README.md`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use openledger_model::{forward, Adapter, ModelConfig, Site, Weights};

const TOLERANCE: f32 = 1e-5;
const ADAPTERS: [(&str, &[&str]); 4] = [
    ("llama2", &["r4", "r16"]),
    ("llama3", &["r4", "r8-rslora", "r16-patterns", "r64-regex"]),
    ("tied", &["r8-exclude"]),
    ("sharded", &[]),
];

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it")).join("goldens")
}

fn prompts() -> Vec<Vec<u32>> {
    serde_json::from_slice(&std::fs::read(goldens().join("prompts.json")).unwrap()).unwrap()
}

fn expected(model: &str, name: &str) -> Vec<Vec<Vec<f32>>> {
    let path = goldens()
        .join(model)
        .join("expected")
        .join(format!("{name}.safetensors"));
    let tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    (0..tensors.len())
        .map(|prompt| tensors[&format!("logits.{prompt}")].to_vec2().unwrap())
        .collect()
}

fn logits(
    config: &ModelConfig,
    weights: &Weights,
    adapter: Option<&Adapter>,
    prompt: &[u32],
) -> Vec<Vec<f32>> {
    let ids = Tensor::new(prompt, &Device::Cpu)
        .unwrap()
        .unsqueeze(0)
        .unwrap();
    forward(config, weights, adapter, &ids)
        .unwrap()
        .squeeze(0)
        .unwrap()
        .to_vec2()
        .unwrap()
}

/// Largest difference at each position.
fn differences(a: &[Vec<f32>], b: &[Vec<f32>]) -> Vec<f32> {
    assert_eq!(a.len(), b.len());
    let row = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    a.iter().zip(b).map(row).collect()
}

#[test]
fn logits_match_transformers_and_peft() {
    let prompts = prompts();
    for (model, adapters) in ADAPTERS {
        let dir = goldens().join(model);
        let config = ModelConfig::from_dir(&dir).unwrap();
        let weights = Weights::load(&dir, &config).unwrap();
        let base = expected(model, "base");
        assert_eq!(base.len(), prompts.len());
        for (prompt, expected) in prompts.iter().zip(&base) {
            let ours = logits(&config, &weights, None, prompt);
            let worst = differences(&ours, expected).into_iter().fold(0.0, f32::max);
            assert!(
                worst <= TOLERANCE,
                "{model}, {} tokens: {worst}",
                prompt.len()
            );
        }
        for name in adapters {
            let adapter = Adapter::load(&dir.join("adapters").join(name), &config).unwrap();
            let with_adapter = expected(model, name);
            for (index, prompt) in prompts.iter().enumerate() {
                let ours = logits(&config, &weights, Some(&adapter), prompt);
                let worst = differences(&ours, &with_adapter[index])
                    .into_iter()
                    .fold(0.0, f32::max);
                assert!(
                    worst <= TOLERANCE,
                    "{model}/{name}, {} tokens: {worst}",
                    prompt.len()
                );
                let least = differences(&ours, &base[index])
                    .into_iter()
                    .fold(f32::INFINITY, f32::min);
                assert!(least >= 0.05, "{model}/{name} changes too little: {least}");
            }
        }
    }
}

#[test]
fn a_batch_of_sequences_gives_each_its_own_logits() {
    let dir = goldens().join("llama3");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let weights = Weights::load(&dir, &config).unwrap();
    let long = &prompts()[3];
    let short: Vec<u32> = prompts()[2].clone();
    let mut padded = short.clone();
    padded.resize(long.len(), 0);
    let ids = Tensor::new(vec![long.clone(), padded], &Device::Cpu).unwrap();
    let both: Vec<Vec<Vec<f32>>> = forward(&config, &weights, None, &ids)
        .unwrap()
        .to_vec3()
        .unwrap();
    let expected = expected("llama3", "base");
    let worst = |ours: &[Vec<f32>], theirs: &[Vec<f32>]| {
        differences(ours, theirs).into_iter().fold(0.0, f32::max)
    };
    assert!(worst(&both[0], &expected[3]) <= TOLERANCE);
    assert!(worst(&both[1][..short.len()], &expected[2]) <= TOLERANCE);
}

#[test]
fn patterns_and_variants_reach_the_sites_that_peft_gives_them() {
    let dir = goldens().join("llama3");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let load = |name: &str| Adapter::load(&dir.join("adapters").join(name), &config).unwrap();

    let patterns = load("r16-patterns");
    let pair = |layer: usize, site| patterns.layers[layer].get(site).unwrap();
    assert_eq!((pair(0, Site::Q).rank(), pair(1, Site::Q).rank()), (24, 16));
    assert_eq!(
        (pair(0, Site::Down).rank(), pair(0, Site::Down).scale),
        (4, 4.0)
    );
    assert_eq!(
        (pair(0, Site::Q).scale, pair(1, Site::O).scale),
        (16.0 / 24.0, 2.5)
    );
    assert_eq!(
        (pair(0, Site::Up).scale, pair(1, Site::Up).scale),
        (1.0, 5.0 / 16.0)
    );
    assert_eq!(patterns.rank(), 24);

    let stabilised = load("r8-rslora");
    assert_eq!(
        stabilised.layers[0].get(Site::K).unwrap().scale,
        (8.0 / 8f64.sqrt()) as f32
    );

    let regex = load("r64-regex");
    assert!(regex.layers[1].get(Site::O).is_some() && regex.layers[1].get(Site::V).is_none());
}

#[test]
fn a_saved_model_loads_as_the_same_model() {
    let dir = goldens().join("llama3");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let weights = Weights::load(&dir, &config).unwrap();
    let saved = tempfile::tempdir().unwrap();
    std::fs::write(saved.path().join("config.json"), config.to_json()).unwrap();
    // The golden weights are stored as BF16, so writing them as BF16 loses nothing.
    weights
        .save(saved.path(), openledger_model::StoredType::Bf16)
        .unwrap();
    let again = ModelConfig::from_dir(saved.path()).unwrap();
    assert_eq!(config, again);
    let prompt = &prompts()[2];
    assert_eq!(
        logits(&config, &weights, None, prompt),
        logits(
            &again,
            &Weights::load(saved.path(), &again).unwrap(),
            None,
            prompt
        )
    );
}

#[test]
fn a_saved_adapter_loads_as_the_same_adapter() {
    for (model, adapters) in ADAPTERS {
        let dir = goldens().join(model);
        let config = ModelConfig::from_dir(&dir).unwrap();
        let weights = Weights::load(&dir, &config).unwrap();
        for name in adapters {
            let adapter = Adapter::load(&dir.join("adapters").join(name), &config).unwrap();
            let saved = tempfile::tempdir().unwrap();
            let digest = adapter.save(saved.path()).unwrap();
            let again = Adapter::load(saved.path(), &config).unwrap();
            assert_eq!(again.digest, digest);
            assert_eq!(
                again.save(saved.path()).unwrap(),
                digest,
                "saving twice gives the same bytes"
            );
            let prompt = &prompts()[1];
            assert_eq!(
                logits(&config, &weights, Some(&adapter), prompt),
                logits(&config, &weights, Some(&again), prompt)
            );
        }
    }
}
