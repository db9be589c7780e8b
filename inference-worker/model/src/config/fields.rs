//! The fields of a `config.json`, each read, known to be neutral, or refused by name.

use serde_json::{json, Map, Value};

use super::{Family, WHAT};
use crate::error::{ModelError, Result};
use crate::quantisation::Quantisation;

/// Fields that do not enter the forward pass. `max_window_layers` only
/// chooses the layers of a sliding window, which is refused on its own.
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

/// Fields that are read.
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
    "layer_types",
    "max_position_embeddings",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pretraining_tp",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_mrope",
    "use_sliding_window",
    "vocab_size",
];

/// Flags that must be false or absent, whatever the family.
const MUST_BE_OFF: &[&str] = &[
    "is_decoder",
    "is_encoder_decoder",
    "mlp_bias",
    "use_mrope",
    "use_sliding_window",
];

/// The window that transformers takes for a Mistral configuration that names none, tokens.
const MISTRAL_WINDOW: u64 = 4096;

/// The fields of the document, read with errors that name them.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Parses the document.
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map(Self)
            .map_err(|source| ModelError::Json {
                what: WHAT.into(),
                source,
            })
    }

    /// The family that `model_type` and `architectures` name.
    pub(super) fn family(&self) -> Result<Family> {
        let kind = self
            .get("model_type")
            .ok_or_else(|| ModelError::invalid(WHAT, "model_type is absent"))?;
        let family = kind
            .as_str()
            .and_then(Family::from_model_type)
            .ok_or_else(|| unsupported("model_type", kind))?;
        match self.get("architectures") {
            Some(names) if *names != json!([family.architecture()]) => {
                Err(unsupported("architectures", names))
            }
            _ => Ok(family),
        }
    }

    /// Refuses fields that are not known, and values that this crate does not compute.
    pub(super) fn refuse_what_changes_the_arithmetic(&self, family: Family) -> Result<()> {
        for (name, value) in &self.0 {
            let known = NEUTRAL.contains(&name.as_str()) || READ.contains(&name.as_str());
            if !known && !value.is_null() {
                return Err(unsupported(name, value));
            }
        }
        for name in MUST_BE_OFF {
            if self.flag(name)? == Some(true) {
                return Err(unsupported(name, &Value::Bool(true)));
            }
        }
        // Qwen2 has its biases without a field. In Llama and Qwen3 the field, when true, puts a bias
        // on the output projection as well, which no published model of theirs has.
        if let Some(bias) = self.flag("attention_bias")? {
            if bias != family.qkv_bias() {
                return Err(unsupported("attention_bias", &Value::Bool(bias)));
            }
        }
        if let Some(act) = self.get("hidden_act") {
            if act != "silu" && act != "swish" {
                return Err(unsupported("hidden_act", act));
            }
        }
        if let Some(quantisation) = self.get("quantization_config") {
            // Read again by who opens the checkpoint; here only refused.
            Quantisation::from_json(quantisation)?;
        }
        if let Some(slices) = self.get("pretraining_tp") {
            if *slices != json!(1) {
                return Err(unsupported("pretraining_tp", slices));
            }
        }
        Ok(())
    }

    /// Refuses layers that do not attend to the whole of a context of `context` tokens.
    pub(super) fn refuse_windows(
        &self,
        family: Family,
        layers: usize,
        context: usize,
    ) -> Result<()> {
        if let Some(types) = self.get("layer_types") {
            let full = types.as_array().is_some_and(|types| {
                types.len() == layers && types.iter().all(|kind| kind == "full_attention")
            });
            if !full {
                return Err(unsupported("layer_types", types));
            }
        }
        let window = match self.0.get("sliding_window") {
            None if family == Family::Mistral => {
                if context as u64 > MISTRAL_WINDOW {
                    return Err(ModelError::invalid(
                        WHAT,
                        format!("sliding_window is absent, which means {MISTRAL_WINDOW} tokens of a context of {context}"),
                    ));
                }
                return Ok(());
            }
            None | Some(Value::Null) => return Ok(()),
            Some(window) => window,
        };
        let tokens = window.as_u64().ok_or_else(|| {
            ModelError::invalid(WHAT, format!("sliding_window {window} is not a size"))
        })?;
        // Qwen's configurations carry a window that this flag turns off.
        let off = self.flag("use_sliding_window")? == Some(false);
        if tokens < context as u64 && !off {
            return Err(unsupported("sliding_window", window));
        }
        Ok(())
    }

    /// The number of key and value heads. Llama's first configurations have no such field and as
    /// many as query heads; the other families' defaults are numbers that fit one model of theirs.
    pub(super) fn key_value_heads(&self, family: Family, heads: usize) -> Result<usize> {
        match self.optional_size("num_key_value_heads", 1 << 12)? {
            Some(count) => Ok(count),
            None if family == Family::Llama => Ok(heads),
            None => Err(ModelError::invalid(WHAT, "num_key_value_heads is absent")),
        }
    }

    /// The width of a head: hidden width over heads where the field is absent, but in Qwen3, whose
    /// heads have a width of their own.
    pub(super) fn head_dim(&self, family: Family, hidden: usize, heads: usize) -> Result<usize> {
        let absent = |reason| {
            Err(ModelError::invalid(
                WHAT,
                format!("head_dim is absent{reason}"),
            ))
        };
        match self.optional_size("head_dim", 1 << 12)? {
            Some(width) => Ok(width),
            None if family == Family::Qwen3 => absent(""),
            None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => absent(" and num_attention_heads does not divide hidden_size"),
        }
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

    pub(super) fn size(&self, name: &str, limit: usize) -> Result<usize> {
        self.optional_size(name, limit)?
            .ok_or_else(|| ModelError::invalid(WHAT, format!("{name} is absent")))
    }

    pub(super) fn number(&self, name: &str) -> Result<f64> {
        number_in(&self.0, name)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
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
    pub(super) fn tokens(&self, name: &str) -> Result<Vec<u32>> {
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
}

/// A finite number that must be there.
pub(super) fn number_in(object: &Map<String, Value>, name: &str) -> Result<f64> {
    object
        .get(name)
        .and_then(Value::as_f64)
        .filter(|number| number.is_finite())
        .ok_or_else(|| ModelError::invalid(WHAT, format!("{name} is absent or not a number")))
}

/// The refusal of a field's value.
pub(super) fn unsupported(name: &str, value: &Value) -> ModelError {
    ModelError::unsupported(WHAT, format!("{name} = {value}"))
}
