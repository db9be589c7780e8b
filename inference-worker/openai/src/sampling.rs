//! How tokens are drawn.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::limits::BIASED_TOKENS;
use serde_json::{json, Map, Value};

/// The numbers that decide over draws.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// From 0, which is greedy, to 2.
    pub temperature: f64,
    /// Keeps the most probable tokens up to this mass.
    pub top_p: f64,
    /// Keeps this many of the most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens that are at least so probable, as a part of the most probable one.
    pub min_p: f64,
    /// From -2 to 2.
    pub frequency_penalty: f64,
    /// From -2 to 2.
    pub presence_penalty: f64,
    /// Above 0; 1 changes nothing.
    pub repetition_penalty: f64,
    /// Added to the logits of tokens, from -100 to 100, by ascending token.
    pub logit_bias: Vec<(u32, f64)>,
    /// Without one, the server takes its own.
    pub seed: Option<i64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl Sampling {
    pub(crate) fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        let none = Sampling::default();
        let top_p = fields.number("top_p", 0.0..=1.0)?.unwrap_or(none.top_p);
        if top_p == 0.0 {
            return Err(ApiError::value(
                "top_p",
                "`top_p` must be above 0 and at most 1.",
            ));
        }
        // vLLM's way to keep all is -1.
        let top_k = match fields.signed("top_k")? {
            None | Some(-1) => 0,
            Some(k) => u32::try_from(k).map_err(|_| {
                ApiError::value("top_k", "`top_k` must be -1 or 0, to keep all, or above.")
            })?,
        };
        let repetition_penalty = fields
            .number("repetition_penalty", 0.0..=10.0)?
            .unwrap_or(none.repetition_penalty);
        if repetition_penalty == 0.0 {
            return Err(ApiError::value(
                "repetition_penalty",
                "`repetition_penalty` must be above 0 and at most 10.",
            ));
        }
        Ok(Sampling {
            temperature: fields
                .number("temperature", 0.0..=2.0)?
                .unwrap_or(none.temperature),
            top_p,
            top_k,
            min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(none.min_p),
            frequency_penalty: fields
                .number("frequency_penalty", -2.0..=2.0)?
                .unwrap_or(0.0),
            presence_penalty: fields
                .number("presence_penalty", -2.0..=2.0)?
                .unwrap_or(0.0),
            repetition_penalty,
            logit_bias: bias(fields)?,
            seed: fields.signed("seed")?,
        })
    }

    /// Writes what differs from the default.
    pub(crate) fn write(&self, body: &mut Map<String, Value>) {
        let none = Sampling::default();
        let mut put = |name: &str, value: f64, default: f64| {
            if value != default {
                body.insert(name.into(), json!(value));
            }
        };
        put("temperature", self.temperature, none.temperature);
        put("top_p", self.top_p, none.top_p);
        put("min_p", self.min_p, none.min_p);
        put("frequency_penalty", self.frequency_penalty, 0.0);
        put("presence_penalty", self.presence_penalty, 0.0);
        put(
            "repetition_penalty",
            self.repetition_penalty,
            none.repetition_penalty,
        );
        if self.top_k != 0 {
            body.insert("top_k".into(), json!(self.top_k));
        }
        if !self.logit_bias.is_empty() {
            let bias = self.logit_bias.iter();
            let bias: Map<String, Value> = bias.map(|(t, b)| (t.to_string(), json!(b))).collect();
            body.insert("logit_bias".into(), Value::Object(bias));
        }
        if let Some(seed) = self.seed {
            body.insert("seed".into(), json!(seed));
        }
    }
}

fn bias(fields: &mut Fields) -> Result<Vec<(u32, f64)>, ApiError> {
    let wrong = || {
        ApiError::value(
            "logit_bias",
            format!("`logit_bias` must map at most {BIASED_TOKENS} token ids to numbers from -100 to 100."),
        )
    };
    let map = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) if map.len() <= BIASED_TOKENS => map,
        Some(_) => return Err(wrong()),
    };
    let mut bias = map
        .iter()
        .map(|(token, bias)| {
            let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
            Some((token.parse().ok()?, bias?))
        })
        .collect::<Option<Vec<(u32, f64)>>>()
        .ok_or_else(wrong)?;
    bias.sort_by_key(|(token, _)| *token);
    if bias.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(wrong());
    }
    Ok(bias)
}
