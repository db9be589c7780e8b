//! The changed weight of a low-rank adapter and the lengths of its rows; constants to autograd.

use candle_core::{bail, Result, Tensor};
use rayon::prelude::*;

use super::gemm::{product, Matrix, Threads};
use super::rows_per_task;
use super::view::{tensor, values};

/// `weight + scale · B A` of `weight [out, in]`, `a [r, in]` and `b [out, r]`.
pub(crate) fn low_rank_sum(weight: &Tensor, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let (rank, a_inner) = a.dims2()?;
    if a_inner != inner || b.dims() != [out, rank] {
        bail!(
            "lora: {:?} and {:?} do not fit weight {:?}",
            a.dims(),
            b.dims(),
            weight.dims()
        );
    }
    let (weight, a, b) = (weight.contiguous()?, a.contiguous()?, b.contiguous()?);
    let (w_guard, w_layout) = weight.storage_and_layout();
    let (a_guard, a_layout) = a.storage_and_layout();
    let (b_guard, b_layout) = b.storage_and_layout();
    let mut sum = values(&w_guard, w_layout)?.to_vec();
    let a = Matrix::new(values(&a_guard, a_layout)?, rank, inner);
    let b = Matrix::new(values(&b_guard, b_layout)?, out, rank);
    product(&mut sum, inner, true, scale, b, a, Threads::All);
    tensor(sum, (out, inner))
}

/// Euclidean length of each row of `matrix [rows, width]`: `[rows]`.
pub(crate) fn row_lengths(matrix: &Tensor) -> Result<Tensor> {
    let (rows, width) = matrix.dims2()?;
    let matrix = matrix.contiguous()?;
    let (guard, layout) = matrix.storage_and_layout();
    let mut lengths = vec![0f32; rows];
    let task = rows_per_task(width);
    lengths
        .par_chunks_mut(task)
        .zip(values(&guard, layout)?.par_chunks(task * width))
        .for_each(|(lengths, rows)| {
            for (length, row) in lengths.iter_mut().zip(rows.chunks_exact(width)) {
                let squares: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
                *length = squares.sqrt() as f32;
            }
        });
    tensor(lengths, rows)
}
