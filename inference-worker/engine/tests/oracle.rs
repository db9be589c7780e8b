//! The batched, paged, segmented forward against the model crate's plain one.

mod common;

use common::*;
use openledger_engine::adapters::image::AdapterImage;
use openledger_engine::adapters::slab::DeviceAdapter;
use openledger_engine::backend::Backend;
use openledger_model::{Adapter, ModelConfig, RopeScaling, Site, Targets};
use std::sync::Arc;

/// The largest difference, relative to the largest logit. Weights are drawn to make mistakes large, and logits
/// with them: some exceed fifteen, where f32 on both sides, summed in two orders, differs by 8e-5. Goldens are
/// held to 1e-5 absolute.
const TOLERANCE: f32 = 1e-5;

fn logits_should_agree(config: &ModelConfig, adapters: &[Adapter]) {
    let weights = weights(config);
    let (mut backend, loaded) = backend(config, weights.clone(), 40, adapters);
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
    let found = forced(&mut *backend, 40, &cases);
    for (i, (case, found)) in cases.iter().zip(&found).enumerate() {
        let adapter = uses[i].map(|a| &adapters[a]);
        let expected = plain_logits(config, &weights, adapter, &case.ids);
        let scale = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
        let error = difference(found, &expected) / scale;
        assert!(error < TOLERANCE, "case {i}: relative error {error}");
        if adapter.is_some() {
            let base = plain_logits(config, &weights, None, &case.ids);
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
    let (mut backend, loaded) = backend(&config, weights(&config), 60, &ragged_adapters(&config));
    let case = |i: usize| Case {
        ids: prompt(3 + 7 * i, i),
        adapter: (i % 4).checked_sub(1).map(|a| Arc::clone(&loaded[a])),
    };
    let cases: Vec<Case> = (0..10).map(case).collect();
    let together = forced(&mut *backend, 60, &cases);
    for (i, together) in together.iter().enumerate() {
        assert!(forced(&mut *backend, 60, &[case(i)])[0] == *together, "{i}");
    }
}

#[test]
fn a_step_should_wait_for_the_layers_of_an_adapter_on_its_way() {
    let config = config();
    let adapters = ragged_adapters(&config);
    let (mut backend, loaded) = backend(&config, weights(&config), 40, &adapters[..1]);
    let case = |adapter: &Arc<DeviceAdapter>| Case {
        ids: prompt(20, 1),
        adapter: Some(Arc::clone(adapter)),
    };
    let expected = forced(&mut *backend, 40, &[case(&loaded[0])]);

    // The same slab, overwritten, and a copy that goes on only once the step has begun.
    let image = AdapterImage::arranged(&config, arrangement(), &adapters[0]).unwrap();
    let pages = loaded[0].pages.clone();
    let coming = Arc::new(DeviceAdapter::new(Arc::clone(image.table()), pages.clone()));
    let other = AdapterImage::random_arranged(&config, arrangement(), &Site::ALL, 3, 9);
    let copier = backend.copier();
    for layer in 0..3 {
        copier.copy_layer(&other, &pages, layer).unwrap();
    }
    assert!(!coming.may_begin());
    let copying = Arc::clone(&coming);
    let copy = std::thread::spawn(move || {
        for layer in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(30));
            copier.copy_layer(&image, &pages, layer).unwrap();
            copying.arrive(layer + 1);
        }
    });
    let found = forced(&mut *backend, 40, &[case(&coming)]);
    copy.join().unwrap();
    assert!(coming.may_begin());
    assert!(found == expected);

    let broken = DeviceAdapter::new(Arc::clone(&coming.table), coming.pages.clone());
    broken.arrive(1);
    broken.fail("the device is gone".to_owned());
    assert_eq!(
        broken.wait(2).unwrap_err().to_string(),
        "the adapter cannot be loaded: the device is gone"
    );
}

#[test]
fn a_moved_page_should_be_read_at_its_new_place() {
    let config = config();
    let (mut backend, _) = backend(&config, weights(&config), 6, &[]);
    let logits = |backend: &mut dyn Backend, tables: &[u32], from: usize, to: usize| {
        let ids = prompt(20, 1);
        let batch = openledger_engine::backend::StepBatch {
            tokens: ids[from..to].to_vec(),
            positions: (from as u32..to as u32).collect(),
            sequences: vec![0; to - from],
            tables: vec![tables.to_vec()],
            wanted: vec![(to - from) as u32 - 1],
            ..Default::default()
        };
        backend.step(&batch).unwrap().logits.to_vec()
    };
    logits(&mut *backend, &[0, 1], 0, 19);
    let expected = logits(&mut *backend, &[0, 1], 19, 20);
    for (from, to) in [(0, 5), (1, 3)] {
        backend.move_page(from, to).unwrap();
    }
    // What was in the old places no longer matters.
    logits(&mut *backend, &[1, 0], 0, 17);
    assert_eq!(logits(&mut *backend, &[5, 3], 19, 20), expected);
}

#[test]
fn hidden_states_should_be_what_the_logits_are_products_of() {
    let config = config();
    let weights = weights(&config);
    let (mut backend, _) = backend(&config, weights.clone(), 6, &[]);
    let ids = prompt(20, 1);
    let logits = plain_logits(&config, &weights, None, &ids);
    let batch = openledger_engine::backend::StepBatch {
        positions: (0..20).collect(),
        sequences: vec![0; 20],
        tables: vec![vec![4, 1]],
        wanted: vec![7],
        embedded: vec![19, 3, 7],
        tokens: ids,
        ..Default::default()
    };
    let output = backend.step(&batch).unwrap();
    let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
    assert_eq!(output.logits.len(), vocabulary);
    assert_eq!(output.hidden.len(), 3 * hidden);
    let head: Vec<f32> = weights
        .lm_head
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    for (row, state) in batch
        .embedded
        .iter()
        .zip(output.hidden.chunks_exact(hidden))
    {
        let products: Vec<f32> = head
            .chunks_exact(hidden)
            .map(|w| w.iter().zip(state).map(|(w, s)| w * s).sum())
            .collect();
        let expected = &logits[*row as usize * vocabulary..][..vocabulary];
        assert!(difference(&products, expected) < 1e-5, "row {row}");
    }
}
