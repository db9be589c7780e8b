//! The CPU backend: a decoder of the Llama kind in f32 over panels of weights.
//!
//! Every row of a step is computed by operations that do not depend on the other rows, so an answer
//! has the same bits alone, in any batch, and after preemption.

pub mod arena;
mod attention;
mod gemm;
pub mod kernels;
pub(crate) mod math;
mod rope;

use super::{Backend, Copier, StepBatch, StepOutput};
use crate::adapters::image::{AdapterImage, Arrangement, DeviceAdapter};
use crate::error::{AdapterError, EngineError, StepError};
use crate::kv::PAGE_TOKENS;
use crate::panels::PanelMatrix;
use arena::ArenaMemory;
use attention::{layer_words, Heads, LayerPages};
use candle_core::{Device, Tensor};
use gemm::{multiply_all, LoraTask, PackedRows, Product, SharedRows};
use kernels::Isa;
use math::{add, rms_norm, silu_mul};
use openledger_model::{Adapter, LayerWeights, ModelConfig, Site, Weights};
use rayon::prelude::*;
use rope::Rope;
use std::ops::Range;
use std::sync::Arc;

/// Multiply-adds of attention below which other threads are not asked.
const SERIAL_ATTENTION: usize = 1_000_000;

/// The decoder with its weights and its arena.
pub struct CpuBackend {
    isa: Isa,
    config: ModelConfig,
    heads: Heads,
    rope: Rope,
    embed: PanelMatrix,
    layers: Arc<Vec<Layer>>,
    norm: Vec<f32>,
    lm_head: Option<PanelMatrix>,
    arena: Arc<ArenaMemory>,
    buffers: Buffers,
}

struct Layer {
    input_norm: Vec<f32>,
    post_attention_norm: Vec<f32>,
    sites: [PanelMatrix; Site::ALL.len()],
    /// Added to the result of a site (Qwen2).
    bias: [Option<Vec<f32>>; Site::ALL.len()],
    /// Norms of each head of the queries and of the keys, before they are rotated (Qwen3).
    qk_norm: Option<[Vec<f32>; 2]>,
}

/// What lays adapters out and copies them beside the steps.
struct CpuCopier {
    config: ModelConfig,
    layers: Arc<Vec<Layer>>,
    arena: Arc<ArenaMemory>,
}

impl Copier for CpuCopier {
    fn arrangement(&self) -> Arrangement {
        Arrangement::Panels
    }

    fn lay_out(&self, adapter: &Adapter) -> Result<AdapterImage, AdapterError> {
        let arrangement = self.arrangement();
        AdapterImage::on_base(&self.config, arrangement, adapter, |layer, site| {
            let (outputs, inputs) = site.shape(&self.config);
            let mut rows = vec![0.0; outputs * inputs];
            if let Some(layer) = self.layers.get(layer) {
                let weight = layer.sites[site.index()].view();
                for (row, into) in rows.chunks_exact_mut(inputs).enumerate() {
                    weight.copy_row(row, into);
                }
            }
            Tensor::from_vec(rows, (outputs, inputs), &Device::Cpu)
        })
    }

    fn copy_layer(
        &self,
        image: &AdapterImage,
        pages: &Range<u32>,
        layer: usize,
    ) -> Result<(), StepError> {
        self.arena.copy_layer(image, pages, layer)
    }
}

/// Activations of a step, kept between steps for their memory.
#[derive(Default)]
struct Buffers {
    x: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    heads: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    delta: Vec<f32>,
    /// Of the adapters, for the matrices of one region side by side.
    deltas: Vec<f32>,
    logits: Vec<f32>,
    hidden: Vec<f32>,
    packed: PackedRows,
}

impl CpuBackend {
    /// Lays out the weights and takes memory for `pages` pages; positions go up to `context`.
    ///
    /// # Errors
    /// When a tensor does not have the configuration's shape or is not finite.
    pub fn new(
        config: &ModelConfig,
        weights: Weights,
        pages: u32,
        context: usize,
    ) -> Result<Self, EngineError> {
        let hidden = config.hidden_size;
        let heads = Heads {
            queries: config.num_attention_heads,
            keys: config.num_key_value_heads,
            dim: config.head_dim,
        };
        let embed = matrix("embed_tokens", &weights.embed, config.vocab_size, hidden)?;
        let lm_head = match &weights.lm_head {
            Some(tensor) => Some(matrix("lm_head", tensor, config.vocab_size, hidden)?),
            None => None,
        };
        let norm = vector("norm", &weights.norm, hidden)?;
        let mut layers = Vec::with_capacity(weights.layers.len());
        // By value: a layer's tensors are freed as soon as its panels stand.
        for (i, layer) in weights.layers.into_iter().enumerate() {
            layers.push(Layer::new(config, i, &layer)?);
        }
        if layers.len() != config.num_hidden_layers {
            return Err(EngineError::Weights {
                name: "layers".to_owned(),
                reason: format!("{} of {}", layers.len(), config.num_hidden_layers),
            });
        }
        Ok(Self {
            isa: Isa::detect(),
            heads,
            rope: Rope::new(config, context),
            embed,
            norm,
            lm_head,
            arena: Arc::new(ArenaMemory::new(
                pages as usize,
                layers.len() * layer_words(heads),
            )),
            layers: Arc::new(layers),
            buffers: Buffers::default(),
            config: config.clone(),
        })
    }

