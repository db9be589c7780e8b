//! Turning a base model into one that is stored in fewer bits.
//!
//! Every linear layer of the decoder is quantised by rounding to the nearest code, symmetric about
//! zero, with the scale at which the largest value of a row or group gets the largest code. Embedding,
//! output projection, norms and biases are stored as BF16. The folder is one that compressed-tensors,
//! and so transformers and vLLM, read too.

use std::collections::BTreeMap;
use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{json, Value};

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::folder;
use crate::quantisation::{Grouping, Packing, Quantisation};
use crate::site::Site;
use crate::stored::{fp8, StoredMatrix, StoredValues};
use crate::weights::{K_NORM, Q_NORM};

const WHAT: &str = "quantise";
const INDEX: &str = "model.safetensors.index.json";

/// What the linear layers are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// BF16: no codes.
    Bf16,
    /// E4M3 floats of eight bits, a scale to each row.
    Fp8,
    /// Integers of eight bits, a scale to each row.
    Int8,
    /// Integers of four bits, a scale to each `group` inputs of a row.
    Int4 {
        /// Inputs that share a scale.
        group: usize,
    },
}

/// What quantising came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Bytes of tensors written.
    pub bytes: u64,
    /// Root of the squares of what rounding changed in the linear layers, over that of their values.
    pub relative_error: f64,
}

/// A tensor to be written.
struct Part {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The squares that the relative error is made of.
#[derive(Default)]
struct Squares {
    change: f64,
    whole: f64,
}

impl Target {
    fn quantisation(self) -> Option<Quantisation> {
        let (packing, grouping) = match self {
            Target::Bf16 => return None,
            Target::Fp8 => (Packing::Fp8, Grouping::Channel),
            Target::Int8 => (Packing::Int8, Grouping::Channel),
            Target::Int4 { group } => (Packing::PackedInt4, Grouping::Group(group)),
        };
        Some(Quantisation::new(packing, grouping, &["lm_head"]))
    }

    /// The `config.json` of a model of this configuration stored so.
    pub fn config_json(self, config: &ModelConfig) -> Result<String> {
        let text = config.to_json();
        let mut fields: BTreeMap<String, Value> =
            serde_json::from_str(&text).map_err(|source| ModelError::Json {
                what: "config.json".into(),
                source,
            })?;
        fields.insert("torch_dtype".into(), json!("bfloat16"));
        if let Some(quantisation) = self.quantisation() {
            fields.insert("quantization_config".into(), quantisation.to_json());
        }
        Ok(format!("{:#}\n", json!(fields)))
    }

