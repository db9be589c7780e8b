//! Differentiable operations with hand-written backward passes, f32 on the CPU.
//!
//! candle's own backward pass of a matrix product computes the gradients of both sides, and its
//! fused norms and softmax have none; a training step built from its basic operations spends most
//! of its time moving intermediate results. Each operation here is one pass over memory, spread
//! over the threads of rayon, and computes only the gradients that somebody asked for.

mod attention;
mod cross_entropy;
mod dora;
mod gemm;
mod linear;
mod lora;
mod math;
mod rms_norm;
mod swiglu;
mod view;

pub(crate) use attention::{attention, AttentionShape};
pub(crate) use cross_entropy::{cross_entropy, negative_log_likelihoods};
pub(crate) use dora::{low_rank_sum, row_lengths};
pub(crate) use linear::linear;
pub(crate) use lora::lora_linear;
pub(crate) use rms_norm::rms_norm;
pub(crate) use swiglu::swiglu;

/// Rows that one task of a row-wise operation takes, for rows of `width` values: enough work to be
/// worth handing over.
fn rows_per_task(width: usize) -> usize {
    (16_384 / width.max(1)).max(1)
}
