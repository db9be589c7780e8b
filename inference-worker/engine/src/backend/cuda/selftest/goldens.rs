//! The backend against the logits of transformers and PEFT: the base and every adapter in the same
//! steps, first all tokens but the last as prompts, then the last of each as a step of single rows.

use super::fixtures::{Fixture, PROMPTS};
use crate::adapters::slab::DeviceAdapter;
use crate::backend::cuda::device::Device;
use crate::backend::cuda::model::FromBase;
use crate::backend::cuda::{CudaBackend, CudaOptions, DeviceChoice, Room, Storage};
use crate::backend::{Backend, StepBatch};
use crate::kv::pages_for;
use crate::lora::LoraBatch;
use candle_core::safetensors::load_buffer;
use openledger_model::{Adapter, ModelConfig, Weights};
use std::path::Path;
use std::sync::Arc;

/// What goes wrong, as text: any of it fails the part, and the next goes on.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pages for keys and values.
const KV_PAGES: u32 = 200;

/// Rows of a step: all prompts of a model with all its adapters.
const ROWS: usize = 2048;

/// How far a model was off.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The largest absolute difference of a logit from the reference.
    pub error: f32,
    /// The largest magnitude of a logit of the reference.
    pub largest: f32,
    /// The least, over positions, of the largest difference that an adapter makes.
    pub effect: f32,
    /// Logits that were compared.
    pub logits: usize,
}

struct Case {
    ids: Vec<u32>,
    adapter: Option<Arc<DeviceAdapter>>,
    table: Vec<u32>,
    expected: Vec<f32>,
    base: Vec<f32>,
    found: Vec<f32>,
}

/// Computes a fixture on a device, with `tensor_cores` or without. `folder` is empty and writable; it holds the checkpoint meanwhile.
///
/// # Errors
/// When the device fails, or the fixture cannot be read.
pub fn compute(
    device: &Arc<dyn Device>,
    fixture: &Fixture,
    storage: Storage,
    (deterministic, tensor_cores): (bool, bool),
    folder: &Path,
) -> Result<Found, Failure> {
    let config = ModelConfig::from_json(fixture.config)?;
    std::fs::write(folder.join("model.safetensors"), fixture.weights)?;
    let weights = Weights::load(folder, &config)?;
    let options = CudaOptions {
        devices: vec![DeviceChoice::Open(Arc::clone(device))],
        storage,
        deterministic,
        tensor_cores,
        graphs: true,
    };
    let adapters: Vec<Adapter> = fixture
        .adapters
        .iter()
        .map(|(_, json, bytes)| Adapter::from_bytes(json, bytes, &config))
        .collect::<Result<_, _>>()?;
    let bytes: usize = fixture
        .adapters
        .iter()
        .map(|(_, _, bytes)| bytes.len())
        .sum();
    let page_bytes = crate::backend::cuda::arena::page_bytes(&config, storage);
    // Files hold the weights and little else; DoRAs a vector more.
    let slabs = (2 * bytes).div_ceil(page_bytes) + 4 * adapters.len();
    let room = Room {
        pages: Some(KV_PAGES + u32::try_from(slabs)?),
        context: config.max_position_embeddings,
        rows: ROWS,
    };
    let mut filler = FromBase::new(&config, weights);
    let mut backend = CudaBackend::new(&config, &mut filler, &options, room)?;
    let mut loaded = vec![None];
    let mut first = KV_PAGES;
    let copier = backend.copier();
    for adapter in &adapters {
        let image = copier.lay_out(adapter)?;
        let pages = u32::try_from(image.table().bytes().div_ceil(page_bytes))?.max(1);
        let slab = DeviceAdapter::new(Arc::clone(image.table()), first..first + pages);
        first += pages;
        for layer in 0..image.table().layers() {
            copier.copy_layer(&image, &slab.pages, layer)?;
            slab.arrive(layer + 1);
        }
        loaded.push(Some(Arc::new(slab)));
    }
    let mut cases = cases(fixture, &loaded)?;
    for last in [false, true] {
        advance(&mut backend, &mut cases, last, config.vocab_size)?;
    }
    let mut found = Found {
        error: 0.0,
        largest: 0.0,
        effect: f32::INFINITY,
        logits: 0,
    };
    for case in &cases {
        found.error = found.error.max(difference(&case.found, &case.expected));
        let largest = case.expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        found.largest = found.largest.max(largest);
        found.logits += case.found.len();
        if case.adapter.is_some() {
            let rows = case.found.chunks_exact(config.vocab_size);
            for (ours, base) in rows.zip(case.base.chunks_exact(config.vocab_size)) {
                found.effect = found.effect.min(difference(ours, base));
            }
        }
    }
    Ok(found)
}

