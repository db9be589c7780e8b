//! Causal self-attention with rotary positions, over grouped heads.
//!
//! The scores of a block of queries live in one small buffer; the backward pass computes them
//! again rather than keeping `[heads, seq, seq]` of every layer (as FlashAttention does).

use std::sync::Arc;

use candle_core::{bail, CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::gemm::{product, Matrix, Threads};
use super::math::{dot, exp_sum, max};
use super::view::{slice, tensor, values};

/// Queries whose scores are held at once.
const BLOCK: usize = 64;

/// The heads, and the rotary tables `[seq, head_dim / 2]` of at least the sequence's length.
#[derive(Clone)]
pub(crate) struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Cosines.
    pub cos: Arc<Vec<f32>>,
    /// Sines.
    pub sin: Arc<Vec<f32>>,
}

/// Attends within each sequence: `q [batch, seq, heads * head_dim]`, `k` and `v`
/// `[batch, seq, kv_heads * head_dim]`, none of them rotated yet; returns the shape of `q`.
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &AttentionShape,
) -> Result<Tensor> {
    let op = Attention(shape.clone());
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

struct Attention(AttentionShape);

/// Buffers of one task.
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    scores: Vec<f32>,
    dscores: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
}

impl Attention {
    /// `(batch, seq)`, with every shape checked.
    fn dims(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<(usize, usize)> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            cos,
            sin,
        } = &self.0;
        let &[batch, seq, width] = q else {
            bail!("attention: q has shape {q:?}")
        };
        let kv = [batch, seq, kv_heads * head_dim];
        if width != heads * head_dim || k != kv || v != kv || heads % kv_heads != 0 || seq == 0 {
            bail!("attention: q {q:?}, k {k:?} and v {v:?} do not fit {heads}/{kv_heads} heads of {head_dim}");
        }
        if cos.len() < seq * head_dim / 2 || sin.len() != cos.len() {
            bail!("attention: the rotary tables are shorter than the sequence of {seq}");
        }
        Ok((batch, seq))
    }

    fn scratch(&self, seq: usize) -> Scratch {
        let head = vec![0f32; seq * self.0.head_dim];
        Scratch {
            q: head.clone(),
            k: head.clone(),
            dq: head.clone(),
            dk: head,
            scores: vec![0f32; BLOCK.min(seq) * seq],
            dscores: vec![0f32; BLOCK.min(seq) * seq],
        }
    }

    /// Rotates head `head` of `from [seq, stride]` into `to [seq, head_dim]`, scaled.
    fn rotate(&self, from: &[f32], stride: usize, head: usize, scale: f32, to: &mut [f32]) {
        let dim = self.0.head_dim;
        let tables = self
            .0
            .cos
            .chunks_exact(dim / 2)
            .zip(self.0.sin.chunks_exact(dim / 2));
        let rows = from.chunks_exact(stride).zip(to.chunks_exact_mut(dim));
        for ((from, to), (cos, sin)) in rows.zip(tables) {
            let (x, y) = from[head * dim..(head + 1) * dim].split_at(dim / 2);
            let (to_x, to_y) = to.split_at_mut(dim / 2);
            for j in 0..dim / 2 {
                to_x[j] = scale * (x[j] * cos[j] - y[j] * sin[j]);
                to_y[j] = scale * (y[j] * cos[j] + x[j] * sin[j]);
            }
        }
    }

    /// Rotates `from [seq, head_dim]` back into head `head` of `to [seq, stride]`.
    fn rotate_back(&self, from: &[f32], stride: usize, head: usize, to: &mut [f32]) {
        let dim = self.0.head_dim;
        let tables = self
            .0
            .cos
            .chunks_exact(dim / 2)
            .zip(self.0.sin.chunks_exact(dim / 2));
        let rows = from.chunks_exact(dim).zip(to.chunks_exact_mut(stride));
        for ((from, to), (cos, sin)) in rows.zip(tables) {
            let (x, y) = from.split_at(dim / 2);
            let (to_x, to_y) = to[head * dim..(head + 1) * dim].split_at_mut(dim / 2);
            for j in 0..dim / 2 {
                to_x[j] = x[j] * cos[j] + y[j] * sin[j];
                to_y[j] = y[j] * cos[j] - x[j] * sin[j];
            }
        }
    }

    /// Fills `scores [end - start, end]` with the weights of queries `start..end` over the keys up
    /// to each; zero beyond.
    fn weights(&self, q: &[f32], k: &[f32], start: usize, end: usize, scores: &mut [f32]) {
        let dim = self.0.head_dim;
        let queries = Matrix::new(&q[start * dim..end * dim], end - start, dim);
        let keys = Matrix::new(&k[..end * dim], end, dim);
        product(scores, end, false, 1.0, queries, keys.t(), Threads::One);
        for (query, row) in scores.chunks_exact_mut(end).enumerate() {
            let (seen, unseen) = row.split_at_mut(start + query + 1);
            let sum = exp_sum(seen, max(seen));
            let inverse = 1.0 / sum;
            for weight in seen {
                *weight *= inverse;
            }
            unseen.fill(0.0);
        }
    }

    fn blocks(seq: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..seq)
            .step_by(BLOCK)
            .map(move |start| (start, (start + BLOCK).min(seq)))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.0.head_dim as f32).sqrt()
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, seq) = self.dims(q_layout.dims(), k_layout.dims(), v_layout.dims())?;
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.0;
        let (q, k, v) = (
            slice(q, q_layout)?,
            slice(k, k_layout)?,
            slice(v, v_layout)?,
        );
        let (width, kv_width, group) = (heads * head_dim, kv_heads * head_dim, heads / kv_heads);
        let mut out = vec![0f32; q.len()];
        out.par_chunks_mut(seq * width)
            .zip(q.par_chunks(seq * width))
            .zip(k.par_chunks(seq * kv_width))
            .zip(v.par_chunks(seq * kv_width))
            .for_each_init(
                || self.scratch(seq),
                |scratch, (((out, q), k), v)| {
                    for head in 0..heads {
                        let kv_head = head / group;
                        if head % group == 0 {
                            self.rotate(k, kv_width, kv_head, 1.0, &mut scratch.k);
                        }
                        self.rotate(q, width, head, self.scale(), &mut scratch.q);
                        for (start, end) in Self::blocks(seq) {
                            let scores = &mut scratch.scores[..(end - start) * end];
                            self.weights(&scratch.q, &scratch.k, start, end, scores);
                            product(
                                &mut out[start * width + head * head_dim..],
                                width,
                                false,
                                1.0,
                                Matrix::new(scores, end - start, end),
                                Matrix::strided(&v[kv_head * head_dim..], end, head_dim, kv_width),
                                Threads::One,
                            );
                        }
                    }
                },
            );
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _out: &Tensor,
        dout: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, seq) = self.dims(q.dims(), k.dims(), v.dims())?;
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.0;
        let (width, kv_width, group) = (heads * head_dim, kv_heads * head_dim, heads / kv_heads);
        let dout = dout.contiguous()?;
        let (q_guard, q_layout) = q.storage_and_layout();
        let (k_guard, k_layout) = k.storage_and_layout();
        let (v_guard, v_layout) = v.storage_and_layout();
        let (dout_guard, dout_layout) = dout.storage_and_layout();
        let q_values = values(&q_guard, q_layout)?;
        let k_values = values(&k_guard, k_layout)?;
        let v_values = values(&v_guard, v_layout)?;
        let dout_values = values(&dout_guard, dout_layout)?;
        let mut dq = vec![0f32; q_values.len()];
        let mut dk = vec![0f32; k_values.len()];
        let mut dv = vec![0f32; v_values.len()];
        let ins = q_values
            .par_chunks(seq * width)
            .zip(k_values.par_chunks(seq * kv_width))
            .zip(v_values.par_chunks(seq * kv_width))
            .zip(dout_values.par_chunks(seq * width));
        dq.par_chunks_mut(seq * width)
            .zip(dk.par_chunks_mut(seq * kv_width))
            .zip(dv.par_chunks_mut(seq * kv_width))
            .zip(ins)
            .for_each_init(
                || self.scratch(seq),
                |scratch, (((dq, dk), dv), (((q, k), v), dout))| {
                    for head in 0..heads {
                        let kv_head = head / group;
                        if head % group == 0 {
                            self.rotate(k, kv_width, kv_head, 1.0, &mut scratch.k);
                            scratch.dk.fill(0.0);
                        }
                        self.rotate(q, width, head, self.scale(), &mut scratch.q);
                        for (start, end) in Self::blocks(seq) {
                            let rows = end - start;
                            let scores = &mut scratch.scores[..rows * end];
                            let dscores = &mut scratch.dscores[..rows * end];
                            self.weights(&scratch.q, &scratch.k, start, end, scores);
                            let dout = Matrix::strided(
                                &dout[start * width + head * head_dim..],
                                rows,
                                head_dim,
                                width,
                            );
                            let v =
                                Matrix::strided(&v[kv_head * head_dim..], end, head_dim, kv_width);
                            let weights = Matrix::new(scores, rows, end);
                            product(
                                &mut dv[kv_head * head_dim..],
                                kv_width,
                                true,
                                1.0,
                                weights.t(),
                                dout,
                                Threads::One,
                            );
                            product(dscores, end, false, 1.0, dout, v.t(), Threads::One);
                            for (row, drow) in
                                scores.chunks_exact(end).zip(dscores.chunks_exact_mut(end))
                            {
                                let pull = dot(row, drow);
                                for (dscore, weight) in drow.iter_mut().zip(row) {
                                    *dscore = weight * (*dscore - pull);
                                }
                            }
                            let dscores = Matrix::new(dscores, rows, end);
                            let keys = Matrix::new(&scratch.k[..end * head_dim], end, head_dim);
                            let queries = Matrix::new(
                                &scratch.q[start * head_dim..end * head_dim],
                                rows,
                                head_dim,
                            );
                            product(
                                &mut scratch.dq[start * head_dim..end * head_dim],
                                head_dim,
                                false,
                                self.scale(),
                                dscores,
                                keys,
                                Threads::One,
                            );
                            product(
                                &mut scratch.dk,
                                head_dim,
                                true,
                                1.0,
                                dscores.t(),
                                queries,
                                Threads::One,
                            );
                        }
                        self.rotate_back(&scratch.dq, width, head, dq);
                        if head % group == group - 1 {
                            self.rotate_back(&scratch.dk, kv_width, kv_head, dk);
                        }
                    }
                },
            );
        Ok((
            Some(tensor(dq, q.shape())?),
            Some(tensor(dk, k.shape())?),
            Some(tensor(dv, v.shape())?),
        ))
    }
}
