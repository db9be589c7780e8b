//! `config.json` of a Llama model, as transformers 4 and 5 write it.
//!
//! What changes the arithmetic is read or refused by name, never defaulted; the few defaults taken
//! are those that transformers itself documents for `LlamaConfig`, because published folders rely
//! on them. A field that this module has never heard of is refused: it might change the arithmetic.

use std::path::Path;

use serde_json::{json, Map, Value};

use crate::error::{ModelError, Result};
use crate::folder;

const WHAT: &str = "config.json";
/// No `config.json` comes near this; bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// How rotary frequencies are stretched beyond the length that the model was first trained at.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Llama 3.1's piecewise rule: long wavelengths are divided by `factor`, short ones kept, those
    /// between blended.
    Llama3 {
        /// Divisor of the lowest frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the first training, in tokens.
        original_max_position_embeddings: usize,
    },
}

/// The shape of a Llama model and the constants of its arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Rows of the embedding; token ids are below it.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Added to the mean square before its root is taken.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Token that begins a sequence.
    pub bos_token_id: Option<u32>,
    /// Tokens that end an answer.
    pub eos_token_ids: Vec<u32>,
}

/// Fields that do not enter the forward pass of an unquantised Llama.
const NEUTRAL: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "initializer_range",
    "label2id",
    "max_window_layers",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "return_dict_in_generate",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_version",
    "unsloth_fixed",
    "use_cache",
];

/// Fields read below.
const READ: &[&str] = &[
    "attention_bias",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "is_decoder",
    "is_encoder_decoder",
    "max_position_embeddings",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pretraining_tp",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "vocab_size",
];

impl ModelConfig {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// Those of [`Self::from_json`], and of reading the file.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let bytes = folder::read(dir, WHAT, MAX_CONFIG_BYTES)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| ModelError::invalid(WHAT, "is not UTF-8 text"))?;
        Self::from_json(text)
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// [`ModelError::Json`] if it is not a JSON object, [`ModelError::Unsupported`] for any field
    /// or value that this crate does not implement, [`ModelError::Invalid`] for values that
    /// contradict each other or exceed the bounds.
    pub fn from_json(text: &str) -> Result<Self> {
        let fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|source| ModelError::Json {
                what: WHAT.into(),
                source,
            })?;
        let fields = Fields(fields);
        fields.refuse_unknown()?;

        let hidden_size = fields.size("hidden_size", 1 << 16)?;
        let num_attention_heads = fields.size("num_attention_heads", 1 << 12)?;
        let (rope_theta, rope_scaling) = fields.rope()?;
        let config = Self {
            vocab_size: fields.size("vocab_size", 1 << 21)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", 1 << 18)?,
            num_hidden_layers: fields.size("num_hidden_layers", 1 << 10)?,
            num_attention_heads,
            num_key_value_heads: fields
                .optional_size("num_key_value_heads", 1 << 12)?
                .unwrap_or(num_attention_heads),
            head_dim: match fields.optional_size("head_dim", 1 << 12)? {
                Some(head_dim) => head_dim,
                None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
                None => {
                    return Err(ModelError::invalid(
                        WHAT,
                        "head_dim is absent and num_attention_heads does not divide hidden_size",
                    ))
                }
            },
            rms_norm_eps: fields.number("rms_norm_eps")?,
            rope_theta,
            rope_scaling,
            max_position_embeddings: fields.size("max_position_embeddings", 1 << 24)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
            eos_token_ids: fields.tokens("eos_token_id")?,
        };
        config.check()?;
        Ok(config)
    }

    /// Writes the configuration as a `config.json` that transformers 4 and 5 both read.
    pub fn to_json(&self) -> String {
        let rope_scaling = self.rope_scaling.as_ref().map(|scaling| match scaling {
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
        });
        let eos: Value = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": rope_scaling,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "vocab_size": self.vocab_size,
        });
        format!("{config:#}\n")
    }

    /// Number of parameters, the embedding counted once if it is tied.
    pub fn parameters(&self) -> u64 {
        let per_layer: usize = crate::site::Site::ALL
            .iter()
            .map(|site| {
                let (rows, columns) = site.shape(self);
                rows * columns
            })
            .sum();
        let heads = if self.tie_word_embeddings { 1 } else { 2 };
        (self.num_hidden_layers * (per_layer + 2 * self.hidden_size)
            + heads * self.vocab_size * self.hidden_size
            + self.hidden_size) as u64
    }

    fn check(&self) -> Result<()> {
        let invalid = |reason: String| Err(ModelError::invalid(WHAT, reason));
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return invalid(format!(
                "num_key_value_heads {} does not divide num_attention_heads {}",
                self.num_key_value_heads, self.num_attention_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return invalid(format!("head_dim {} is odd", self.head_dim));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return invalid(format!(
                "rms_norm_eps {} is not between 0 and 1",
                self.rms_norm_eps
            ));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return invalid(format!("rope_theta {} is not above 1", self.rope_theta));
        }
        for token in self.bos_token_id.iter().chain(&self.eos_token_ids) {
            if *token as usize >= self.vocab_size {
                return invalid(format!(
                    "token id {token} is beyond vocab_size {}",
                    self.vocab_size
                ));
            }
        }
        Ok(())
    }
}

