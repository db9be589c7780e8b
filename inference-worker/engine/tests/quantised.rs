//! Quantised bases: against transformers, against the plain forward over the same values, and that
//! they take the memory of their codes.

mod common;

use candle_core::{safetensors, Device, Tensor};
use common::*;
use openledger_engine::{Engine, EngineOptions, Request};
use openledger_model::{forward, Adapter, Checkpoint, ModelConfig, Site};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest absolute difference from the references, which compute in f32 too, with the codes multiplied by
/// their scales.
const TOLERANCE: f32 = 1e-5;

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
        .join("../model/goldens")
}

/// Every quantised golden, and a golden model of the same shape whose adapters fit it, if there is one.
fn bases() -> Vec<(PathBuf, Option<&'static str>)> {
    let quantised = [
        ("int8-channel", Some("qwen2")),
        ("int8-group", None),
        ("int4-group", None),
        ("int4-channel", None),
        ("fp8-channel", Some("qwen3")),
        ("fp8-tensor", None),
    ];
    let gguf = ["llama-q4_0", "qwen2-f16", "qwen3-k"];
    let quantised = quantised.map(|(name, of)| (goldens().join("quantised").join(name), of));
    let gguf = gguf.map(|name| (goldens().join("gguf").join(name), None));
    quantised.into_iter().chain(gguf).collect()
}

