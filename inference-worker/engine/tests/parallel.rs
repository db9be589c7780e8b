//! Tensor parallelism: several ranks give the logits of one, and the same bits in every run and batch.

mod common;

use common::*;
use openledger_engine::adapters::image::AdapterImage;
use openledger_engine::adapters::slab::DeviceAdapter;
use openledger_engine::{AdapterError, Engine, EngineError, EngineHandle, EngineOptions, Request};
use openledger_model::{
    quantise, Adapter, Checkpoint, Family, LoraPair, ModelConfig, Site, StoredType, Target, Weights,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest difference, relative to the largest logit: what ranks sum up is rounded in other places, and
/// logits of random weights exceed six, where that alone makes 1.2e-5.
const TOLERANCE: f32 = 1e-5;

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
        .join("../model/goldens")
}

/// A model of a family that four ranks can divide; of one, the embedding is the output projection.
fn divisible(family: Family) -> ModelConfig {
    ModelConfig {
        family,
        tie_word_embeddings: family == Family::Qwen3,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        intermediate_size: 72,
        ..config()
    }
}

/// The adapter with magnitudes that turn it into a DoRA.
fn dora(adapter: &Adapter, weights: &Weights) -> Adapter {
    let mut adapter = adapter.clone();
    for (layer, base) in adapter.layers.iter_mut().zip(&weights.layers) {
        for site in Site::ALL {
            let Some(pair) = layer.get(site).cloned() else {
                continue;
            };
            let lengths = base
                .site(site)
                .sqr()
                .unwrap()
                .sum(1)
                .unwrap()
                .sqrt()
                .unwrap();
            let magnitude = Some((lengths * 1.3).unwrap());
            layer.set(site, Some(LoraPair { magnitude, ..pair }));
        }
    }
    adapter.digest[0] ^= 1;
    adapter
}

/// Cases of the base and of every adapter, in an order that is not the adapters' own.
fn cases(count: usize, loaded: &[Arc<DeviceAdapter>]) -> Vec<Case> {
    (0..count)
        .map(|i| Case {
            ids: prompt(3 + 5 * i, i),
            adapter: (i * 3 % (loaded.len() + 1))
                .checked_sub(1)
                .map(|a| Arc::clone(&loaded[a])),
        })
        .collect()
}

fn best(logits: &[f32]) -> usize {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0
}

/// Compares ranks with one rank; `base` is asked for once for each.
fn ranks_should_agree<B: Into<openledger_model::Base>>(
    name: &str,
    config: &ModelConfig,
    base: impl Fn() -> B,
    adapters: &[Adapter],
    ranks: &[usize],
) {
    let backend = |ranks| ranked_backend(place(), config, base(), 60, adapters, ranks);
    let (mut one, loaded) = backend(1);
    let expected = forced(&mut *one, 60, &cases(9, &loaded));
    for ranks in ranks {
        let (mut several, loaded) = backend(*ranks);
        assert_eq!(several.page_bytes(), one.page_bytes());
        let found = forced(&mut *several, 60, &cases(9, &loaded));
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let scale = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
            let error = difference(found, expected) / scale;
            assert!(
                error <= TOLERANCE,
                "{name}, {ranks} ranks, case {i}: {error}"
            );
            let rows = found.chunks(config.vocab_size);
            for (ours, theirs) in rows.zip(expected.chunks(config.vocab_size)) {
                assert_eq!(best(ours), best(theirs), "{name}, {ranks} ranks, case {i}");
            }
        }
    }
}

#[test]
fn two_and_four_ranks_should_give_the_logits_of_one_for_every_family_and_adapter() {
    for family in Family::ALL {
        let config = divisible(family);
        let weights = weights(&config);
        let mut adapters = ragged_adapters(&config);
        adapters.extend([dora(&adapters[0], &weights), dora(&adapters[2], &weights)]);
        let name = family.model_type();
        ranks_should_agree(name, &config, || weights.clone(), &adapters, &[2, 4]);
    }
}

#[test]
fn ranks_should_agree_on_the_golden_models() {
    let models: [(&str, &[&str], &[usize]); 4] = [
        ("llama2", &["r4", "r16"], &[2, 4]),
        (
            "llama3",
            &["r16-patterns", "r64-regex", "ragged-dora"],
            &[2],
        ),
        ("mistral", &["ragged", "ragged-dora"], &[2]),
        ("qwen2", &["ragged", "ragged-dora"], &[2]),
    ];
    for (model, names, ranks) in models {
        let folder = goldens().join(model);
        let config = ModelConfig::from_dir(&folder).unwrap();
        let load = |name: &&str| Adapter::load(&folder.join("adapters").join(name), &config);
        let adapters: Vec<Adapter> = names.iter().map(|name| load(name).unwrap()).collect();
        let base = || Checkpoint::open(&folder, &config).unwrap();
        ranks_should_agree(model, &config, base, &adapters, ranks);
    }
}

