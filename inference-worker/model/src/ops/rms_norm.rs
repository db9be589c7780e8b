//! Root-mean-square norm: each row divided by the root of its mean square, times a scale.

use candle_core::{bail, CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::dot;
use super::rows_per_task;
use super::view::{slice, tensor, values};

/// Normalises the rows of `x [.., width]` and multiplies them by `scale [width]`.
pub(crate) fn rms_norm(x: &Tensor, scale: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?
        .apply_op2(&scale.contiguous()?, RmsNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

impl RmsNorm {
    /// One over the root of the row's mean square.
    #[inline(always)]
    fn inverse(&self, row: &[f32]) -> f32 {
        1.0 / (dot(row, row) / row.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, scale) = (slice(x, x_layout)?, slice(scale, scale_layout)?);
        let width = scale.len();
        if width == 0 || x_layout.dims().last() != Some(&width) {
            bail!(
                "rms-norm: {:?} does not fit scale of {width}",
                x_layout.dims()
            );
        }
        let mut y = vec![0f32; x.len()];
        let task = rows_per_task(width) * width;
        y.par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .for_each(|(y, x)| {
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let inverse = self.inverse(x);
                    for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                        *y = x * inverse * scale;
                    }
                }
            });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (x_guard, x_layout) = x.storage_and_layout();
        let (scale_guard, scale_layout) = scale.storage_and_layout();
        let (dy_guard, dy_layout) = dy.storage_and_layout();
        let x_values = values(&x_guard, x_layout)?;
        let scale_values = values(&scale_guard, scale_layout)?;
        let dy_values = values(&dy_guard, dy_layout)?;
        let width = scale_values.len();
        let task = rows_per_task(width) * width;

        let dx = if x.track_op() {
            let mut dx = vec![0f32; x_values.len()];
            dx.par_chunks_mut(task)
                .zip(x_values.par_chunks(task))
                .zip(dy_values.par_chunks(task))
                .for_each(|((dx, x), dy)| {
                    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
                    for (dx, (x, dy)) in dx.chunks_exact_mut(width).zip(rows) {
                        let inverse = self.inverse(x);
                        for ((dx, dy), scale) in dx.iter_mut().zip(dy).zip(scale_values) {
                            *dx = dy * scale;
                        }
                        let pull = dot(dx, x) * inverse * inverse / width as f32;
                        for (dx, x) in dx.iter_mut().zip(x) {
                            *dx = inverse * (*dx - x * pull);
                        }
                    }
                });
            Some(tensor(dx, x.shape())?)
        } else {
            None
        };
        let dscale = if scale.track_op() {
            // Partial sums per task, added in order: the result does not depend on the threads.
            let partial: Vec<Vec<f32>> = x_values
                .par_chunks(task)
                .zip(dy_values.par_chunks(task))
                .map(|(x, dy)| {
                    let mut sums = vec![0f32; width];
                    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
                        let inverse = self.inverse(x);
                        for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
                            *sum += dy * x * inverse;
                        }
                    }
                    sums
                })
                .collect();
            let mut sums = vec![0f32; width];
            for part in partial {
                for (sum, part) in sums.iter_mut().zip(part) {
                    *sum += part;
                }
            }
            Some(tensor(sums, scale.shape())?)
        } else {
            None
        };
        Ok((dx, dscale))
    }
}