    /// Bytes of one page over all layers.
    pub fn page_bytes_of(config: &ModelConfig) -> usize {
        let row = config.num_key_value_heads * config.head_dim;
        2 * config.num_hidden_layers * row * PAGE_TOKENS * size_of::<u32>()
    }
}

impl Layer {
    fn new(config: &ModelConfig, index: usize, layer: &LayerWeights) -> Result<Self, EngineError> {
        let name = |part: &str| format!("layer {index} {part}");
        let site = |site: Site| {
            let (outputs, inputs) = site.shape(config);
            matrix(&name(site.module()), layer.site(site), outputs, inputs)
        };
        let [q, k, v, o, gate, up, down] = Site::ALL.map(site);
        let hidden = config.hidden_size;
        let mut bias = [const { None }; Site::ALL.len()];
        for site in Site::ALL {
            if let Some(tensor) = layer.bias(site) {
                let name = name(&format!("{}.bias", site.module()));
                bias[site.index()] = Some(vector(&name, tensor, site.shape(config).0)?);
            }
        }
        let qk_norm = match &layer.qk_norm {
            None => None,
            Some(norms) => Some([
                vector(&name("self_attn.q_norm"), &norms.q, config.head_dim)?,
                vector(&name("self_attn.k_norm"), &norms.k, config.head_dim)?,
            ]),
        };
        Ok(Self {
            bias,
            qk_norm,
            input_norm: vector(&name("input_layernorm"), &layer.input_norm, hidden)?,
            post_attention_norm: vector(
                &name("post_attention_layernorm"),
                &layer.post_attention_norm,
                hidden,
            )?,
            sites: [q?, k?, v?, o?, gate?, up?, down?],
        })
    }
}

/// The values of a tensor of the checkpoint.
pub(super) fn values(
    name: &str,
    tensor: &Tensor,
    shape: &[usize],
) -> Result<Vec<f32>, EngineError> {
    let refuse = |reason: String| EngineError::Weights {
        name: name.to_owned(),
        reason,
    };
    if tensor.dims() != shape {
        return Err(refuse(format!("shape {:?}, not {shape:?}", tensor.dims())));
    }
    let values = tensor
        .flatten_all()
        .and_then(|t| t.to_vec1::<f32>())
        .map_err(|e| refuse(e.to_string()))?;
    if values.iter().all(|v| v.is_finite()) {
        Ok(values)
    } else {
        Err(refuse("a value is not finite".to_owned()))
    }
}

fn vector(name: &str, tensor: &Tensor, len: usize) -> Result<Vec<f32>, EngineError> {
    values(name, tensor, &[len])
}

