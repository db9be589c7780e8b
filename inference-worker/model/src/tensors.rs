//! Safetensors bytes to f32 tensors and back.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{quoted, ModelError, Result};

/// The type in which weights are written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// 32-bit floats: exact.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit brain floats.
    Bf16,
}

/// Parses the header of a safetensors file; the crate checks that offsets lie within the bytes,
/// do not overlap, leave no gap, and match the shapes. Of a name that is there twice it takes the last, and
/// another reader may take the first: such a file is refused.
pub(crate) fn parse<'a>(bytes: &'a [u8], what: &str) -> Result<SafeTensors<'a>> {
    let parsed = SafeTensors::deserialize(bytes).map_err(|source| ModelError::Safetensors {
        what: what.into(),
        source,
    })?;
    let header = bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        rest.get(..length)
    });
    serde_json::from_slice::<Names>(header.unwrap_or_default()).map_err(|source| {
        ModelError::Json {
            what: what.into(),
            source,
        }
    })?;
    Ok(parsed)
}

/// An object whose names differ.
struct Names;

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some((name, _)) = map.next_entry::<Cow<'de, str>, IgnoredAny>()? {
            if let Some(name) = seen.replace(name) {
                let name = quoted(name.into_owned());
                return Err(A::Error::custom(format!("{name} is there twice")));
            }
        }
        Ok(self)
    }
}

/// Converts one stored tensor to an f32 tensor on the CPU, checking shape and finiteness.
pub(crate) fn decode(name: &str, view: &TensorView<'_>, expected: &[usize]) -> Result<Tensor> {
    if view.shape() != expected {
        return Err(ModelError::Shape {
            name: name.into(),
            expected: expected.to_vec(),
            found: view.shape().to_vec(),
        });
    }
    let values = floats(name, view.dtype(), view.data())?;
    Ok(Tensor::from_vec(values, expected, &Device::Cpu)?)
}

/// Widens stored floats to f32, checking that they are finite.
pub(crate) fn floats(name: &str, dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    let values: Vec<f32> = match dtype {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => bytes
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        Dtype::BF16 => bytes
            .chunks_exact(2)
            .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        other => {
            return Err(ModelError::DType {
                name: name.into(),
                dtype: format!("{other:?}"),
                expected: "F32, F16, BF16".into(),
            })
        }
    };
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ModelError::NonFinite { name: name.into() });
    }
    Ok(values)
}

/// The values of a tensor in row-major order.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

/// Writes named tensors as safetensors bytes. The same tensors give the same bytes: names are
/// sorted and the only metadata is the format marker that transformers and peft look for.
///
/// # Errors
/// [`ModelError::NonFinite`] if a value is not finite in the stored type.
pub(crate) fn encode(tensors: &BTreeMap<String, &Tensor>, stored: StoredType) -> Result<Vec<u8>> {
    let mut buffers = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let values = values(tensor)?;
        let (bytes, finite): (Vec<u8>, bool) = match stored {
            StoredType::F32 => (
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                values.iter().all(|v| v.is_finite()),
            ),
            StoredType::F16 => {
                let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
                (
                    halves.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    halves.iter().all(|v| v.is_finite()),
                )
            }
            StoredType::Bf16 => {
                let halves: Vec<bf16> = values.iter().map(|v| bf16::from_f32(*v)).collect();
                (
                    halves.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    halves.iter().all(|v| v.is_finite()),
                )
            }
        };
        if !finite {
            return Err(ModelError::NonFinite { name: name.clone() });
        }
        buffers.push((name.as_str(), tensor.dims().to_vec(), bytes));
    }
    let dtype = match stored {
        StoredType::F32 => Dtype::F32,
        StoredType::F16 => Dtype::F16,
        StoredType::Bf16 => Dtype::BF16,
    };
    let fail = |source| ModelError::Safetensors {
        what: "safetensors".into(),
        source,
    };
    let views = buffers
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((
                *name,
                TensorView::new(dtype, shape.clone(), bytes).map_err(fail)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let marker = [("format".to_string(), "pt".to_string())]
        .into_iter()
        .collect();
    safetensors::serialize(views, Some(marker)).map_err(fail)
}
