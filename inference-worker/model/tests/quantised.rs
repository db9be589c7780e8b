//! Quantised checkpoints against the logits of transformers; see `goldens/README.md`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use openledger_model::{
    forward, quantise, BlockKind, Checkpoint, Family, ModelConfig, ModelError, Site, StoredValues,
    Target, Weights,
};
use serde_json::{json, Value};

/// The largest absolute difference from the reference, which computes in f32 too, with the codes multiplied by
/// their scales.
const TOLERANCE: f32 = 1e-5;
const PACKED: [(&str, &str); 6] = [
    ("int8-channel", "int8"),
    ("int8-group", "int8"),
    ("int4-group", "int4"),
    ("int4-channel", "int4"),
    ("fp8-channel", "fp8"),
    ("fp8-tensor", "fp8"),
];
const GGUF: [&str; 3] = ["llama-q4_0", "qwen2-f16", "qwen3-k"];

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it")).join("goldens")
}

fn logits_should_be_those_of_the_reference(folder: &Path) {
    let config = ModelConfig::from_dir(folder).unwrap();
    let weights = Weights::load(folder, &config).unwrap();
    let prompts: Vec<Vec<u32>> =
        serde_json::from_slice(&fs::read(goldens().join("prompts.json")).unwrap()).unwrap();
    let expected: HashMap<String, Tensor> =
        candle_core::safetensors::load(folder.join("expected/base.safetensors"), &Device::Cpu)
            .unwrap();
    assert_eq!(expected.len(), 3);
    for (i, prompt) in prompts.iter().take(3).enumerate() {
        let ids = Tensor::from_vec(prompt.clone(), (1, prompt.len()), &Device::Cpu).unwrap();
        let ours = forward(&config, &weights, None, &ids).unwrap();
        let ours: Vec<f32> = ours.flatten_all().unwrap().to_vec1().unwrap();
        let theirs = expected[&format!("logits.{i}")].flatten_all().unwrap();
        let theirs: Vec<f32> = theirs.to_vec1().unwrap();
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0f32, f32::max);
        assert!(
            worst <= TOLERANCE,
            "{}, prompt {i}: {worst}",
            folder.display()
        );
    }
}

#[test]
fn packed_weights_should_give_the_logits_of_the_reference() {
    for (name, _) in PACKED {
        logits_should_be_those_of_the_reference(&goldens().join("quantised").join(name));
    }
}

#[test]
fn gguf_files_should_give_the_logits_of_the_reference() {
    for name in GGUF {
        logits_should_be_those_of_the_reference(&goldens().join("gguf").join(name));
    }
}

#[test]
fn matrices_should_be_given_in_the_type_in_which_they_are_stored() {
    for (name, stored) in PACKED {
        let folder = goldens().join("quantised").join(name);
        let config = ModelConfig::from_dir(&folder).unwrap();
        let checkpoint = Checkpoint::open(&folder, &config).unwrap();
        assert!(checkpoint.is_quantised());
        assert!(!checkpoint.embed().unwrap().is_quantised());
        let weights = checkpoint.weights().unwrap();
        for layer in 0..config.num_hidden_layers {
            let parts = checkpoint.layer(layer).unwrap();
            for site in Site::ALL {
                let matrix = &parts.sites[site.index()];
                let ignored = matches!(
                    (name, layer, site),
                    ("int4-group", 1, Site::Down) | ("int4-channel", 0, Site::O)
                );
                assert_eq!(matrix.type_name() == stored, !ignored, "{name} {site:?}");
                let all = weights.layers[layer].site(site).flatten_all().unwrap();
                assert_eq!(matrix.to_f32(), all.to_vec1::<f32>().unwrap());
            }
        }
    }
    let k = goldens().join("gguf/qwen3-k");
    let config = ModelConfig::from_dir(&k).unwrap();
    assert_eq!((config.family, config.head_dim), (Family::Qwen3, 64));
    let layer = Checkpoint::open(&k, &config).unwrap().layer(0).unwrap();
    let kind = |site: Site| match layer.sites[site.index()].values() {
        StoredValues::Blocks { kind, .. } => Some(*kind),
        _ => None,
    };
    assert_eq!(kind(Site::Up), Some(BlockKind::Q3K));
    assert_eq!(kind(Site::V), Some(BlockKind::Q6K));
}

#[test]
fn rope_factors_of_a_gguf_file_should_be_read_as_llama_3s_scaling() {
    let folder = goldens().join("gguf/llama-q4_0");
    let config = ModelConfig::from_dir(&folder).unwrap();
    assert!(config.rope_scaling.is_some());
    assert_eq!(config.eos_token_ids, [2]);
    assert_eq!(config.bos_token_id, Some(1));
}

fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn message<T>(result: Result<T, ModelError>) -> String {
    match result {
        Ok(_) => panic!("was accepted"),
        Err(error) => error.to_string(),
    }
}

/// What opening a golden folder says once its `config.json` is changed.
fn with_config(name: &str, change: impl Fn(&mut Value)) -> String {
    let folder = copy_of(&goldens().join("quantised").join(name));
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    let config = ModelConfig::from_dir(folder.path());
    message(config.and_then(|config| Checkpoint::open(folder.path(), &config)))
}

