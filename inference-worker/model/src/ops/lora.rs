//! A frozen linear layer with a low-rank change: `y = x Wᵀ + scale (x Aᵀ) Bᵀ`.

use candle_core::{bail, CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::gemm::{product, Matrix, Threads};
use super::linear::{dims, linear, with_last};
use super::view::{slice, tensor, values};

/// `x [.., in]` through `weight [out, in]` and the pair `a [r, in]`, `b [out, r]`: `[.., out]`.
pub(crate) fn lora_linear(
    x: &Tensor,
    weight: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f32,
) -> Result<Tensor> {
    if weight.track_op() {
        let delta = linear(&linear(x, a)?, b)?;
        return linear(x, weight)? + (delta * f64::from(scale))?;
    }
    let op = LoraLinear {
        weight: weight.contiguous()?,
        scale,
    };
    x.contiguous()?
        .apply_op3(&a.contiguous()?, &b.contiguous()?, op)
}

struct LoraLinear {
    weight: Tensor,
    scale: f32,
}

/// Sizes of one application.
struct Sizes {
    rows: usize,
    inner: usize,
    rank: usize,
    out: usize,
}

impl LoraLinear {
    fn sizes(&self, x: &[usize], a: &[usize], b: &[usize]) -> Result<Sizes> {
        let (rows, inner, out) = dims(x, self.weight.dims())?;
        match (a, b) {
            (&[rank, a_in], &[b_out, b_rank])
                if a_in == inner && b_out == out && rank == b_rank =>
            {
                Ok(Sizes {
                    rows,
                    inner,
                    rank,
                    out,
                })
            }
            _ => bail!(
                "lora: {a:?} and {b:?} do not fit weight {:?}",
                self.weight.dims()
            ),
        }
    }
}

impl CustomOp3 for LoraLinear {
    fn name(&self) -> &'static str {
        "lora-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Sizes {
            rows,
            inner,
            rank,
            out,
        } = self.sizes(x_layout.dims(), a_layout.dims(), b_layout.dims())?;
        let (w_guard, w_layout) = self.weight.storage_and_layout();
        let x = Matrix::new(slice(x, x_layout)?, rows, inner);
        let w = Matrix::new(values(&w_guard, w_layout)?, out, inner);
        let a = Matrix::new(slice(a, a_layout)?, rank, inner);
        let b = Matrix::new(slice(b, b_layout)?, out, rank);
        let mut low = vec![0f32; rows * rank];
        product(&mut low, rank, false, self.scale, x, a.t(), Threads::All);
        let mut y = vec![0f32; rows * out];
        product(&mut y, out, false, 1.0, x, w.t(), Threads::All);
        product(
            &mut y,
            out,
            true,
            1.0,
            Matrix::new(&low, rows, rank),
            b.t(),
            Threads::All,
        );
        Ok((CpuStorage::F32(y), with_last(x_layout.shape(), out)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Sizes {
            rows,
            inner,
            rank,
            out,
        } = self.sizes(x.dims(), a.dims(), b.dims())?;
        let dy = dy.contiguous()?;
        let (dy_guard, dy_layout) = dy.storage_and_layout();
        let (x_guard, x_layout) = x.storage_and_layout();
        let (a_guard, a_layout) = a.storage_and_layout();
        let (b_guard, b_layout) = b.storage_and_layout();
        let (w_guard, w_layout) = self.weight.storage_and_layout();
        let dy = Matrix::new(values(&dy_guard, dy_layout)?, rows, out);
        let x_matrix = Matrix::new(values(&x_guard, x_layout)?, rows, inner);
        let a_matrix = Matrix::new(values(&a_guard, a_layout)?, rank, inner);
        let b_matrix = Matrix::new(values(&b_guard, b_layout)?, out, rank);
        let w_matrix = Matrix::new(values(&w_guard, w_layout)?, out, inner);

        // The gradient of x Aᵀ, scaled; of use to both A and x.
        let mut dlow = vec![0f32; rows * rank];
        if a.track_op() || x.track_op() {
            product(
                &mut dlow,
                rank,
                false,
                self.scale,
                dy,
                b_matrix,
                Threads::All,
            );
        }
        let dlow = Matrix::new(&dlow, rows, rank);
        let dx = if x.track_op() {
            let mut dx = vec![0f32; rows * inner];
            product(&mut dx, inner, false, 1.0, dy, w_matrix, Threads::All);
            product(&mut dx, inner, true, 1.0, dlow, a_matrix, Threads::All);
            Some(tensor(dx, x.shape())?)
        } else {
            None
        };
        let da = if a.track_op() {
            let mut da = vec![0f32; rank * inner];
            product(&mut da, inner, false, 1.0, dlow.t(), x_matrix, Threads::All);
            Some(tensor(da, a.shape())?)
        } else {
            None
        };
        let db = if b.track_op() {
            // Cheaper to compute again than to keep for every site of every layer.
            let mut low = vec![0f32; rows * rank];
            product(
                &mut low,
                rank,
                false,
                self.scale,
                x_matrix,
                a_matrix.t(),
                Threads::All,
            );
            let mut db = vec![0f32; out * rank];
            let low = Matrix::new(&low, rows, rank);
            product(&mut db, rank, false, 1.0, dy.t(), low, Threads::All);
            Some(tensor(db, b.shape())?)
        } else {
            None
        };
        Ok((dx, da, db))
    }
}
