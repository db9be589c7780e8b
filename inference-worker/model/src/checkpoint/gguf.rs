//! GGUF files as llama.cpp writes them: configuration, names and matrices of the Llama, Qwen2 and
//! Qwen3 architectures (Mistral's files call themselves Llama).

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::panic::catch_unwind;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::GgmlDType;
use half::{bf16, f16};
use memmap2::Mmap;

use super::{map, named};
use crate::config::{Family, ModelConfig, RopeScaling};
use crate::error::{ModelError, Result};
use crate::rope;
use crate::site::Site;
use crate::stored::{BlockKind, StoredMatrix, StoredValues};
use crate::weights::{self, K_NORM, Q_NORM};

const WHAT: &str = "GGUF file";
/// No file of a model that fits a machine comes near this; bytes. Content is checked against it.
const MAX_BYTES: u64 = 1 << 41;
/// Factors by which the rotary frequencies of Llama 3 are divided.
const ROPE_FACTORS: &str = "rope_freqs.weight";
/// What every Llama 3 stretches its frequencies by, but for the factor.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const FIRST_CONTEXT: usize = 8192;

/// A mapped file and its tensors under the names that safetensors give them.
#[derive(Debug)]
pub(super) struct File {
    bytes: Mmap,
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    kind: Kind,
    shape: Vec<usize>,
    bytes: Range<usize>,
    /// Width of the heads whose halves lie interleaved, row by row.
    interleaved: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Bf16,
    Blocks(BlockKind),
}

impl Kind {
    fn of(name: &str, kind: GgmlDType) -> Result<Self> {
        Ok(match kind {
            GgmlDType::F32 => Self::F32,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::Bf16,
            other => Self::Blocks(BlockKind::from_ggml(other).ok_or_else(|| {
                ModelError::unsupported(WHAT, format!("type {other:?} of tensor {name}"))
            })?),
        })
    }

    /// Bytes of a row.
    fn row_bytes(self, inputs: usize) -> Option<usize> {
        match self {
            Self::F32 => inputs.checked_mul(4),
            Self::F16 | Self::Bf16 => inputs.checked_mul(2),
            Self::Blocks(kind) => kind.row_bytes(inputs),
        }
    }
}

/// Name of the one GGUF file in the folder; none if there is none.
///
/// # Errors
/// If there are several.
pub(crate) fn file_name(dir: &Path) -> Result<Option<String>> {
    let io = |source| ModelError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let mut found: Option<String> = None;
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".gguf")) else {
            continue;
        };
        if let Some(other) = found {
            return Err(ModelError::unsupported(
                WHAT,
                format!("a model of several files ({other}, {name})"),
            ));
        }
        found = Some(name.to_owned());
    }
    Ok(found)
}

/// The configuration that the metadata of the file `name` gives.
///
/// # Errors
/// If the file is no GGUF file, or of an architecture or with a field that is not understood.
pub(crate) fn config(dir: &Path, name: &str) -> Result<ModelConfig> {
    let bytes = map(dir, name, MAX_BYTES)?;
    let content = parse(&bytes)?;
    let fields = Metadata::of(&content)?;
    let config = fields.config(&content)?;
    let scaling = rope_scaling(&content, &bytes, &config)?;
    Ok(ModelConfig {
        rope_scaling: scaling,
        ..config
    })
}

fn parse(bytes: &Mmap) -> Result<Content> {
    let bytes: &[u8] = bytes;
    // candle divides by the alignment that the file names, which may be zero.
    let parsed = catch_unwind(|| Content::read(&mut Cursor::new(bytes)));
    match parsed {
        Ok(content) => content.map_err(|error| ModelError::invalid(WHAT, error.to_string())),
        Err(_) => Err(ModelError::invalid(WHAT, "general.alignment is zero")),
    }
}

/// The metadata of an architecture that is understood.
struct Metadata<'a> {
    content: &'a Content,
    family: Family,
}

