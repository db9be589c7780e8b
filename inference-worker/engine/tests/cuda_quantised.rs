//! Bases that are stored as codes, through the CUDA backend with its kernels on the CPU.

mod common;

use candle_core::{safetensors, Device};
use common::*;
use openledger_engine::backend::cuda::model::FromBase;
use openledger_engine::backend::cuda::{CudaBackend, Room};
use openledger_engine::backend::Backend;
use openledger_model::{Checkpoint, ModelConfig, Site};
use std::path::{Path, PathBuf};

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
        .join("../model/goldens")
}

fn backend_of(folder: &Path) -> (ModelConfig, Result<CudaBackend, String>) {
    let config = ModelConfig::from_dir(folder).unwrap();
    let checkpoint = Checkpoint::open(folder, &config).unwrap();
    let options = cuda_options(&config, Place::CudaHost);
    let room = Room {
        pages: Some(80),
        context: config.max_position_embeddings,
        rows: 256,
    };
    let mut filler = FromBase::new(&config, checkpoint);
    let backend = CudaBackend::new(&config, &mut filler, &options, room);
    (config, backend.map_err(|error| error.to_string()))
}

#[test]
fn bases_packed_by_compressed_tensors_should_match_what_their_codes_say() {
    let prompts = std::fs::read_to_string(goldens().join("prompts.json")).unwrap();
    let prompts: Vec<Vec<u32>> = serde_json::from_str(&prompts).unwrap();
    for name in [
        "int8-channel",
        "int8-group",
        "int4-channel",
        "int4-group",
        "fp8-channel",
        "fp8-tensor",
    ] {
        let folder = goldens().join("quantised").join(name);
        let (_, backend) = backend_of(&folder);
        let mut backend = backend.unwrap();
        let expected = folder.join("expected/base.safetensors");
        let tensors = safetensors::load(expected, &Device::Cpu).unwrap();
        for (i, ids) in prompts.iter().take(tensors.len()).enumerate() {
            let case = Case {
                ids: ids.clone(),
                adapter: None,
            };
            let found = forced(&mut backend, 80, &[case]);
            let expected = &tensors[&format!("logits.{i}")];
            let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
            let error = difference(&found[0], &expected);
            assert!(error <= 1e-5, "{name}, prompt {i}: off by {error}");
        }
    }
}

#[test]
fn codes_should_be_read_back_as_the_weights_that_they_stand_for() {
    for name in ["int8-group", "int4-group", "fp8-channel"] {
        let folder = goldens().join("quantised").join(name);
        let (config, backend) = backend_of(&folder);
        let copier = backend.unwrap().cuda_copier();
        let weights = Checkpoint::open(&folder, &config)
            .unwrap()
            .weights()
            .unwrap();
        for site in Site::ALL {
            let expected = weights.layers[1].site(site).flatten_all().unwrap();
            let expected: Vec<f32> = expected.to_vec1().unwrap();
            assert!(
                copier.weight(1, site).unwrap() == expected,
                "{name} {site:?}"
            );
        }
    }
}

#[test]
fn blocks_of_a_gguf_file_should_be_refused() {
    let (_, backend) = backend_of(&goldens().join("gguf/llama-q4_0"));
    let error = backend.map(|backend| backend.name()).unwrap_err();
    assert!(error.contains("GGUF"), "{error}");
}