/// The fields of the document, read with errors that name them.
struct Fields(Map<String, Value>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn refuse_unknown(&self) -> Result<()> {
        let unsupported = |name: &str, value: &Value| {
            Err(ModelError::unsupported(WHAT, format!("{name} = {value}")))
        };
        match self.get("model_type") {
            Some(Value::String(kind)) if kind == "llama" => {}
            Some(other) => return unsupported("model_type", other),
            None => return Err(ModelError::invalid(WHAT, "model_type is absent")),
        }
        if let Some(architectures) = self.get("architectures") {
            if *architectures != json!(["LlamaForCausalLM"]) {
                return unsupported("architectures", architectures);
            }
        }
        for (name, value) in &self.0 {
            let known = NEUTRAL.contains(&name.as_str()) || READ.contains(&name.as_str());
            if !known && !value.is_null() {
                return unsupported(name, value);
            }
        }
        for name in [
            "attention_bias",
            "mlp_bias",
            "is_encoder_decoder",
            "is_decoder",
        ] {
            if self.flag(name)? == Some(true) {
                return unsupported(name, &Value::Bool(true));
            }
        }
        if let Some(act) = self.get("hidden_act") {
            if act != "silu" && act != "swish" {
                return unsupported("hidden_act", act);
            }
        }
        if let Some(slices) = self.get("pretraining_tp") {
            if *slices != json!(1) {
                return unsupported("pretraining_tp", slices);
            }
        }
        Ok(())
    }

    fn optional_size(&self, name: &str, limit: usize) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let size = value
            .as_u64()
            .ok_or_else(|| ModelError::invalid(WHAT, format!("{name} {value} is not a size")))?;
        if size == 0 || size > limit as u64 {
            return Err(ModelError::invalid(
                WHAT,
                format!("{name} {size} is not between 1 and {limit}"),
            ));
        }
        Ok(Some(size as usize))
    }

    fn size(&self, name: &str, limit: usize) -> Result<usize> {
        self.optional_size(name, limit)?
            .ok_or_else(|| ModelError::invalid(WHAT, format!("{name} is absent")))
    }

    fn number(&self, name: &str) -> Result<f64> {
        number_in(&self.0, name)
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(ModelError::invalid(
                WHAT,
                format!("{name} {other} is not true or false"),
            )),
        }
    }

    /// One id, a list of ids, or none.
    fn tokens(&self, name: &str) -> Result<Vec<u32>> {
        let id = |value: &Value| {
            value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| {
                    ModelError::invalid(WHAT, format!("{name} {value} is not a token id"))
                })
        };
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(many)) => many.iter().map(id).collect(),
            Some(one) => Ok(vec![id(one)?]),
        }
    }

    /// The rotary base and scaling: at the top level and under `rope_scaling` (transformers 4), or
    /// under `rope_parameters` (transformers 5). Where both speak they must agree.
    fn rope(&self) -> Result<(f64, Option<RopeScaling>)> {
        let mut theta = match self.get("rope_theta") {
            Some(_) => Some(self.number("rope_theta")?),
            None => None,
        };
        let mut scaling: Option<Option<RopeScaling>> = None;
        for name in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(name) else {
                continue;
            };
            let object = value.as_object().ok_or_else(|| {
                ModelError::invalid(WHAT, format!("{name} {value} is not an object"))
            })?;
            let (inner_theta, inner) = rope_object(name, object)?;
            if let Some(inner_theta) = inner_theta {
                if theta.is_some_and(|outer| outer != inner_theta) {
                    return Err(ModelError::invalid(
                        WHAT,
                        "rope_theta is given twice and differs",
                    ));
                }
                theta = Some(inner_theta);
            }
            if scaling.as_ref().is_some_and(|earlier| *earlier != inner) {
                return Err(ModelError::invalid(
                    WHAT,
                    "rope_scaling and rope_parameters contradict each other",
                ));
            }
            scaling = Some(inner);
        }
        // Llama 2 folders written before the field existed have none; transformers documents 10000.
        Ok((theta.unwrap_or(10_000.0), scaling.flatten()))
    }
}

