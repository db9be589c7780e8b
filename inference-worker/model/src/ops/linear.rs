//! A linear layer without bias: `y = x Wᵀ`.

use candle_core::{bail, CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::gemm::{product, Matrix, Threads};
use super::view::{slice, tensor, values};

/// `x [.., in]` times the transpose of `weight [out, in]`: `[.., out]`.
///
/// The gradient of a frozen `x` or `weight` is never computed: for a frozen weight the backward
/// pass is `dY W` alone.
pub(crate) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&weight.contiguous()?, Linear)
}

struct Linear;

/// `(rows, in, out)` of a product whose operands have these shapes.
pub(super) fn dims(x: &[usize], weight: &[usize]) -> Result<(usize, usize, usize)> {
    match (x, weight) {
        ([.., x_in], &[out, w_in]) if *x_in == w_in && w_in > 0 => {
            Ok((x.iter().product::<usize>() / w_in, w_in, out))
        }
        _ => bail!("linear: {x:?} does not fit weight {weight:?}"),
    }
}

/// The shape of `x` with its last dimension replaced.
pub(super) fn with_last(x: &Shape, last: usize) -> Shape {
    let mut dims = x.dims().to_vec();
    if let Some(end) = dims.last_mut() {
        *end = last;
    }
    Shape::from(dims)
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inner, out) = dims(x_layout.dims(), w_layout.dims())?;
        let x = Matrix::new(slice(x, x_layout)?, rows, inner);
        let w = Matrix::new(slice(w, w_layout)?, out, inner);
        let mut y = vec![0f32; rows * out];
        product(&mut y, out, false, 1.0, x, w.t(), Threads::All);
        Ok((CpuStorage::F32(y), with_last(x_layout.shape(), out)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, inner, out) = dims(x.dims(), w.dims())?;
        let dy = dy.contiguous()?;
        let (dy_guard, dy_layout) = dy.storage_and_layout();
        let dy = Matrix::new(values(&dy_guard, dy_layout)?, rows, out);
        let dx = if x.track_op() {
            let (guard, layout) = w.storage_and_layout();
            let w = Matrix::new(values(&guard, layout)?, out, inner);
            let mut dx = vec![0f32; rows * inner];
            product(&mut dx, inner, false, 1.0, dy, w, Threads::All);
            Some(tensor(dx, x.shape())?)
        } else {
            None
        };
        let dw = if w.track_op() {
            let (guard, layout) = x.storage_and_layout();
            let x = Matrix::new(values(&guard, layout)?, rows, inner);
            let mut dw = vec![0f32; out * inner];
            product(&mut dw, inner, false, 1.0, dy.t(), x, Threads::All);
            Some(tensor(dw, w.shape())?)
        } else {
            None
        };
        Ok((dx, dw))
    }
}