    /// Rounds a matrix.
    ///
    /// # Errors
    /// If groups do not fill its rows, or a value is too large for BF16.
    pub fn encode(self, matrix: &StoredMatrix) -> Result<StoredMatrix> {
        let (outputs, inputs) = (matrix.outputs(), matrix.inputs());
        let values = matrix.to_f32();
        let (group, largest) = match self {
            Target::Bf16 => {
                let rounded = values.into_iter().map(bf16::from_f32).collect();
                return StoredMatrix::new(outputs, inputs, StoredValues::Bf16(rounded));
            }
            Target::Fp8 => (inputs, fp8::MAX),
            Target::Int8 => (inputs, 127.0),
            Target::Int4 { group } => (group, 7.0),
        };
        if group == 0 || !inputs.is_multiple_of(group) {
            return Err(ModelError::invalid(
                WHAT,
                format!("a group of {group} does not divide {inputs} inputs"),
            ));
        }
        let scales: Vec<f32> = values
            .chunks_exact(group)
            .map(|values| scale(values, largest))
            .collect();
        let scaled = values
            .chunks_exact(group)
            .zip(&scales)
            .flat_map(|(values, scale)| values.iter().map(move |v| v / scale));
        let integer = |v: f32, least: f32, most: f32| v.round_ties_even().clamp(least, most);
        let scales_of = |scales| StoredMatrix::scales(group, scales);
        let values = match self {
            Target::Int4 { .. } => {
                let codes: Vec<u8> = scaled.map(|v| integer(v, -8.0, 7.0) as i8 as u8).collect();
                let pair = |pair: &[u8]| {
                    let high = pair.get(1).copied().unwrap_or(0);
                    (pair[0].wrapping_add(8) & 0xf) | high.wrapping_add(8) << 4
                };
                let rows = codes.chunks(inputs);
                StoredValues::Int4 {
                    codes: rows.flat_map(|row| row.chunks(2).map(pair)).collect(),
                    scales: scales_of(scales.clone()),
                }
            }
            Target::Fp8 => StoredValues::Fp8 {
                codes: scaled.map(fp8::from_f32).collect(),
                scales: scales_of(scales.clone()),
            },
            _ => StoredValues::Int8 {
                codes: scaled.map(|v| integer(v, -128.0, 127.0) as i8).collect(),
                scales: scales_of(scales.clone()),
            },
        };
        StoredMatrix::new(outputs, inputs, values)
    }
}

/// The scale at which the largest of the values gets the code `largest`, as it is stored: a BF16.
fn scale(values: &[f32], largest: f32) -> f32 {
    let most = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    let scale = bf16::from_f32(most / largest).to_f32();
    // Nothing but zeros, or next to nothing.
    if scale > 0.0 {
        scale
    } else {
        1.0
    }
}

/// Writes `checkpoint` into `dir`, stored as `target`: one shard with what all layers share, one for
/// each layer, their index, and `config.json`. Memory is needed for one layer. `progress` is told the
/// shards written, and all there will be.
///
/// # Errors
/// If the checkpoint is quantised and `target` is not BF16, a value is not finite or too large for
/// BF16, groups do not fill the rows of a matrix, or a file cannot be written.
pub fn quantise(
    checkpoint: &Checkpoint,
    target: Target,
    dir: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Outcome> {
    if checkpoint.is_quantised() && target != Target::Bf16 {
        return Err(ModelError::unsupported(
            WHAT,
            "quantising a base that is quantised already, which would round twice,",
        ));
    }
    let config = checkpoint.config();
    let count = config.num_hidden_layers + 1;
    let mut index: BTreeMap<String, String> = BTreeMap::new();
    let mut outcome = Outcome::default();
    let mut squares = Squares::default();
    for shard in 0..count {
        let parts = match shard.checked_sub(1) {
            None => shared_parts(checkpoint)?,
            Some(layer) => layer_parts(checkpoint, layer, target, &mut squares)?,
        };
        let file = format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        for part in &parts {
            index.insert(part.name.clone(), file.clone());
            outcome.bytes += part.bytes.len() as u64;
        }
        folder::write(dir, &file, &serialised(&parts)?)?;
        progress(shard + 1, count);
    }
    let index = json!({ "metadata": { "total_size": outcome.bytes }, "weight_map": index });
    folder::write(dir, INDEX, format!("{index:#}\n").as_bytes())?;
    folder::write(dir, "config.json", target.config_json(config)?.as_bytes())?;
    outcome.relative_error = squares.relative_error();
    Ok(outcome)
}

fn serialised(parts: &[Part]) -> Result<Vec<u8>> {
    let fail = |source| ModelError::Safetensors {
        what: "safetensors".into(),
        source,
    };
    let views = parts
        .iter()
        .map(|part| {
            let view = TensorView::new(part.dtype, part.shape.clone(), &part.bytes);
            Ok((part.name.as_str(), view.map_err(fail)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let marker = [("format".to_string(), "pt".to_string())];
    safetensors::serialize(views, Some(marker.into_iter().collect())).map_err(fail)
}

/// Values as BF16.
fn rounded(name: &str, shape: Vec<usize>, values: &[f32]) -> Result<Part> {
    let halves: Vec<bf16> = values.iter().map(|v| bf16::from_f32(*v)).collect();
    if halves.iter().any(|v| !v.is_finite()) {
        return Err(ModelError::NonFinite { name: name.into() });
    }
    Ok(Part {
        name: name.into(),
        dtype: Dtype::BF16,
        shape,
        bytes: halves.iter().flat_map(|v| v.to_le_bytes()).collect(),
    })
}

fn shared_parts(checkpoint: &Checkpoint) -> Result<Vec<Part>> {
    let matrix = |name: &str, matrix: &StoredMatrix| {
        let shape = vec![matrix.outputs(), matrix.inputs()];
        rounded(name, shape, &matrix.to_f32())
    };
    let norm = checkpoint.norm()?;
    let mut parts = vec![
        matrix("model.embed_tokens.weight", &checkpoint.embed()?)?,
        rounded("model.norm.weight", vec![norm.len()], &norm)?,
    ];
    if let Some(head) = checkpoint.lm_head()? {
        parts.push(matrix("lm_head.weight", &head)?);
    }
    Ok(parts)
}

fn layer_parts(
    checkpoint: &Checkpoint,
    index: usize,
    target: Target,
    squares: &mut Squares,
) -> Result<Vec<Part>> {
    let layer = checkpoint.layer(index)?;
    let prefix = format!("model.layers.{index}");
    let mut parts = Vec::new();
    let mut vector = |name: String, values: &[f32]| -> Result<()> {
        parts.push(rounded(&name, vec![values.len()], values)?);
        Ok(())
    };
    vector(
        format!("{prefix}.input_layernorm.weight"),
        &layer.input_norm,
    )?;
    vector(
        format!("{prefix}.post_attention_layernorm.weight"),
        &layer.post_attention_norm,
    )?;
    if let Some([q, k]) = &layer.qk_norm {
        vector(format!("{prefix}.{Q_NORM}"), q)?;
        vector(format!("{prefix}.{K_NORM}"), k)?;
    }
    for (site, bias) in Site::ALL.into_iter().zip(&layer.bias) {
        if let Some(bias) = bias {
            vector(format!("{}.bias", site.path(index)), bias)?;
        }
    }
    for (site, matrix) in Site::ALL.into_iter().zip(&layer.sites) {
        let name = format!("{}.weight", site.path(index));
        let encoded = target.encode(matrix).map_err(|error| match error {
            ModelError::Invalid { what, reason } if target == Target::Bf16 => {
                ModelError::invalid(what, format!("{name}: {reason}"))
            }
            ModelError::Invalid { what, reason } => {
                ModelError::invalid(what, format!("{name}: {reason}; choose another group size"))
            }
            other => other,
        })?;
        squares.add(matrix, &encoded);
        parts.extend(stored_parts(&name, &encoded)?);
    }
    Ok(parts)
}

impl Squares {
    fn add(&mut self, matrix: &StoredMatrix, encoded: &StoredMatrix) {
        let (mut was, mut is) = (vec![0.0; matrix.inputs()], vec![0.0; matrix.inputs()]);
        for row in 0..matrix.outputs() {
            matrix.decode(row, 0, &mut was);
            encoded.decode(row, 0, &mut is);
            for (was, is) in was.iter().zip(&is) {
                self.change += f64::from(was - is).powi(2);
                self.whole += f64::from(*was).powi(2);
            }
        }
    }

    /// Nothing of nothing where all is zero.
    fn relative_error(&self) -> f64 {
        if self.whole > 0.0 {
            (self.change / self.whole).sqrt()
        } else {
            0.0
        }
    }
}

/// The tensors that a stored matrix is written as, and read from by [`Checkpoint`].
fn stored_parts(name: &str, matrix: &StoredMatrix) -> Result<Vec<Part>> {
    let shape = vec![matrix.outputs(), matrix.inputs()];
    let codes = |dtype, bytes: Vec<u8>| Part {
        name: name.into(),
        dtype,
        shape: shape.clone(),
        bytes,
    };
    let mut parts = match matrix.values() {
        StoredValues::Int8 { codes: values, .. } => {
            vec![codes(Dtype::I8, values.iter().map(|v| *v as u8).collect())]
        }
        StoredValues::Fp8 { codes: values, .. } => vec![codes(Dtype::F8_E4M3, values.clone())],
        StoredValues::Int4 { codes: values, .. } => {
            let words = matrix.inputs().div_ceil(8);
            let rows = values.chunks(matrix.inputs().div_ceil(2).max(1));
            let bytes = rows.flat_map(|row| {
                let mut row = row.to_vec();
                row.resize(4 * words, 0);
                row
            });
            let sizes = shape.iter().flat_map(|n| (*n as i64).to_le_bytes());
            vec![
                Part {
                    name: format!("{name}_packed"),
                    dtype: Dtype::I32,
                    shape: vec![matrix.outputs(), words],
                    bytes: bytes.collect(),
                },
                Part {
                    name: format!("{name}_shape"),
                    dtype: Dtype::I64,
                    shape: vec![2],
                    bytes: sizes.collect(),
                },
            ]
        }
        _ => return Ok(vec![rounded(name, shape, &matrix.to_f32())?]),
    };
    if let Some(scales) = matrix.scales_of() {
        let groups = scales.values().len() / matrix.outputs().max(1);
        let shape = vec![matrix.outputs(), groups];
        parts.push(rounded(&format!("{name}_scale"), shape, scales.values())?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::normal;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn matrix(outputs: usize, inputs: usize) -> StoredMatrix {
        let values = (0..outputs * inputs).map(|i| ((i * 7919) as f32 * 0.37).sin() * 0.08);
        StoredMatrix::new(outputs, inputs, StoredValues::F32(values.collect())).unwrap()
    }

    #[test]
    fn rounding_should_stay_within_half_a_step() {
        let (outputs, inputs) = (5, 64);
        let matrix = matrix(outputs, inputs);
        let whole = matrix.to_f32();
        for (target, group, largest) in [
            (Target::Int8, 64, 127.0),
            (Target::Int4 { group: 16 }, 16, 7.0),
            (Target::Int4 { group: 64 }, 64, 7.0),
        ] {
            let rounded = target.encode(&matrix).unwrap().to_f32();
            for (values, rounded) in whole.chunks(group).zip(rounded.chunks(group)) {
                let scale = scale(values, largest);
                for (v, r) in values.iter().zip(rounded) {
                    // The scale is rounded itself, so that the largest may be cut a little.
                    assert!((v - r).abs() <= 0.5 * scale + 0.004 * v.abs(), "{v} {r}");
                }
            }
        }
        let rounded = Target::Fp8.encode(&matrix).unwrap().to_f32();
        for (v, r) in whole.iter().zip(rounded) {
            assert!((v - r).abs() <= v.abs() / 16.0 + 1e-4, "{v} {r}");
        }
    }

    #[test]
    fn normal_weights_should_change_by_what_their_codes_cannot_tell_apart() {
        let values = normal(&mut ChaCha8Rng::seed_from_u64(1), 64 * 4096, 1.0);
        let weights = StoredMatrix::new(64, 4096, StoredValues::F32(values)).unwrap();
        for (target, least, most) in [
            (Target::Bf16, 0.0015, 0.0019),
            (Target::Fp8, 0.02, 0.03),
            (Target::Int8, 0.007, 0.01),
            (Target::Int4 { group: 128 }, 0.09, 0.13),
        ] {
            let mut squares = Squares::default();
            squares.add(&weights, &target.encode(&weights).unwrap());
            let error = squares.relative_error();
            println!("{target:?}: {error:.4}");
            assert!((least..most).contains(&error), "{target:?}: {error}");
        }
    }

    #[test]
    fn zeros_should_stay_zeros_and_groups_must_fit() {
        let zeros = StoredMatrix::new(2, 8, StoredValues::F32(vec![0.0; 16])).unwrap();
        for target in [Target::Int8, Target::Fp8, Target::Int4 { group: 4 }] {
            assert_eq!(target.encode(&zeros).unwrap().to_f32(), [0.0; 16]);
        }
        for group in [0, 3, 16] {
            assert!(Target::Int4 { group }.encode(&zeros).is_err());
        }
        let huge = StoredMatrix::new(1, 1, StoredValues::F32(vec![f32::MAX])).unwrap();
        assert!(Target::Bf16.encode(&huge).is_err());
    }
}
