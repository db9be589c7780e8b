//! One step of one rank: the rows of a batch through its part of the decoder.

use super::arena::ArenaMemory;
use super::attention::{Heads, LayerPages};
use super::gemm::{multiply_all, PackedRows, Product, SharedRows};
use super::kernels::Isa;
use super::layer::Layer;
use super::linear::{adapters_of, linear};
use super::math::{add, rms_norm, silu_mul};
use super::matrix::BaseMatrix;
use super::rope::Rope;
use crate::backend::parallel::{CommunicatorError, Gather, Shard};
use crate::backend::StepBatch;
use crate::error::StepError;
use crate::panels::LANES;
use openledger_model::{ModelConfig, Site};
use rayon::prelude::*;
use std::sync::Arc;

/// Multiply-adds of attention below which other threads are not asked.
const SERIAL_ATTENTION: usize = 1_000_000;

/// What all ranks share: what is small, and what is read row by row or in panels of its own.
pub(super) struct Shared {
    pub isa: Isa,
    /// Of the whole model.
    pub config: ModelConfig,
    pub rope: Rope,
    pub embed: BaseMatrix,
    pub norm: Vec<f32>,
    pub lm_head: Option<BaseMatrix>,
}

/// A rank with its part of the layers and its arena.
pub(super) struct Rank {
    pub shard: Shard,
    /// Of the part.
    pub config: ModelConfig,
    pub heads: Heads,
    pub layers: Arc<Vec<Layer>>,
    pub arena: Arc<ArenaMemory>,
    pub buffers: Buffers,
}

/// Activations of a step, kept between steps for their memory.
#[derive(Default)]
pub(super) struct Buffers {
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
    part: Vec<f32>,
    gathered: Vec<f32>,
    packed: PackedRows,
    /// Logits `[wanted, vocabulary]`; rank 0 has them.
    pub logits: Vec<f32>,
    /// Hidden states `[embedded, hidden]`; every rank has them.
    pub hidden: Vec<f32>,
}

/// A communicator's failure, as that of a step.
fn lost(error: CommunicatorError) -> StepError {
    StepError::Backend(error.to_string())
}

impl Rank {
    /// Computes the batch together with the other ranks. The logits and hidden states are in the
    /// buffers afterwards.
    ///
    /// # Errors
    /// When a copy of an adapter broke off, or another rank gave up.
    pub fn step(
        &mut self,
        shared: &Shared,
        batch: &StepBatch,
        ranks: &impl Gather<Buffer = [f32]>,
    ) -> Result<(), StepError> {
        let Self {
            shard,
            config,
            heads,
            layers,
            arena,
            buffers: b,
        } = self;
        let Shared {
            isa,
            rope,
            embed,
            norm,
            ..
        } = shared;
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
            let adapters = adapters_of(batch, arena, shard.rank(), index)?;
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
            ranks.all_reduce(&mut b.delta).map_err(lost)?;
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
            ranks.all_reduce(&mut b.delta).map_err(lost)?;
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
        self.logits(shared, batch.wanted.len(), ranks)
    }

    /// The logits of the packed rows: every rank computes some panels of the vocabulary.
    fn logits(
        &mut self,
        shared: &Shared,
        wanted: usize,
        ranks: &impl Gather<Buffer = [f32]>,
    ) -> Result<(), StepError> {
        let (isa, b) = (shared.isa, &mut self.buffers);
        let weights = shared.lm_head.as_ref().unwrap_or(&shared.embed).view();
        let vocabulary = shared.config.vocab_size;
        if ranks.ranks() == 1 {
            b.logits.resize(wanted * vocabulary, 0.0);
            let product = Product::whole(weights, &mut b.logits);
            // SAFETY: no pairs.
            unsafe { multiply_all(isa, &b.packed, &mut [product], &[]) };
            return Ok(());
        }
        // A part begins with its own columns; the last ones are filled up to the length of the others.
        let panels = self.shard.vocabulary(&shared.config);
        let columns = self.shard.tokens(&shared.config).len();
        let width = self.shard.vocabulary_panels(&shared.config) * LANES;
        b.part.clear();
        b.part.resize(wanted * width, 0.0);
        let product = Product::of_panels(weights, panels, &mut b.part[..wanted * columns]);
        // SAFETY: no pairs.
        unsafe { multiply_all(isa, &b.packed, &mut [product], &[]) };
        b.gathered.resize(wanted * width * ranks.ranks(), 0.0);
        ranks.all_gather(&b.part, &mut b.gathered).map_err(lost)?;
        if ranks.rank() > 0 || wanted == 0 {
            return Ok(());
        }
        b.logits.resize(wanted * vocabulary, 0.0);
        for (rank, part) in b.gathered.chunks_exact(wanted * width).enumerate() {
            let first = (rank * width).min(vocabulary);
            let columns = width.min(vocabulary - first);
            for row in 0..wanted {
                b.logits[row * vocabulary + first..][..columns]
                    .copy_from_slice(&part[row * columns..][..columns]);
            }
        }
        Ok(())
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