impl<'a> Metadata<'a> {
    fn of(content: &'a Content) -> Result<Self> {
        let name = content.metadata.get("general.architecture");
        let name = name
            .and_then(|value| value.to_string().ok())
            .ok_or_else(|| ModelError::invalid(WHAT, "general.architecture is absent"))?;
        let families = [Family::Llama, Family::Qwen2, Family::Qwen3];
        let family = families.into_iter().find(|f| f.model_type() == name);
        let family = family.ok_or_else(|| {
            ModelError::unsupported(WHAT, format!("general.architecture \"{name}\""))
        })?;
        Ok(Self { content, family })
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family.model_type())
    }

    fn integer(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.content.metadata.get(key) else {
            return Ok(None);
        };
        let integer = match value {
            Value::U8(v) => Some(u64::from(*v)),
            Value::U16(v) => Some(u64::from(*v)),
            Value::U32(v) => Some(u64::from(*v)),
            Value::U64(v) => Some(*v),
            Value::I8(v) => u64::try_from(*v).ok(),
            Value::I16(v) => u64::try_from(*v).ok(),
            Value::I32(v) => u64::try_from(*v).ok(),
            Value::I64(v) => u64::try_from(*v).ok(),
            _ => None,
        };
        match integer {
            Some(integer) => Ok(Some(integer)),
            None => Err(ModelError::invalid(WHAT, format!("{key} is not a size"))),
        }
    }

    fn optional_size(&self, name: &str) -> Result<Option<u64>> {
        self.integer(&self.key(name))
    }

    fn size(&self, name: &str) -> Result<u64> {
        let size = self.optional_size(name)?;
        size.ok_or_else(|| ModelError::invalid(WHAT, format!("{} is absent", self.key(name))))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.content.metadata.get(&self.key(name)) {
            None => Ok(None),
            Some(Value::F32(v)) => Ok(Some(f64::from(*v))),
            Some(Value::F64(v)) => Ok(Some(*v)),
            Some(_) => Err(ModelError::invalid(
                WHAT,
                format!("{} is not a number", self.key(name)),
            )),
        }
    }

    /// Refuses fields of the architecture that are not read here.
    fn refuse_unknown(&self) -> Result<()> {
        const READ: &[&str] = &[
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "attention.layer_norm_rms_epsilon",
            "attention.value_length",
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "rope.dimension_count",
            "rope.freq_base",
            "vocab_size",
        ];
        let prefix = self.key("");
        let mut keys: Vec<&String> = self.content.metadata.keys().collect();
        keys.sort();
        for key in keys {
            let Some(name) = key.strip_prefix(&prefix) else {
                continue;
            };
            let value = self.content.metadata.get(key);
            let neutral = match name {
                "expert_count" | "expert_used_count" => self.integer(key)? == Some(0),
                "rope.scaling.type" => value
                    .and_then(|value| value.to_string().ok())
                    .is_some_and(|kind| kind == "none"),
                _ => false,
            };
            if !neutral && !READ.contains(&name) {
                return Err(ModelError::unsupported(WHAT, format!("{key} = {value:?}")));
            }
        }
        Ok(())
    }

    /// The configuration, but for the stretching of rotary frequencies. It is checked as a
    /// `config.json` of the same values is.
    fn config(&self, content: &Content) -> Result<ModelConfig> {
        self.refuse_unknown()?;
        let vocabulary = content.tensor_infos.get("token_embd.weight");
        let vocabulary = vocabulary
            .and_then(|info| info.shape.dims().first())
            .copied()
            .ok_or_else(|| ModelError::MissingTensor {
                name: "token_embd.weight".into(),
            })?;
        let (hidden, heads) = (
            self.size("embedding_length")?,
            self.size("attention.head_count")?,
        );
        let head_dim = match self.optional_size("attention.key_length")? {
            Some(width) => width,
            None if heads > 0 && hidden % heads == 0 => hidden / heads,
            None => {
                return Err(ModelError::invalid(
                    WHAT,
                    format!("{} is absent", self.key("attention.key_length")),
                ))
            }
        };
        for name in ["attention.value_length", "rope.dimension_count"] {
            if self.optional_size(name)?.is_some_and(|w| w != head_dim) {
                return Err(ModelError::unsupported(
                    WHAT,
                    format!("{} other than the heads' width {head_dim}", self.key(name)),
                ));
            }
        }
        let theta = self.number("rope.freq_base")?;
        let theta = match (theta, self.family) {
            (Some(theta), _) => theta,
            (None, Family::Llama) => 10_000.0,
            (None, _) => {
                return Err(ModelError::invalid(
                    WHAT,
                    format!("{} is absent", self.key("rope.freq_base")),
                ))
            }
        };
        let eps = self.number("attention.layer_norm_rms_epsilon")?;
        let token = |name: &str| self.integer(&format!("tokenizer.ggml.{name}_token_id"));
        let mut ends: Vec<u64> = Vec::new();
        for id in [token("eos")?, token("eot")?].into_iter().flatten() {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        let kv_heads = match self.optional_size("attention.head_count_kv")? {
            Some(count) => count,
            None => heads,
        };
        let mut fields = serde_json::json!({
            "model_type": self.family.model_type(),
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": self.size("feed_forward_length")?,
            "num_hidden_layers": self.size("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "rms_norm_eps": eps,
            "rope_theta": theta,
            "max_position_embeddings": self.size("context_length")?,
            "tie_word_embeddings": !content.tensor_infos.contains_key("output.weight"),
            "eos_token_id": ends,
        });
        if let Some(id) = token("bos")? {
            fields["bos_token_id"] = id.into();
        }
        ModelConfig::from_json(&fields.to_string())
    }
}

/// The stretching that [`ROPE_FACTORS`] stand for: Llama 3's, if they are its.
fn rope_scaling(
    content: &Content,
    bytes: &Mmap,
    config: &ModelConfig,
) -> Result<Option<RopeScaling>> {
    if !content.tensor_infos.contains_key(ROPE_FACTORS) {
        return Ok(None);
    }
    let stored = Stored::find(content, bytes.len(), ROPE_FACTORS)?;
    let factors = stored.vector(ROPE_FACTORS, bytes)?;
    let plain = rope::inv_freq(config);
    let refuse = || {
        ModelError::unsupported(
            WHAT,
            format!("{ROPE_FACTORS} with other factors than Llama 3's"),
        )
    };
    // The lowest frequency is divided by the whole factor.
    let factor = factors.last().copied().map(f64::from).ok_or_else(refuse)?;
    let scaling = RopeScaling::Llama3 {
        factor,
        low_freq_factor: LOW_FREQ_FACTOR,
        high_freq_factor: HIGH_FREQ_FACTOR,
        original_max_position_embeddings: FIRST_CONTEXT,
    };
    let stretched = rope::inv_freq(&ModelConfig {
        rope_scaling: Some(scaling.clone()),
        ..config.clone()
    });
    let same = factors.len() == plain.len()
        && factors
            .iter()
            .zip(plain.iter().zip(&stretched))
            .all(|(factor, (plain, stretched))| (factor * stretched / plain - 1.0).abs() < 1e-4);
    if same && factor >= 1.0 {
        Ok(Some(scaling))
    } else {
        Err(refuse())
    }
}

/// Name of a tensor in a GGUF file, by its name in safetensors.
fn name_of(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = part.rsplit_once('.')?;
    let short = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        _ if part == Q_NORM => "attn_q_norm",
        _ if part == K_NORM => "attn_k_norm",
        _ => match Site::ALL.into_iter().find(|site| site.module() == module)? {
            Site::Q => "attn_q",
            Site::K => "attn_k",
            Site::V => "attn_v",
            Site::O => "attn_output",
            Site::Gate => "ffn_gate",
            Site::Up => "ffn_up",
            Site::Down => "ffn_down",
        },
    };
    Some(format!("blk.{layer}.{short}.{kind}"))
}

