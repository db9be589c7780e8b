//! A model with adapters, computed on a device or on several that divide it: the base and every adapter in
//! the same steps, first all tokens but the last as prompts, then the last of each as a step of single rows.

use crate::adapters::slab::DeviceAdapter;
use crate::backend::cuda::device::Device;
use crate::backend::cuda::model::FromBase;
use crate::backend::cuda::{CudaBackend, CudaOptions, CudaRanks, DeviceChoice, Room, Storage};
use crate::backend::{Backend, StepBatch};
use crate::kv::pages_for;
use crate::lora::LoraBatch;
use openledger_model::{Adapter, ModelConfig, Weights};
use std::sync::Arc;

/// What goes wrong, as text: any of it fails the part, and the next goes on.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pages for keys and values.
const KV_PAGES: u32 = 200;

/// Rows of a step: all prompts of a model with all its adapters.
const ROWS: usize = 2048;

/// How a model is computed.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// How values are stored.
    pub storage: Storage,
    /// Whether products of matrices are the engine's own.
    pub deterministic: bool,
    /// Whether tensor cores may be used.
    pub tensor_cores: bool,
}

/// A model, its adapters and what it is asked.
pub struct Subject {
    /// Its shapes.
    pub config: ModelConfig,
    /// Its weights.
    pub weights: Weights,
    /// Its adapters.
    pub adapters: Vec<Adapter>,
    /// Tokens.
    pub prompts: Vec<Vec<u32>>,
}

/// The logits of a prompt.
pub struct Answer {
    /// 0 for the base; the number of the adapter, from 1 on.
    pub adapter: usize,
    /// Which prompt.
    pub prompt: usize,
    /// `[tokens, vocabulary]`.
    pub logits: Vec<f32>,
}

struct Case<'a> {
    ids: &'a [u32],
    adapter: Option<Arc<DeviceAdapter>>,
    table: Vec<u32>,
    answer: Answer,
}

impl Subject {
    /// Computes each prompt with the base, adapter 0, and with every adapter, if it is wanted:
    /// `(adapter, prompt)`. Neighbours are of different adapters.
    ///
    /// # Errors
    /// When a device fails, or the model cannot be divided among so many.
    pub fn compute(
        &self,
        devices: &[Arc<dyn Device>],
        mode: Mode,
        wanted: impl Fn(usize, usize) -> bool,
    ) -> Result<Vec<Answer>, Failure> {
        let options = CudaOptions {
            devices: devices.iter().cloned().map(DeviceChoice::Open).collect(),
            storage: mode.storage,
            deterministic: mode.deterministic,
            tensor_cores: mode.tensor_cores,
            graphs: true,
        };
        let config = &self.config;
        let page_bytes = crate::backend::cuda::arena::page_bytes(config, mode.storage);
        let sizes = self.adapters.iter().map(|adapter| adapter.to_bytes());
        let sizes: Vec<_> = sizes.collect::<Result<_, _>>()?;
        let bytes: usize = sizes.iter().map(|(_, weights)| weights.len()).sum();
        // Files hold the weights and little else; DoRAs a vector more. Each rank has half of a pair whole.
        let slabs = (2 * devices.len() * bytes).div_ceil(page_bytes) + 4 * self.adapters.len();
        let room = Room {
            pages: Some(KV_PAGES + u32::try_from(slabs)?),
            context: config.max_position_embeddings,
            rows: ROWS,
        };
        let mut filler = FromBase::new(config, self.weights.clone());
        let mut backend: Box<dyn Backend> = match devices {
            [_] => Box::new(CudaBackend::new(config, &mut filler, &options, room)?),
            _ => Box::new(CudaRanks::new(config, &mut filler, &options, room)?),
        };
        let loaded = self.load(&*backend)?;
        let mut cases = self.cases(&loaded, wanted)?;
        for last in [false, true] {
            advance(&mut *backend, &mut cases, last, config.vocab_size)?;
        }
        Ok(cases.into_iter().map(|case| case.answer).collect())
    }

    /// The base and the adapters, those on the device.
    fn load(&self, backend: &dyn Backend) -> Result<Vec<Option<Arc<DeviceAdapter>>>, Failure> {
        let page_bytes = backend.page_bytes();
        let mut loaded = vec![None];
        let mut first = KV_PAGES;
        let copier = backend.copier();
        for adapter in &self.adapters {
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
        Ok(loaded)
    }

    fn cases(
        &self,
        loaded: &[Option<Arc<DeviceAdapter>>],
        wanted: impl Fn(usize, usize) -> bool,
    ) -> Result<Vec<Case<'_>>, Failure> {
        let mut cases = Vec::new();
        let mut page = 0;
        for (prompt, ids) in self.prompts.iter().enumerate() {
            for (number, adapter) in loaded.iter().enumerate() {
                if !wanted(number, prompt) {
                    continue;
                }
                let pages = pages_for(ids.len()) as u32;
                cases.push(Case {
                    ids,
                    adapter: adapter.clone(),
                    table: (page..page + pages).collect(),
                    answer: Answer {
                        adapter: number,
                        prompt,
                        logits: Vec::new(),
                    },
                });
                page += pages;
            }
        }
        if page > KV_PAGES {
            return Err("the prompts take more pages than there are".into());
        }
        Ok(cases)
    }
}

/// Computes all tokens but the last of each case, or the last.
fn advance(
    backend: &mut dyn Backend,
    cases: &mut [Case<'_>],
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
        cases[case].answer.logits.extend_from_slice(mine);
        rest = others;
    }
    Ok(())
}

/// The largest absolute difference; infinite where one is no number or the lengths differ.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
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