fn matrix(
    name: &str,
    tensor: &Tensor,
    outputs: usize,
    inputs: usize,
) -> Result<PanelMatrix, EngineError> {
    let rows = values(name, tensor, &[outputs, inputs])?;
    Ok(PanelMatrix::from_rows(outputs, inputs, &rows))
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        format!("cpu-{}", self.isa.name())
    }

    fn page_bytes(&self) -> usize {
        self.arena.page_words() * size_of::<u32>()
    }

    fn copier(&self) -> Arc<dyn Copier> {
        Arc::new(CpuCopier {
            config: self.config.clone(),
            layers: Arc::clone(&self.layers),
            arena: Arc::clone(&self.arena),
        })
    }

    fn move_page(&mut self, from: u32, to: u32) -> Result<(), StepError> {
        let words = self.arena.page_words();
        let (from, to) = (self.arena.page(from), self.arena.page(to));
        if from != to {
            // SAFETY: between steps, and both pages hold keys and values: the copy thread touches
            // neither.
            let source = unsafe { self.arena.words(from..from + words) };
            // SAFETY: as above; the pages differ.
            unsafe { self.arena.words_mut(to..to + words) }.copy_from_slice(source);
        }
        Ok(())
    }

    fn step(&mut self, batch: &StepBatch) -> Result<StepOutput<'_>, StepError> {
        let Self {
            isa,
            config,
            heads,
            rope,
            embed,
            layers,
            norm,
            lm_head,
            arena,
            buffers: b,
        } = self;
        let (isa, heads) = (*isa, *heads);
        let eps = config.rms_norm_eps as f32;
        let (rows, hidden) = (batch.tokens.len(), config.hidden_size);
        let q_width = heads.queries * heads.dim;
        let kv_width = heads.keys * heads.dim;
        b.x.resize(rows * hidden, 0.0);
        b.normed.resize(rows * hidden, 0.0);
        b.delta.resize(rows * hidden, 0.0);
        b.q.resize(rows * q_width, 0.0);
        b.k.resize(rows * kv_width, 0.0);
        b.v.resize(rows * kv_width, 0.0);
        b.attended.resize(rows * q_width, 0.0);
        b.gate.resize(rows * config.intermediate_size, 0.0);
        b.up.resize(rows * config.intermediate_size, 0.0);

        for (token, row) in batch.tokens.iter().zip(b.x.chunks_exact_mut(hidden)) {
            embed.view().copy_row(*token as usize, row);
        }
        for (index, layer) in layers.iter().enumerate() {
            let pages = LayerPages::new(arena, heads, index);
            let adapters = adapters_of(batch, arena, index)?;
            let deltas = &mut b.deltas;
            let mut linear = |x: &PackedRows, outs: &mut [(Site, &mut [f32])]| {
                linear(isa, layer, index, &adapters, x, deltas, outs);
            };
            rms_norm(isa, &b.x, &layer.input_norm, eps, &mut b.normed);
            b.packed.pack(&b.normed, hidden);
            linear(
                &b.packed,
                &mut [
                    (Site::Q, &mut b.q),
                    (Site::K, &mut b.k),
                    (Site::V, &mut b.v),
                ],
            );
            if let Some([q_norm, k_norm]) = &layer.qk_norm {
                for (heads, norm) in [(&mut b.q, q_norm), (&mut b.k, k_norm)] {
                    b.heads.resize(heads.len(), 0.0);
                    rms_norm(isa, heads, norm, eps, &mut b.heads);
                    std::mem::swap(heads, &mut b.heads);
                }
            }
            rope.rotate(&batch.positions, &mut b.q, heads.queries);
            rope.rotate(&batch.positions, &mut b.k, heads.keys);
            for row in 0..rows {
                let kv = row * kv_width..(row + 1) * kv_width;
                let table = &batch.tables[batch.sequences[row] as usize];
                let position = batch.positions[row] as usize;
                // SAFETY: the page is this sequence's, and this thread's alone until attention.
                unsafe { pages.write(table, position, &b.k[kv.clone()], &b.v[kv]) };
            }
            attend_all(isa, heads, batch, pages, &b.q, &mut b.attended);
            b.packed.pack(&b.attended, q_width);
            linear(&b.packed, &mut [(Site::O, &mut b.delta)]);
            add(&mut b.x, &b.delta);

            rms_norm(isa, &b.x, &layer.post_attention_norm, eps, &mut b.normed);
            b.packed.pack(&b.normed, hidden);
            linear(
                &b.packed,
                &mut [(Site::Gate, &mut b.gate), (Site::Up, &mut b.up)],
            );
            silu_mul(isa, &mut b.gate, &b.up);
            b.packed.pack(&b.gate, config.intermediate_size);
            linear(&b.packed, &mut [(Site::Down, &mut b.delta)]);
            add(&mut b.x, &b.delta);
        }

        b.normed.resize(batch.wanted.len() * hidden, 0.0);
        b.hidden.resize(batch.embedded.len() * hidden, 0.0);
        for (rows, normed) in [
            (&batch.wanted, &mut b.normed),
            (&batch.embedded, &mut b.hidden),
        ] {
            for (row, out) in rows.iter().zip(normed.chunks_exact_mut(hidden)) {
                let row = *row as usize;
                rms_norm(isa, &b.x[row * hidden..(row + 1) * hidden], norm, eps, out);
            }
        }
        b.packed.pack(&b.normed, hidden);
        b.logits.resize(batch.wanted.len() * config.vocab_size, 0.0);
        let product = Product {
            weights: lm_head.as_ref().unwrap_or(embed).view(),
            out: &mut b.logits,
        };
        // SAFETY: no pairs.
        unsafe { multiply_all(isa, &b.packed, &mut [product], &[]) };
        Ok(StepOutput {
            logits: &b.logits,
            hidden: &b.hidden,
        })
    }
}

/// An adapter's rows in the step, with its words.
struct AdapterRows<'a> {
    adapter: &'a DeviceAdapter,
    words: &'a [u32],
    first: usize,
    rows: usize,
}