impl Stored {
    fn find(content: &Content, file: usize, name: &str) -> Result<Self> {
        let info = content.tensor_infos.get(name);
        let info = info.ok_or_else(|| ModelError::MissingTensor { name: name.into() })?;
        let shape = info.shape.dims().to_vec();
        let kind = Kind::of(name, info.ggml_dtype)?;
        let rows = shape.split_last().and_then(|(inputs, outer)| {
            let count = outer
                .iter()
                .try_fold(1usize, |count, n| count.checked_mul(*n))?;
            kind.row_bytes(*inputs)?.checked_mul(count)
        });
        let start = content.tensor_data_offset.checked_add(info.offset);
        let range = start.and_then(|start| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(rows?)?)
        });
        let bytes = range.filter(|range| range.end <= file).ok_or_else(|| {
            ModelError::invalid(
                WHAT,
                format!("tensor {name} of shape {shape:?} is not within the file"),
            )
        })?;
        Ok(Self {
            kind,
            shape,
            bytes,
            interleaved: None,
        })
    }

    fn vector(&self, name: &str, file: &[u8]) -> Result<Vec<f32>> {
        let bytes = file.get(self.bytes.clone()).unwrap_or_default();
        let values: Vec<f32> = match self.kind {
            Kind::F32 => floats(bytes),
            Kind::F16 => halves(bytes).map(|v| f16::from_bits(v).to_f32()).collect(),
            Kind::Bf16 => halves(bytes).map(|v| bf16::from_bits(v).to_f32()).collect(),
            Kind::Blocks(kind) => {
                return Err(ModelError::unsupported(
                    WHAT,
                    format!("tensor {name} in blocks of {}", kind.name()),
                ))
            }
        };
        if values.iter().all(|v| v.is_finite()) {
            Ok(values)
        } else {
            Err(ModelError::NonFinite { name: name.into() })
        }
    }
}