/// One `rope_scaling` or `rope_parameters` object: its base, if given, and its scaling.
fn rope_object(
    name: &str,
    object: &Map<String, Value>,
) -> Result<(Option<f64>, Option<RopeScaling>)> {
    let kind = object
        .get("rope_type")
        .or_else(|| object.get("type"))
        .and_then(Value::as_str)
        .ok_or_else(|| ModelError::invalid(WHAT, format!("{name} has no rope_type")))?;
    let fields: &[&str] = match kind {
        "default" => &[],
        "llama3" => &[
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        ],
        other => {
            return Err(ModelError::unsupported(
                WHAT,
                format!("{name}: rope_type \"{other}\""),
            ))
        }
    };
    for (key, value) in object {
        let neutral = key == "partial_rotary_factor" && value.as_f64() == Some(1.0);
        let known = ["rope_type", "type", "rope_theta"].contains(&key.as_str())
            || fields.contains(&key.as_str());
        if !known && !neutral && !value.is_null() {
            return Err(ModelError::unsupported(
                WHAT,
                format!("{name}: {key} = {value}"),
            ));
        }
    }
    let theta = match object.get("rope_theta") {
        Some(Value::Null) | None => None,
        Some(_) => Some(number_in(object, "rope_theta")?),
    };
    if kind == "default" {
        return Ok((theta, None));
    }
    let (factor, low, high) = (
        number_in(object, "factor")?,
        number_in(object, "low_freq_factor")?,
        number_in(object, "high_freq_factor")?,
    );
    let original = number_in(object, "original_max_position_embeddings")?;
    if !(factor >= 1.0 && low > 0.0 && high > low && original >= 1.0 && original.fract() == 0.0) {
        return Err(ModelError::invalid(
            WHAT,
            format!("{name}: needs factor >= 1, 0 < low_freq_factor < high_freq_factor and a whole original_max_position_embeddings"),
        ));
    }
    let scaling = RopeScaling::Llama3 {
        factor,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings: original as usize,
    };
    Ok((theta, Some(scaling)))
}

fn number_in(object: &Map<String, Value>, name: &str) -> Result<f64> {
    object
        .get(name)
        .and_then(Value::as_f64)
        .filter(|number| number.is_finite())
        .ok_or_else(|| ModelError::invalid(WHAT, format!("{name} is absent or not a number")))
}
