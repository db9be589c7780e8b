//! `config.json` of a Llama, Mistral, Qwen2 or Qwen3 model, as transformers 4 and 5 write it.
//!
//! What changes the arithmetic is read or refused by name, never defaulted; the few defaults taken
//! are those that transformers itself documents for the family, because published folders rely on
//! them. A field that this module has never heard of is refused: it might change the arithmetic.

mod family;
mod fields;
mod rope;

use std::path::Path;

use serde_json::{json, Map, Value};

pub use family::Family;
use fields::Fields;

use crate::checkpoint;
use crate::error::{ModelError, Result};
use crate::folder;
use crate::site::Site;

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

/// The shape of a model and the constants of its arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family: which biases and norms its decoder layers have beside Llama's.
    pub family: Family,
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

impl ModelConfig {
    /// Reads `config.json` in `dir`; without one, the metadata of the GGUF file there.
    ///
    /// # Errors
    /// Those of [`Self::from_json`], and of reading the file.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        if !folder::holds(dir, WHAT) {
            if let Some(name) = checkpoint::gguf_name(dir)? {
                return checkpoint::gguf_config(dir, &name);
            }
        }
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
        let fields = Fields::parse(text)?;
        let family = fields.family()?;
        fields.refuse_what_changes_the_arithmetic(family)?;

        let hidden_size = fields.size("hidden_size", 1 << 16)?;
        let num_attention_heads = fields.size("num_attention_heads", 1 << 12)?;
        let num_hidden_layers = fields.size("num_hidden_layers", 1 << 10)?;
        let max_position_embeddings = fields.size("max_position_embeddings", 1 << 24)?;
        fields.refuse_windows(family, num_hidden_layers, max_position_embeddings)?;
        let (rope_theta, rope_scaling) = fields.rope(family)?;
        let config = Self {
            family,
            vocab_size: fields.size("vocab_size", 1 << 21)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", 1 << 18)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: fields.key_value_heads(family, num_attention_heads)?,
            head_dim: fields.head_dim(family, hidden_size, num_attention_heads)?,
            rms_norm_eps: fields.number("rms_norm_eps")?,
            rope_theta,
            rope_scaling,
            max_position_embeddings,
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
        let mut fields = vec![
            ("architectures", json!([self.family.architecture()])),
            ("bos_token_id", json!(self.bos_token_id)),
            ("eos_token_id", json!(eos)),
            ("head_dim", json!(self.head_dim)),
            ("hidden_act", json!("silu")),
            ("hidden_size", json!(self.hidden_size)),
            ("intermediate_size", json!(self.intermediate_size)),
            (
                "max_position_embeddings",
                json!(self.max_position_embeddings),
            ),
            ("model_type", json!(self.family.model_type())),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("num_hidden_layers", json!(self.num_hidden_layers)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("rms_norm_eps", json!(self.rms_norm_eps)),
            ("rope_scaling", json!(rope_scaling)),
            ("rope_theta", json!(self.rope_theta)),
            ("tie_word_embeddings", json!(self.tie_word_embeddings)),
            ("vocab_size", json!(self.vocab_size)),
        ];
        // What the family's own defaults would turn on, or what readers look for, is said to be off.
        fields.extend(match self.family {
            Family::Llama => vec![("attention_bias", json!(false)), ("mlp_bias", json!(false))],
            Family::Mistral => vec![("sliding_window", Value::Null)],
            Family::Qwen2 => vec![("use_sliding_window", json!(false))],
            Family::Qwen3 => vec![
                ("attention_bias", json!(false)),
                ("use_sliding_window", json!(false)),
            ],
        });
        // In this order whatever serde_json was built with: the same configuration gives the same
        // bytes.
        fields.sort_by_key(|(name, _)| *name);
        let config: Map<String, Value> = fields
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect();
        format!("{:#}\n", Value::Object(config))
    }

    /// Number of parameters, the embedding counted once if it is tied.
    pub fn parameters(&self) -> u64 {
        let matrices: usize = Site::ALL
            .iter()
            .map(|site| {
                let (rows, columns) = site.shape(self);
                rows * columns
            })
            .sum();
        let biases: usize = Site::ALL
            .iter()
            .filter(|site| site.has_bias(self.family))
            .map(|site| site.shape(self).0)
            .sum();
        let head_norms = if self.family.qk_norm() {
            2 * self.head_dim
        } else {
            0
        };
        let heads = if self.tie_word_embeddings { 1 } else { 2 };
        let per_layer = matrices + biases + head_norms + 2 * self.hidden_size;
        (self.num_hidden_layers * per_layer
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
