//! The gated activation of the feed-forward layer: `silu(gate) * up`.

use candle_core::{bail, CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::sigmoid;
use super::view::{slice, tensor, values};

/// Values that one task takes.
const TASK: usize = 16_384;

/// `silu(gate) * up`, element by element.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, Swiglu)
}

struct Swiglu;

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if gate_layout.dims() != up_layout.dims() {
            bail!(
                "swiglu: {:?} and {:?} differ",
                gate_layout.dims(),
                up_layout.dims()
            );
        }
        let (gate, up) = (slice(gate, gate_layout)?, slice(up, up_layout)?);
        let mut y = vec![0f32; gate.len()];
        y.par_chunks_mut(TASK)
            .zip(gate.par_chunks(TASK))
            .zip(up.par_chunks(TASK))
            .for_each(|((y, gate), up)| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gate * sigmoid(*gate) * up;
                }
            });
        Ok((CpuStorage::F32(y), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (gate_guard, gate_layout) = gate.storage_and_layout();
        let (up_guard, up_layout) = up.storage_and_layout();
        let (dy_guard, dy_layout) = dy.storage_and_layout();
        let gate_values = values(&gate_guard, gate_layout)?;
        let up_values = values(&up_guard, up_layout)?;
        let dy_values = values(&dy_guard, dy_layout)?;
        let mut dgate = vec![0f32; gate_values.len()];
        let mut dup = vec![0f32; gate_values.len()];
        dgate
            .par_chunks_mut(TASK)
            .zip(dup.par_chunks_mut(TASK))
            .zip(gate_values.par_chunks(TASK))
            .zip(up_values.par_chunks(TASK))
            .zip(dy_values.par_chunks(TASK))
            .for_each(|((((dgate, dup), gate), up), dy)| {
                let outs = dgate.iter_mut().zip(dup);
                let ins = gate.iter().zip(up).zip(dy);
                for ((dgate, dup), ((gate, up), dy)) in outs.zip(ins) {
                    let open = sigmoid(*gate);
                    let silu = gate * open;
                    *dup = dy * silu;
                    *dgate = dy * up * (open + silu * (1.0 - open));
                }
            });
        Ok((
            Some(tensor(dgate, gate.shape())?),
            Some(tensor(dup, up.shape())?),
        ))
    }
}