#[test]
fn ranks_should_agree_over_quantised_bases() {
    for (model, ranks) in [
        ("quantised/int8-channel", 2),
        ("quantised/fp8-tensor", 4),
        ("gguf/qwen2-f16", 2),
    ] {
        let folder = goldens().join(model);
        let config = ModelConfig::from_dir(&folder).unwrap();
        let base = || Checkpoint::open(&folder, &config).unwrap();
        let adapters = ragged_adapters(&config);
        ranks_should_agree(model, &config, base, &adapters, &[ranks]);
    }
}

#[test]
fn ranks_should_agree_where_none_cuts_a_group_of_int4() {
    let config = divisible(Family::Llama);
    let (whole, codes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(whole.path().join("config.json"), config.to_json()).unwrap();
    weights(&config)
        .save(whole.path(), StoredType::F32)
        .unwrap();
    let checkpoint = Checkpoint::open(whole.path(), &config).unwrap();
    // Twelve divides the inputs of every layer, and half of those that are cut.
    quantise(
        &checkpoint,
        Target::Int4 { group: 12 },
        codes.path(),
        |_, _| {},
    )
    .unwrap();
    let base = || Checkpoint::open(codes.path(), &config).unwrap();
    assert!(base().is_quantised());
    ranks_should_agree("int4", &config, base, &ragged_adapters(&config), &[2]);
}

#[test]
fn every_position_should_have_the_same_bits_alone_in_a_batch_and_in_every_run_of_several_ranks() {
    let config = divisible(Family::Qwen3);
    let adapters = ragged_adapters(&config);
    for ranks in [2, 4] {
        let start = || ranked_backend(place(), &config, weights(&config), 60, &adapters, ranks);
        let (mut backend, loaded) = start();
        let all = cases(8, &loaded);
        let together = forced(&mut *backend, 60, &all);
        for (case, together) in all.into_iter().zip(&together) {
            assert!(forced(&mut *backend, 60, &[case])[0] == *together);
        }
        let (mut again, loaded) = start();
        assert!(forced(&mut *again, 60, &cases(8, &loaded)) == together);
    }
}

#[test]
fn what_cannot_be_divided_should_be_refused_by_name() {
    let refusal = |folder: &str, ranks: usize| {
        let folder = goldens().join(folder);
        let config = ModelConfig::from_dir(&folder).unwrap();
        let checkpoint = Checkpoint::open(&folder, &config).unwrap();
        match divided(place(), &config, checkpoint, 10, ranks) {
            Ok(_) => panic!("{} was divided", folder.display()),
            Err(error) => error.to_string(),
        }
    };
    assert!(refusal("qwen3", 2).contains("num_key_value_heads of 1"));
    assert!(refusal("llama2", 3).contains("tensor_parallel 3"));
    assert!(refusal("llama2", 0).contains("at least 1"));
    // A group of scales or a block would be cut.
    let error = refusal("quantised/int4-group", 2);
    assert!(
        error.contains("layer 0") && error.contains("16 inputs"),
        "{error}"
    );
    let error = refusal("gguf/llama-q4_0", 2);
    let reason = match place() {
        Place::Cpu => "32 inputs",
        Place::Cuda | Place::CudaHost => "GGUF",
    };
    assert!(error.contains(reason), "{error}");
    let options = EngineOptions {
        tensor_parallel: 4,
        ..EngineOptions::default()
    };
    let config = config();
    let refused = Engine::start(&config, weights(&config), placed(&config, options));
    assert!(matches!(refused, Err(EngineError::Options(_))));
}

#[test]
fn a_rank_that_fails_should_end_the_step_and_not_the_engine() {
    let config = divisible(Family::Llama);
    let adapters = ragged_adapters(&config);
    let (mut backend, loaded) =
        ranked_backend(place(), &config, weights(&config), 40, &adapters, 4);
    let expected = forced(&mut *backend, 40, &cases(3, &loaded));
    let broken = DeviceAdapter::new(Arc::clone(&loaded[0].table), loaded[0].pages.clone());
    let broken = &Arc::new(broken);
    broken.arrive(1);
    broken.fail("the device is gone".to_owned());
    let batch = openledger_engine::backend::StepBatch {
        tokens: vec![1],
        positions: vec![0],
        sequences: vec![0],
        tables: vec![vec![0]],
        wanted: vec![0],
        lora: openledger_engine::lora::LoraBatch::group(&mut [()], |()| Some(broken), |()| 1),
        ..Default::default()
    };
    let error = backend.step(&batch).unwrap_err();
    assert!(error.to_string().contains("the device is gone"), "{error}");
    assert!(forced(&mut *backend, 40, &cases(3, &loaded)) == expected);
}

#[test]
fn an_image_for_other_ranks_should_be_refused() {
    let config = divisible(Family::Llama);
    let options = EngineOptions {
        tensor_parallel: 2,
        ..EngineOptions::default()
    };
    let options = placed(&config, options);
    let engine = Engine::start(&config, weights(&config), options).unwrap();
    let image = AdapterImage::random_arranged(&config, arrangement(), &Site::ALL, 4, 1);
    let refused = engine.hold(image);
    let expected = AdapterError::Ranks {
        image: 1,
        device: 2,
    };
    assert_eq!(refused, Err(expected));
}

fn start(config: &ModelConfig, ranks: usize, pages: Option<u32>) -> EngineHandle {
    let options = EngineOptions {
        tensor_parallel: ranks,
        threads: Some(2),
        arena_pages: pages,
        deterministic: true,
        ..EngineOptions::default()
    };
    Engine::start(config, weights(config), placed(config, options)).unwrap()
}

/// Tokens and fingerprints of requests of the base and of adapters that share the engine.
fn answers(
    engine: &EngineHandle,
    adapters: &[Adapter],
    together: bool,
) -> Vec<(Vec<u32>, [u8; 32])> {
    let ids: Vec<_> = adapters
        .iter()
        .map(|adapter| engine.load_adapter(adapter).unwrap())
        .collect();
    let mut answers = Vec::new();
    let mut streams = Vec::new();
    let gate = together.then(|| Gate::close(engine));
    for i in 0..10 {
        let mut request = Request::new(prompt(4 + 3 * i, i), 24);
        request.adapter = (i % (ids.len() + 1)).checked_sub(1).map(|a| ids[a]);
        streams.push(engine.submit(request).unwrap());
        if !together {
            answers.extend(streams.drain(..).map(|stream| stream.blocking_collect()));
        }
    }
    if let Some(gate) = gate {
        gate.open();
    }
    answers.extend(streams.into_iter().map(|stream| stream.blocking_collect()));
    answers
        .into_iter()
        .map(|answer| {
            let (tokens, end) = answer.unwrap();
            let tokens = tokens.into_iter().map(|t| t.id).collect();
            (tokens, end.unwrap().fingerprint)
        })
        .collect()
}

#[test]
fn engines_of_several_ranks_should_give_the_tokens_of_one_and_their_own_bits_whatever_happens() {
    let config = divisible(Family::Mistral);
    let adapters = ragged_adapters(&config);
    let tokens = |answers: &[(Vec<u32>, [u8; 32])]| -> Vec<Vec<u32>> {
        answers.iter().map(|(tokens, _)| tokens.clone()).collect()
    };
    let one = answers(&start(&config, 1, None), &adapters, true);
    for ranks in [1, 2, 4] {
        let alone = answers(&start(&config, ranks, None), &adapters, false);
        assert_eq!(tokens(&alone), tokens(&one), "{ranks} ranks");
        // Adapters come and go for want of room.
        let backend = divided(place(), &config, weights(&config), 10, ranks).unwrap();
        let pages = |adapter: &Adapter| {
            let image = backend.copier().lay_out(adapter).unwrap();
            image.table().bytes().div_ceil(backend.page_bytes()) as u32
        };
        let largest = adapters.iter().map(pages).max().unwrap();
        let tight = start(&config, ranks, Some(10 + largest));
        assert_eq!(answers(&tight, &adapters, true), alone, "{ranks} ranks");
        let stats = tight.stats();
        assert!(stats.tiers.device_evictions > 0, "{:?}", stats.tiers);
    }
}

#[test]
fn requests_that_give_way_should_go_on_with_the_same_bits_on_several_ranks() {
    let config = divisible(Family::Llama);
    for ranks in [2, 4] {
        let alone = answers(&start(&config, ranks, None), &[], false);
        // Of a context of ten pages there is room for little more than one; all ten begin with one or two.
        let crowded = start(&config, ranks, Some(14));
        assert_eq!(answers(&crowded, &[], true), alone, "{ranks} ranks");
        assert!(crowded.stats().preemptions > 0, "{ranks} ranks");
    }
}