/// Every prompt that there is an answer for, with the base and each adapter, neighbours of different
/// adapters.
fn cases(fixture: &Fixture, loaded: &[Option<Arc<DeviceAdapter>>]) -> Result<Vec<Case>, Failure> {
    let prompts: Vec<Vec<u32>> = serde_json::from_slice(PROMPTS)?;
    let mut references = Vec::new();
    for expected in fixture.expected {
        let tensors = load_buffer(expected, &candle_core::Device::Cpu)?;
        let mut logits = Vec::new();
        while let Some(tensor) = tensors.get(&format!("logits.{}", logits.len())) {
            logits.push(tensor.flatten_all()?.to_vec1::<f32>()?);
        }
        references.push(logits);
    }
    let mut cases = Vec::new();
    let mut page = 0;
    for (p, ids) in prompts.iter().enumerate() {
        for (adapter, reference) in loaded.iter().zip(&references) {
            let base = references.first().and_then(|base| base.get(p));
            if let (Some(expected), Some(base)) = (reference.get(p), base) {
                let pages = pages_for(ids.len()) as u32;
                cases.push(Case {
                    ids: ids.clone(),
                    adapter: adapter.clone(),
                    table: (page..page + pages).collect(),
                    expected: expected.clone(),
                    base: base.clone(),
                    found: Vec::new(),
                });
                page += pages;
            }
        }
    }
    if page > KV_PAGES {
        return Err("the prompts take more pages than there are".into());
    }
    Ok(cases)
}

/// Computes all tokens but the last of each case, or the last.
fn advance(
    backend: &mut CudaBackend,
    cases: &mut [Case],
    last: bool,
    vocabulary: usize,
) -> Result<(), Failure> {
    let mut chunks: Vec<(usize, std::ops::Range<usize>)> = cases
        .iter()
        .map(|case| match last {
            true => case.ids.len() - 1..case.ids.len(),
            false => 0..case.ids.len() - 1,
        })
        .enumerate()
        .filter(|(_, range)| !range.is_empty())
        .collect();
    let mut batch = StepBatch {
        lora: LoraBatch::group(
            &mut chunks,
            |(case, _)| cases.get(*case).and_then(|case| case.adapter.as_ref()),
            |(_, range)| range.len(),
        ),
        ..StepBatch::default()
    };
    for (sequence, (case, range)) in chunks.iter().enumerate() {
        let case = &cases[*case];
        for position in range.clone() {
            batch.wanted.push(batch.tokens.len() as u32);
            batch.tokens.push(case.ids[position]);
            batch.positions.push(position as u32);
            batch.sequences.push(sequence as u32);
        }
        batch.tables.push(case.table.clone());
    }
    let output = backend.step(&batch)?;
    let mut rest = output.logits;
    for (case, range) in chunks {
        let (mine, others) = rest.split_at(range.len() * vocabulary);
        cases[case].found.extend_from_slice(mine);
        rest = others;
    }
    Ok(())
}

/// The largest absolute difference; infinite where one is no number or the lengths differ.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, |most, d| {
        if d.is_nan() {
            f32::INFINITY
        } else {
            most.max(d)
        }
    })
}
