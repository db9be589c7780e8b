//! The forward pass against logits of transformers and PEFT; see `goldens/README.md`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use openledger_model::{forward, merge, Adapter, ModelConfig, Site, Weights};

const TOLERANCE: f32 = 1e-5;
const EFFECT: f32 = 0.05;
const ADAPTERS: [(&str, &[&str]); 7] = [
    ("llama2", &["r4", "r16"]),
    (
        "llama3",
        &[
            "r4",
            "r8-rslora",
            "r16-patterns",
            "r64-regex",
            "r8-dora",
            "ragged-dora",
        ],
    ),
    ("tied", &["r8-exclude"]),
    ("sharded", &[]),
    ("mistral", &["r4", "ragged", "r8-dora", "ragged-dora"]),
    ("qwen2", &["r4", "ragged", "r8-dora", "ragged-dora"]),
    ("qwen3", &["r4", "ragged", "r8-dora", "ragged-dora"]),
];

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it")).join("goldens")
}

fn prompts() -> Vec<Vec<u32>> {
    serde_json::from_slice(&std::fs::read(goldens().join("prompts.json")).unwrap()).unwrap()
}

/// Logits of the first prompts: of as many as the file holds.
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

fn largest(differences: Vec<f32>) -> f32 {
    differences.into_iter().fold(0.0, f32::max)
}

fn least(differences: Vec<f32>) -> f32 {
    differences.into_iter().fold(f32::INFINITY, f32::min)
}

#[test]
fn logits_match_transformers_and_peft() {
    let prompts = prompts();
    for (model, adapters) in ADAPTERS {
        let dir = goldens().join(model);
        let config = ModelConfig::from_dir(&dir).unwrap();
        let weights = Weights::load(&dir, &config).unwrap();
        let base = expected(model, "base");
        assert!(base.len() >= 3);
        for (prompt, expected) in prompts.iter().zip(&base) {
            let ours = logits(&config, &weights, None, prompt);
            let worst = largest(differences(&ours, expected));
            let tokens = prompt.len();
            assert!(worst <= TOLERANCE, "{model}, {tokens} tokens: {worst}");
        }
        for name in adapters {
            let adapter = Adapter::load(&dir.join("adapters").join(name), &config).unwrap();
            let with_adapter = expected(model, name);
            assert!(with_adapter.len() >= 3);
            for (index, expected) in with_adapter.iter().enumerate() {
                let tokens = prompts[index].len();
                let ours = logits(&config, &weights, Some(&adapter), &prompts[index]);
                let worst = largest(differences(&ours, expected));
                assert!(
                    worst <= TOLERANCE,
                    "{model}/{name}, {tokens} tokens: {worst}"
                );
                let least = least(differences(&ours, &base[index]));
                assert!(
                    least >= EFFECT,
                    "{model}/{name} changes too little: {least}"
                );
            }
        }
    }
}

#[test]
fn the_magnitudes_of_dora_are_not_those_of_fresh_adapters() {
    for model in ["llama3", "mistral", "qwen2", "qwen3"] {
        let dir = goldens().join(model);
        let config = ModelConfig::from_dir(&dir).unwrap();
        let weights = Weights::load(&dir, &config).unwrap();
        for name in ["r8-dora", "ragged-dora"] {
            let adapter = Adapter::load(&dir.join("adapters").join(name), &config).unwrap();
            let mut without = adapter.clone();
            for layer in &mut without.layers {
                for site in Site::ALL {
                    let pair = layer.get(site).cloned();
                    layer.set(
                        site,
                        pair.map(|mut pair| {
                            assert!(pair.magnitude.take().is_some());
                            pair
                        }),
                    );
                }
            }
            let prompt = &prompts()[2];
            let with = logits(&config, &weights, Some(&adapter), prompt);
            let without = logits(&config, &weights, Some(&without), prompt);
            let least = least(differences(&with, &without));
            assert!(least >= EFFECT, "{model}/{name}: {least}");
        }
    }
}

#[test]
fn merged_adapters_match_transformers_and_peft() {
    for (model, adapters) in ADAPTERS {
        let dir = goldens().join(model);
        let config = ModelConfig::from_dir(&dir).unwrap();
        let mut weights = Weights::load(&dir, &config).unwrap();
        for name in adapters {
            let adapter = Adapter::load(&dir.join("adapters").join(name), &config).unwrap();
            let merged = merge(&mut weights, &adapter).unwrap();
            for (prompt, expected) in prompts().iter().zip(&expected(model, name)) {
                let ours = logits(&config, &weights, None, prompt);
                let worst = largest(differences(&ours, expected));
                assert!(worst <= 1e-4, "{model}/{name}: {worst}");
            }
            merged.unmerge(&mut weights).unwrap();
        }
        let prompt = &prompts()[2];
        let worst = differences(
            &logits(&config, &weights, None, prompt),
            &expected(model, "base")[2],
        );
        assert!(largest(worst) <= TOLERANCE, "{model}: unmerged");
    }
}

#[test]
fn configurations_that_transformers_4_writes_read_like_those_of_5() {
    for (model, _) in ADAPTERS {
        let dir = goldens().join(model);
        let four = std::fs::read_to_string(dir.join("config4.json")).unwrap();
        assert!(four.contains("\"transformers_version\": \"4."));
        assert_eq!(
            ModelConfig::from_json(&four).unwrap(),
            ModelConfig::from_dir(&dir).unwrap(),
            "{model}"
        );
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
    let worst = |ours: &[Vec<f32>], theirs: &[Vec<f32>]| largest(differences(ours, theirs));
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

    // Ranks 4, 8, 16 and 64 side by side, rank-stabilised, with alphas of their own.
    let ragged = load("ragged-dora");
    let pair = |layer: usize, site| ragged.layers[layer].get(site).unwrap();
    let ranks = [(0, Site::Q), (1, Site::K), (0, Site::O), (1, Site::Down)];
    assert_eq!(
        ranks.map(|(layer, site)| pair(layer, site).rank()),
        [4, 8, 16, 64]
    );
    assert_eq!(pair(0, Site::Down).rank(), 8);
    assert_eq!(pair(1, Site::Down).scale, 1.0);
    assert_eq!(pair(0, Site::V).scale, (12.0 / 8f64.sqrt()) as f32);
    let outputs = |site| pair(0, site).magnitude.as_ref().unwrap().dims1().unwrap();
    assert_eq!((outputs(Site::Q), outputs(Site::K)), (96, 32));

    let regex = load("r64-regex");
    assert!(regex.layers[1].get(Site::O).is_some() && regex.layers[1].get(Site::V).is_none());
}

#[test]
fn a_saved_model_loads_as_the_same_model() {
    for model in ["llama3", "mistral", "qwen2", "qwen3"] {
        let dir = goldens().join(model);
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
        let loaded = Weights::load(saved.path(), &again).unwrap();
        let prompt = &prompts()[2];
        assert_eq!(
            logits(&config, &weights, None, prompt),
            logits(&again, &loaded, None, prompt)
        );
        let count: usize = weights.named().values().map(|t| t.elem_count()).sum();
        assert_eq!(count as u64, config.parameters(), "{model}");
    }
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