fn prompts() -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(goldens().join("prompts.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Ragged adapters for any shape, and the golden DoRAs if there are some. With an effect of the base's own
/// size, logits would be too large for an absolute bound on what f32 rounds.
fn adapters(config: &ModelConfig, of: Option<&str>) -> Vec<Adapter> {
    let mut adapters = ragged_adapters_within(config, 0.1);
    for name in ["r8-dora", "ragged-dora"] {
        let folder = of.map(|of| goldens().join(of).join("adapters").join(name));
        adapters.extend(folder.map(|folder| Adapter::load(&folder, config).unwrap()));
    }
    adapters
}

#[test]
fn logits_over_quantised_bases_should_be_those_of_transformers_and_of_the_plain_forward() {
    for (folder, of) in bases() {
        let config = ModelConfig::from_dir(&folder).unwrap();
        let checkpoint = Checkpoint::open(&folder, &config).unwrap();
        let weights = checkpoint.weights().unwrap();
        let adapters = adapters(&config, of);
        let (mut backend, loaded) = cpu_backend(&config, checkpoint, 60, &adapters, 1);
        let expected =
            safetensors::load(folder.join("expected/base.safetensors"), &Device::Cpu).unwrap();
        let prompts = prompts();
        let uses: Vec<(usize, Option<usize>)> = (0..3)
            .flat_map(|p| (0..=adapters.len()).map(move |a| (p, a.checked_sub(1))))
            .collect();
        let cases: Vec<Case> = uses
            .iter()
            .map(|(p, a)| Case {
                ids: prompts[*p].clone(),
                adapter: a.map(|a| Arc::clone(&loaded[a])),
            })
            .collect();
        let found = forced(&mut *backend, 60, &cases);
        for ((p, a), found) in uses.iter().zip(found) {
            let name = format!("{}, prompt {p}, adapter {a:?}", folder.display());
            let ids = &prompts[*p];
            let ids = Tensor::from_vec(ids.clone(), (1, ids.len()), &Device::Cpu).unwrap();
            let plain = |a: Option<usize>| -> Vec<f32> {
                let logits = forward(&config, &weights, a.map(|a| &adapters[a]), &ids).unwrap();
                logits.flatten_all().unwrap().to_vec1().unwrap()
            };
            let oracle = plain(*a);
            let error = difference(&found, &oracle);
            assert!(error <= TOLERANCE, "{name}: {error} from the plain forward");
            match a {
                None => {
                    let theirs = expected[&format!("logits.{p}")].flatten_all().unwrap();
                    let error = difference(&found, &theirs.to_vec1().unwrap());
                    assert!(error <= TOLERANCE, "{name}: {error} from transformers");
                }
                Some(_) => assert!(difference(&found, &plain(None)) > 0.05, "{name}"),
            }
        }
    }
}

#[test]
fn every_position_should_have_the_same_bits_alone_and_in_the_batch_over_every_storage() {
    for (folder, _) in bases() {
        let config = ModelConfig::from_dir(&folder).unwrap();
        let checkpoint = Checkpoint::open(&folder, &config).unwrap();
        let adapters = ragged_adapters(&config);
        let (mut backend, loaded) = cpu_backend(&config, checkpoint, 60, &adapters, 1);
        let case = |i: usize| Case {
            ids: prompt(3 + 7 * i, i),
            adapter: (i % 4).checked_sub(1).map(|a| Arc::clone(&loaded[a])),
        };
        let together = forced(&mut *backend, 60, &(0..8).map(case).collect::<Vec<_>>());
        for (i, together) in together.iter().enumerate() {
            let alone = forced(&mut *backend, 60, &[case(i)]);
            assert!(alone[0] == *together, "{} {i}", folder.display());
        }
    }
}

#[test]
fn weights_should_take_the_bytes_of_their_codes_and_scales() {
    for (folder, stored, bits, group) in [
        ("int8-channel", "int8", 8, usize::MAX),
        ("int8-group", "int8", 8, 16),
        ("int4-group", "int4", 4, 16),
        ("fp8-channel", "fp8", 8, usize::MAX),
    ] {
        let path = goldens().join("quantised").join(folder);
        let config = ModelConfig::from_dir(&path).unwrap();
        let checkpoint = Checkpoint::open(&path, &config).unwrap();
        let head = checkpoint.lm_head().unwrap();
        // Rows are filled up to panels of sixteen.
        let bytes = |outputs: usize, inputs: usize| {
            let outputs = outputs.next_multiple_of(16);
            outputs * inputs * bits / 8 + 4 * outputs * inputs.div_ceil(group.min(inputs))
        };
        let head = head.filter(|head| head.type_name() == stored);
        let mut expected = head.map_or(0, |head| bytes(head.outputs(), head.inputs()));
        for layer in 0..config.num_hidden_layers {
            for matrix in &checkpoint.layer(layer).unwrap().sites {
                if matrix.type_name() == stored {
                    expected += bytes(matrix.outputs(), matrix.inputs());
                }
            }
        }
        let (backend, _) = cpu_backend(&config, checkpoint, 10, &[], 1);
        assert_eq!(
            backend.weight_bytes().get(stored),
            Some(&expected),
            "{folder}"
        );

        // Beside what is not quantised, a quarter of f32 and less.
        let whole: usize = (0..config.num_hidden_layers)
            .flat_map(|_| Site::ALL.map(|site| site.shape(&config)))
            .map(|(outputs, inputs)| 4 * outputs * inputs)
            .sum();
        if config.tie_word_embeddings {
            assert!(expected < whole / 2, "{folder}: {expected} of {whole}");
        }
    }
}

#[test]
fn an_engine_should_serve_a_quantised_base_and_say_what_it_takes() {
    let folder = goldens().join("quantised/int4-group");
    let config = ModelConfig::from_dir(&folder).unwrap();
    let checkpoint = || Checkpoint::open(&folder, &config).unwrap();
    let options = EngineOptions {
        deterministic: true,
        ..EngineOptions::default()
    };
    let coded = Engine::start(&config, checkpoint(), options.clone()).unwrap();
    let plain = Engine::start(&config, checkpoint().weights().unwrap(), options).unwrap();
    let request = || Request::new(prompt(9, 1), 20);
    let answers = [&coded, &plain].map(|engine| {
        let (tokens, end) = engine
            .submit(request())
            .unwrap()
            .blocking_collect()
            .unwrap();
        (
            tokens.into_iter().map(|t| t.id).collect::<Vec<_>>(),
            end.unwrap().fingerprint,
        )
    });
    // The same values, and so the same bits.
    assert_eq!(answers[0], answers[1]);
    let bytes = coded.stats().weight_bytes;
    assert!(
        bytes.contains_key("int4") && bytes.contains_key("bf16"),
        "{bytes:?}"
    );
    assert!(!plain.stats().weight_bytes.contains_key("int4"));
}
