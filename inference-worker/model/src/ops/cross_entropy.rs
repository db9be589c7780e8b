//! Cross-entropy of logits against target tokens.

use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{exp_sum, max};
use super::rows_per_task;
use super::view::{slice, tensor, values};

/// `Σ weight · nll` over the rows of `logits [rows, vocab]`, a scalar.
///
/// Rows of weight zero cost nothing and get no gradient.
pub(crate) fn cross_entropy(
    logits: &Tensor,
    targets: Vec<u32>,
    weights: Vec<f32>,
) -> Result<Tensor> {
    logits
        .contiguous()?
        .apply_op1(CrossEntropy { targets, weights })
}

/// Negative log-likelihood of each target, nats; of the rows of `logits [rows, vocab]`.
pub(crate) fn negative_log_likelihoods(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let logits = logits.contiguous()?;
    let (guard, layout) = logits.storage_and_layout();
    let vocab = width(layout, targets)?;
    let logits = values(&guard, layout)?;
    Ok(logits
        .par_chunks_exact(vocab)
        .zip(targets)
        .map_init(Vec::new, |scratch, (row, target)| {
            nll(row, *target, scratch)
        })
        .collect())
}

struct CrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
}

/// Width of the rows, checked against the targets.
fn width(layout: &Layout, targets: &[u32]) -> Result<usize> {
    let &[rows, vocab] = layout.dims() else {
        bail!(
            "cross-entropy: logits have shape {:?}, not [rows, vocab]",
            layout.dims()
        )
    };
    if rows != targets.len() || vocab == 0 {
        bail!(
            "cross-entropy: {} targets for logits {:?}",
            targets.len(),
            layout.dims()
        );
    }
    if let Some(target) = targets.iter().find(|target| **target as usize >= vocab) {
        bail!("cross-entropy: target {target} is beyond the vocabulary of {vocab}");
    }
    Ok(vocab)
}

fn nll(row: &[f32], target: u32, scratch: &mut Vec<f32>) -> f32 {
    scratch.clear();
    scratch.extend_from_slice(row);
    let top = max(row);
    let sum = exp_sum(scratch, top);
    sum.ln() + top - row[target as usize]
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let vocab = width(layout, &self.targets)?;
        if self.weights.len() != self.targets.len() {
            bail!(
                "cross-entropy: {} weights, {} targets",
                self.weights.len(),
                self.targets.len()
            );
        }
        let losses: Vec<f32> = slice(logits, layout)?
            .par_chunks_exact(vocab)
            .zip(&self.targets)
            .zip(&self.weights)
            .map_init(Vec::new, |scratch, ((row, target), weight)| {
                if *weight == 0.0 {
                    0.0
                } else {
                    weight * nll(row, *target, scratch)
                }
            })
            .collect();
        let total: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
        Ok((CpuStorage::F32(vec![total as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.to_scalar::<f32>()?;
        let (guard, layout) = logits.storage_and_layout();
        let vocab = width(layout, &self.targets)?;
        let mut out = vec![0f32; self.targets.len() * vocab];
        let rows = rows_per_task(vocab);
        out.par_chunks_mut(rows * vocab)
            .zip(values(&guard, layout)?.par_chunks(rows * vocab))
            .zip(self.targets.par_chunks(rows))
            .zip(self.weights.par_chunks(rows))
            .for_each(|(((out, logits), targets), weights)| {
                let rows = out.chunks_exact_mut(vocab).zip(logits.chunks_exact(vocab));
                for ((out, row), (target, weight)) in rows.zip(targets.iter().zip(weights)) {
                    if *weight == 0.0 {
                        continue;
                    }
                    out.copy_from_slice(row);
                    let sum = exp_sum(out, max(row));
                    let factor = grad * weight;
                    for value in out.iter_mut() {
                        *value *= factor / sum;
                    }
                    out[*target as usize] -= factor;
                }
            });
        Ok(Some(tensor(out, logits.shape())?))
    }
}
