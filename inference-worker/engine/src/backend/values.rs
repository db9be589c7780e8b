//! The values of a checkpoint's tensors.

use crate::error::EngineError;
use candle_core::Tensor;

/// The values of a tensor of the checkpoint, row by row.
///
/// # Errors
/// When it has another shape, or a value is not finite.
pub(super) fn values(
    name: &str,
    tensor: &Tensor,
    shape: &[usize],
) -> Result<Vec<f32>, EngineError> {
    let refuse = |reason: String| EngineError::Weights {
        name: name.to_owned(),
        reason,
    };
    if tensor.dims() != shape {
        return Err(refuse(format!("shape {:?}, not {shape:?}", tensor.dims())));
    }
    let values = tensor
        .flatten_all()
        .and_then(|t| t.to_vec1::<f32>())
        .map_err(|e| refuse(e.to_string()))?;
    if values.iter().all(|v| v.is_finite()) {
        Ok(values)
    } else {
        Err(refuse("a value is not finite".to_owned()))
    }
}