impl File {
    pub fn open(dir: &Path, name: &str, config: &ModelConfig) -> Result<Self> {
        let bytes = map(dir, name, MAX_BYTES)?;
        let mut content = parse(&bytes)?;
        let interleaved = Metadata::of(&content)?.family == Family::Llama;
        let mut tensors = BTreeMap::new();
        for (name, shape) in weights::shapes(config) {
            let missing = || ModelError::MissingTensor { name: name.clone() };
            let theirs = name_of(&name).ok_or_else(missing)?;
            let mut stored = Stored::find(&content, bytes.len(), &theirs)?;
            content.tensor_infos.remove(&theirs);
            if stored.shape != shape {
                return Err(ModelError::Shape {
                    name: theirs,
                    expected: shape,
                    found: stored.shape,
                });
            }
            let turned = ["self_attn.q_proj.weight", "self_attn.k_proj.weight"];
            if interleaved && turned.iter().any(|end| name.ends_with(end)) {
                stored.interleaved = Some(config.head_dim);
            }
            tensors.insert(name, stored);
        }
        content.tensor_infos.remove(ROPE_FACTORS);
        match content.tensor_infos.into_keys().min() {
            Some(name) => Err(ModelError::UnexpectedTensor { name }),
            None => Ok(Self { bytes, tensors }),
        }
    }

    pub fn is_quantised(&self) -> bool {
        self.tensors
            .values()
            .any(|stored| matches!(stored.kind, Kind::Blocks(_)))
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors
            .get(name)
            .ok_or_else(|| ModelError::MissingTensor { name: name.into() })
    }

    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        self.stored(name)?.vector(name, &self.bytes)
    }

    pub fn matrix(&self, name: &str) -> Result<StoredMatrix> {
        let stored = self.stored(name)?;
        let bytes = self.bytes.get(stored.bytes.clone()).unwrap_or_default();
        let values = match stored.kind {
            Kind::F32 => StoredValues::F32(floats(bytes)),
            Kind::F16 => StoredValues::F16(halves(bytes).map(f16::from_bits).collect()),
            Kind::Bf16 => StoredValues::Bf16(halves(bytes).map(bf16::from_bits).collect()),
            Kind::Blocks(kind) => StoredValues::Blocks {
                kind,
                bytes: bytes.to_vec(),
            },
        };
        let (outputs, inputs) = match stored.shape.as_slice() {
            [outputs, inputs] => (*outputs, *inputs),
            _ => return Err(ModelError::MissingTensor { name: name.into() }),
        };
        let matrix = named(name, StoredMatrix::new(outputs, inputs, values))?;
        match stored.interleaved {
            None => Ok(matrix),
            // llama.cpp rotates neighbours, transformers element `j` with `j + half`.
            Some(dim) => matrix.reordered(|row| {
                let (head, within) = (row / dim, row % dim);
                let half = dim / 2;
                head * dim + 2 * (within % half) + within / half
            }),
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes
        .chunks_exact(2)
        .map(|b| u16::from_le_bytes([b[0], b[1]]))
}