/// The adapters of a step, once their layer `index` has arrived.
fn adapters_of<'a>(
    batch: &'a StepBatch,
    arena: &'a ArenaMemory,
    index: usize,
) -> Result<Vec<AdapterRows<'a>>, StepError> {
    let segments = batch.lora.segments().iter();
    segments
        .filter_map(|segment| {
            let adapter = segment.adapter.as_deref()?;
            let layer = adapter.table.layer_words(index);
            let first = arena.page(adapter.pages.start);
            Some(adapter.wait(index).map(|()| AdapterRows {
                adapter,
                // SAFETY: these words have arrived, and the slab stays as it is while a request of
                // the step uses it.
                words: unsafe { arena.words(first + layer.start..first + layer.end) },
                first: segment.first,
                rows: segment.rows,
            }))
        })
        .collect()
}

/// The frozen products of some matrices that share their argument, and the adapters' deltas on them.
fn linear(
    isa: Isa,
    layer: &Layer,
    index: usize,
    adapters: &[AdapterRows<'_>],
    x: &PackedRows,
    deltas: &mut Vec<f32>,
    outs: &mut [(Site, &mut [f32])],
) {
    let width_of = |site: Site| layer.sites[site.index()].view().outputs();
    let width: usize = outs.iter().map(|(site, _)| width_of(*site)).sum();
    let rows = outs
        .first()
        .map_or(0, |(site, out)| out.len() / width_of(*site));
    if !adapters.is_empty() && deltas.len() < rows * width {
        deltas.resize(rows * width, 0.0);
    }
    let shared = SharedRows::new(deltas, width);
    let mut pairs: Vec<LoraTask<'_>> = Vec::new();
    for used in adapters {
        let table = &used.adapter.table;
        // Places count from the adapter's first word, `words` from the layer's.
        let start = table.layer_words(index).start;
        let mut column = 0;
        for (site, _) in outs.iter() {
            if let Some(pair) = table.site(index, *site) {
                let (a, b) = (
                    pair.a.view(start, used.words),
                    pair.b.view(start, used.words),
                );
                pairs.extend(x.tiles(used.first, used.rows).map(|tile| LoraTask {
                    a,
                    b,
                    scale: pair.scale,
                    tile,
                    out: shared,
                    column,
                }));
            }
            column += width_of(*site);
        }
    }
    let mut products: Vec<Product<'_>> = outs
        .iter_mut()
        .map(|(site, out)| Product {
            weights: layer.sites[site.index()].view(),
            out,
        })
        .collect();
    // SAFETY: pairs differ in their matrix's columns or in their rows.
    unsafe { multiply_all(isa, x, &mut products, &pairs) };

    for used in adapters {
        let table = &used.adapter.table;
        let start = table.layer_words(index).start;
        let mut column = 0;
        for (site, out) in outs.iter_mut() {
            let outputs = width_of(*site);
            if let Some(pair) = table.site(index, *site) {
                let gain = pair.gain(start, used.words);
                for row in used.first..used.first + used.rows {
                    let delta = &deltas[row * width + column..][..outputs];
                    add_delta(&mut out[row * outputs..][..outputs], delta, gain);
                }
            }
            column += outputs;
        }
    }
    for (site, out) in outs {
        if let Some(bias) = &layer.bias[site.index()] {
            out.chunks_exact_mut(bias.len())
                .for_each(|row| add(row, bias));
        }
    }
}

/// Adds a delta to a row, which is multiplied by the gain before if there is one. Not fused: plain Rust
/// has the same bits on every target.
fn add_delta(row: &mut [f32], delta: &[f32], gain: Option<&[f32]>) {
    match gain {
        None => add(row, delta),
        Some(gain) => {
            for ((to, delta), gain) in row.iter_mut().zip(delta).zip(gain) {
                *to = *to * gain + delta;
            }
        }
    }
}

fn attend_all(
    isa: Isa,
    heads: Heads,
    batch: &StepBatch,
    pages: LayerPages<'_>,
    q: &[f32],
    out: &mut [f32],
) {
    let group = heads.queries / heads.keys * heads.dim;
    let width = heads.queries * heads.dim;
    let shared = SharedRows::new(out, width);
    let run = |scores: &mut Vec<f32>, task: usize| {
        let (row, head) = (task / heads.keys, task % heads.keys);
        let table = &batch.tables[batch.sequences[row] as usize];
        let len = batch.positions[row] as usize + 1;
        let q = &q[row * width + head * group..][..group];
        // SAFETY: a task owns its row's columns of this head group.
        let out = unsafe { shared.part(row, head * group, group) };
        // SAFETY: the step has written its keys and values; nobody writes until attention is done.
        unsafe { pages.attend(isa, table, len, head, q, scores, out) };
    };
    let tasks = batch.tokens.len() * heads.keys;
    let tokens: usize = batch.positions.iter().map(|p| *p as usize + 1).sum();
    if 2 * tokens * width < SERIAL_ATTENTION {
        let mut scores = Vec::new();
        (0..tasks).for_each(|task| run(&mut scores, task));
    } else {
        (0..tasks)
            .into_par_iter()
            .with_min_len(heads.keys)
            .for_each_init(Vec::new, run);
    }
}
