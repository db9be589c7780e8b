//! Slices of contiguous f32 tensors.

use candle_core::{bail, CpuStorage, Device, Layout, Result, Shape, Storage, Tensor};

/// The values of an operand in row-major order.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout
        .contiguous_offsets()
        .and_then(|(start, end)| all.get(start..end))
    {
        Some(values) => Ok(values),
        None => bail!("operand is not contiguous"),
    }
}

/// The values of a tensor behind its guard: `let (s, l) = t.storage_and_layout(); values(&s, l)`.
pub(super) fn values<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(cpu) => slice(cpu, layout),
        _ => bail!("operand is not on the CPU"),
    }
}

/// A tensor on the CPU from its values.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}