#[test]
fn a_configuration_that_does_not_fit_its_tensors_should_be_refused_by_name() {
    let group = |config: &mut Value, name: &str, value: Value| {
        config["quantization_config"]["config_groups"]["group_0"]["weights"][name] = value;
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);
    let cases: [Case<'_>; 8] = [
        (
            "int4-group",
            &|c| group(c, "group_size", json!(8)),
            "weight_scale",
        ),
        (
            "int4-group",
            &|c| group(c, "group_size", json!(5)),
            "group_size 5",
        ),
        (
            "int4-group",
            &|c| group(c, "num_bits", json!(8)),
            "weight_packed",
        ),
        (
            "int4-group",
            &|c| group(c, "symmetric", json!(false)),
            "symmetric",
        ),
        (
            "int4-group",
            &|c| c["quantization_config"]["ignore"] = json!([]),
            "down_proj",
        ),
        (
            "int8-channel",
            &|c| c["quantization_config"] = Value::Null,
            "type I8",
        ),
        (
            "fp8-channel",
            &|c| c["quantization_config"]["quant_method"] = json!("fp8"),
            "quant_method",
        ),
        (
            "fp8-tensor",
            &|c| group(c, "strategy", json!("channel")),
            "weight_scale",
        ),
    ];
    for (name, change, expected) in cases {
        let error = with_config(name, change);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn damaged_gguf_files_should_be_refused() {
    let folder = goldens().join("gguf/llama-q4_0");
    let good = fs::read(folder.join("model.gguf")).unwrap();
    let load = |bytes: &[u8]| {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("model.gguf"), bytes).unwrap();
        let config = ModelConfig::from_dir(copy.path())?;
        Weights::load(copy.path(), &config)
    };
    assert!(load(&good).is_ok());
    for length in [0, 3, 4, 20, 100, good.len() / 2, good.len() - 1] {
        assert!(load(&good[..length]).is_err(), "{length} bytes");
    }
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|w| w == from).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        message(load(&bytes))
    };
    // The architecture, a field of it that is not known, a tensor that is not.
    let error = replaced(b"llama", b"gemma");
    assert!(error.contains("gemma"), "{error}");
    let error = replaced(b"llama.attention.head_count", b"llama.attention.clamp_kqvs");
    assert!(error.contains("clamp_kqvs"), "{error}");
    let error = replaced(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight");
    assert!(error.contains("ffn_up"), "{error}");
    let error = replaced(b"rope_freqs", b"rope_freqz");
    assert!(error.contains("rope_freqz"), "{error}");
    // A second file beside the first.
    let copy = copy_of(&folder);
    fs::write(copy.path().join("part2.gguf"), b"").unwrap();
    assert!(message(ModelConfig::from_dir(copy.path())).contains("several files"));
}

/// The golden model, quantised in a folder of its own.
fn quantised(model: &str, target: Target) -> Result<(tempfile::TempDir, f64), ModelError> {
    let folder = goldens().join(model);
    let config = ModelConfig::from_dir(&folder)?;
    let checkpoint = Checkpoint::open(&folder, &config)?;
    let out = tempfile::tempdir().unwrap();
    let outcome = quantise(&checkpoint, target, out.path(), |_, _| ())?;
    Ok((out, outcome.relative_error))
}

#[test]
fn a_quantised_model_should_be_read_again_as_the_same_model_but_for_rounding() {
    let targets = [
        (Target::Bf16, "bf16", 0.0, 0.0),
        (Target::Fp8, "fp8", 0.005, 0.06),
        (Target::Int8, "int8", 0.001, 0.02),
        (Target::Int4 { group: 8 }, "int4", 0.02, 0.2),
    ];
    for model in ["llama3", "mistral", "qwen2", "qwen3"] {
        let folder = goldens().join(model);
        let config = ModelConfig::from_dir(&folder).unwrap();
        let plain = Weights::load(&folder, &config).unwrap();
        for (target, kind, least, most) in targets {
            let (out, error) = quantised(model, target).unwrap();
            assert!(error >= least && error <= most, "{model} {kind}: {error}");
            let again = ModelConfig::from_dir(out.path()).unwrap();
            assert_eq!(again, config);
            let checkpoint = Checkpoint::open(out.path(), &again).unwrap();
            assert_eq!(checkpoint.is_quantised(), kind != "bf16");
            for layer in 0..config.num_hidden_layers {
                let parts = checkpoint.layer(layer).unwrap();
                for site in Site::ALL {
                    let read = &parts.sites[site.index()];
                    assert_eq!(read.type_name(), kind);
                    // What was rounded is what is read.
                    let original = Checkpoint::open(&folder, &config).unwrap();
                    let original = &original.layer(layer).unwrap().sites[site.index()];
                    assert_eq!(read.to_f32(), target.encode(original).unwrap().to_f32());
                }
            }
            let weights = checkpoint.weights().unwrap();
            let embed = |weights: &Weights| weights.embed.flatten_all().unwrap();
            assert_eq!(
                embed(&weights).to_vec1::<f32>().unwrap(),
                embed(&plain).to_vec1::<f32>().unwrap()
            );
        }
    }
}

#[test]
fn a_quantised_model_should_become_bf16_again_and_no_other_codes() {
    let folder = goldens().join("gguf/llama-q4_0");
    let config = ModelConfig::from_dir(&folder).unwrap();
    let checkpoint = Checkpoint::open(&folder, &config).unwrap();
    let out = tempfile::tempdir().unwrap();
    quantise(&checkpoint, Target::Bf16, out.path(), |_, _| ()).unwrap();
    assert_eq!(ModelConfig::from_dir(out.path()).unwrap(), config);
    let error = message(quantise(&checkpoint, Target::Int8, out.path(), |_, _| ()));
    assert!(error.contains("already"), "{error}");
    let error = message(quantised("llama3", Target::Int4 { group: 128 }));
    assert!(error.contains("q_proj") && error.contains("128"), "{error}");
}
