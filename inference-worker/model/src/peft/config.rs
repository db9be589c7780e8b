//! `adapter_config.json`.

use std::collections::BTreeMap;

use serde_json::{json, Map, Value};

use super::targets::{ending, Targets};
use super::MAX_RANK;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::site::Site;

/// Most patterns of ranks or alphas.
const MAX_PATTERNS: usize = 2048;

pub(super) const WHAT: &str = "adapter_config.json";

/// Fields that do not enter the forward pass, whatever they hold.
const NEUTRAL: &[&str] = &[
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
];

/// Fields read below. Any other field is refused unless it is null, false or empty, for it may
/// name a variant of LoRA.
const READ: &[&str] = &[
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
];

/// Rank and scale at each site of each layer, `[layer][site]` in the order of [`Site::ALL`]; none
/// where the adapter changes nothing.
pub type Plan = Vec<[Option<(usize, f32)>; 7]>;

/// What an adapter is, apart from its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank, where `rank_pattern` says nothing else.
    pub r: usize,
    /// Numerator of the scale, where `alpha_pattern` says nothing else.
    pub alpha: f64,
    /// The modules that the adapter changes.
    pub targets: Targets,
    /// Modules that it does not change although `targets` names them.
    pub exclude: Option<Targets>,
    /// Ranks of modules whose names match a pattern.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas of modules whose names match a pattern.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Whether the scale is `alpha / √r` (rank-stabilised) rather than `alpha / r`.
    pub use_rslora: bool,
    /// Whether each changed weight has its rows brought to a learned length (DoRA).
    pub use_dora: bool,
    /// Share of inputs dropped in training; of no effect in the forward pass.
    pub dropout: f64,
    /// The base model's name, for people; the chain names it by digest.
    pub base_model_name_or_path: Option<String>,
}

impl LoraConfig {
    /// An adapter of one rank on `targets`, with everything else as PEFT defaults it.
    pub fn new(r: usize, alpha: f64, targets: Targets) -> Self {
        Self {
            r,
            alpha,
            targets,
            exclude: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            use_rslora: false,
            use_dora: false,
            dropout: 0.0,
            base_model_name_or_path: None,
        }
    }

    /// Parses the text of an `adapter_config.json`.
    ///
    /// # Errors
    /// [`ModelError::Json`] if it is not a JSON object, [`ModelError::Unsupported`] for any variant
    /// of LoRA that this crate does not implement, [`ModelError::Invalid`] for values out of bounds.
    pub fn from_json(text: &str) -> Result<Self> {
        let fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|source| ModelError::Json {
                what: WHAT.into(),
                source,
            })?;
        refuse_variants(&fields)?;
        let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let absent = |name: &str| ModelError::invalid(WHAT, format!("{name} is absent"));

        let config = Self {
            r: rank("r", get("r").ok_or_else(|| absent("r"))?)?,
            alpha: number(
                "lora_alpha",
                get("lora_alpha").ok_or_else(|| absent("lora_alpha"))?,
            )?,
            targets: Targets::from_value(
                "target_modules",
                get("target_modules").ok_or_else(|| absent("target_modules"))?,
            )?,
            exclude: get("exclude_modules")
                .map(|value| Targets::from_value("exclude_modules", value))
                .transpose()?,
            rank_pattern: patterns("rank_pattern", get("rank_pattern"), rank)?,
            alpha_pattern: patterns("alpha_pattern", get("alpha_pattern"), number)?,
            use_rslora: flag("use_rslora", get("use_rslora"))?,
            use_dora: flag("use_dora", get("use_dora"))?,
            dropout: match get("lora_dropout") {
                None => 0.0,
                Some(value) => number("lora_dropout", value)?,
            },
            base_model_name_or_path: get("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(str::to_string),
        };
        if !(0.0..1.0).contains(&config.dropout) {
            return Err(ModelError::invalid(
                WHAT,
                format!("lora_dropout {} is not in [0, 1)", config.dropout),
            ));
        }
        Ok(config)
    }

    /// The document that PEFT reads back as the same adapter; the same configuration gives the same
    /// text.
    pub fn to_json(&self) -> String {
        let config = json!({
            "alpha_pattern": self.alpha_pattern,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "exclude_modules": self.exclude.as_ref().map(Targets::to_value),
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": self.rank_pattern,
            "target_modules": self.targets.to_value(),
            "task_type": "CAUSAL_LM",
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        });
        format!("{config:#}\n")
    }

    /// Rank and scale at each site of each layer of `model`.
    ///
    /// # Errors
    /// If the targets reach modules other than the linear layers of the decoder, or none at all; if
    /// two patterns give one module different values.
    pub fn plan(&self, model: &ModelConfig) -> Result<Plan> {
        let targets = self.targets.matcher("target_modules")?;
        let exclude = self
            .exclude
            .as_ref()
            .map(|exclude| exclude.matcher("exclude_modules"))
            .transpose()?;
        let chosen = |module: &str| {
            targets.matches(module)
                && !exclude
                    .as_ref()
                    .is_some_and(|exclude| exclude.matches(module))
        };
        for module in ["lm_head", "model.embed_tokens"] {
            if chosen(module) {
                return Err(ModelError::unsupported(
                    WHAT,
                    format!("target module {module}"),
                ));
            }
        }
        let places = (0..model.num_hidden_layers)
            .flat_map(|layer| Site::ALL.map(|site| (layer, site, site.path(layer))));
        let places: Vec<(usize, Site, String)> =
            places.filter(|(_, _, module)| chosen(module)).collect();
        if places.is_empty() {
            return Err(ModelError::invalid(
                WHAT,
                "target_modules match no linear layer",
            ));
        }
        let modules: Vec<&str> = places.iter().map(|(_, _, module)| &**module).collect();
        let ranks = pick("rank_pattern", &self.rank_pattern, &modules)?;
        let alphas = pick("alpha_pattern", &self.alpha_pattern, &modules)?;
        let mut plan: Plan = vec![[None; 7]; model.num_hidden_layers];
        for (((layer, site, _), rank), alpha) in places.iter().zip(ranks).zip(alphas) {
            let rank = rank.unwrap_or(self.r);
            let alpha = alpha.unwrap_or(self.alpha);
            let divisor = if self.use_rslora {
                (rank as f64).sqrt()
            } else {
                rank as f64
            };
            plan[*layer][site.index()] = Some((rank, (alpha / divisor) as f32));
        }
        Ok(plan)
    }
}

fn refuse_variants(fields: &Map<String, Value>) -> Result<()> {
    let unsupported =
        |name: &str, value: &Value| Err(ModelError::unsupported(WHAT, format!("{name} = {value}")));
    let allowed: [(&str, &[Value]); 5] = [
        ("peft_type", &[json!("LORA")]),
        ("bias", &[json!("none"), Value::Null]),
        ("task_type", &[json!("CAUSAL_LM"), Value::Null]),
        (
            // Other initialisations may have changed the base weights that the adapter sits on.
            "init_lora_weights",
            &[
                json!(true),
                json!(false),
                json!("gaussian"),
                json!("orthogonal"),
                Value::Null,
            ],
        ),
        ("auto_mapping", &[Value::Null]),
    ];
    for (name, values) in allowed {
        let value = fields.get(name).unwrap_or(&Value::Null);
        // What AutoPeftModel needs to find the class of the base.
        let mapping = name == "auto_mapping" && value.is_object();
        if !values.contains(value) && !mapping {
            return unsupported(name, value);
        }
    }
    for (name, value) in fields {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let known = NEUTRAL.contains(&name.as_str()) || READ.contains(&name.as_str());
        if !known && !off {
            return unsupported(name, value);
        }
    }
    Ok(())
}

fn flag(name: &str, value: Option<&Value>) -> Result<bool> {
    match value {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(ModelError::invalid(
            WHAT,
            format!("{name} {other} is not true or false"),
        )),
    }
}

fn rank(name: &str, value: &Value) -> Result<usize> {
    value
        .as_u64()
        .and_then(|rank| usize::try_from(rank).ok())
        .filter(|rank| (1..=MAX_RANK).contains(rank))
        .ok_or_else(|| {
            ModelError::invalid(
                WHAT,
                format!("{name} {value} is not between 1 and {MAX_RANK}"),
            )
        })
}

fn number(name: &str, value: &Value) -> Result<f64> {
    value
        .as_f64()
        .filter(|number| number.is_finite() && number.abs() <= 1e6)
        .ok_or_else(|| ModelError::invalid(WHAT, format!("{name} {value} is not a usable number")))
}

fn patterns<T>(
    name: &str,
    value: Option<&Value>,
    read: impl Fn(&str, &Value) -> Result<T>,
) -> Result<BTreeMap<String, T>> {
    match value {
        None => Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| Ok((key.clone(), read(&format!("{name}: {key}"), value)?)))
            .collect(),
        Some(other) => Err(ModelError::invalid(
            WHAT,
            format!("{name} {other} is not an object"),
        )),
    }
}

/// For each module the value of the pattern that matches it. PEFT takes the first of several in the
/// file's order; a JSON object has no order, so several that differ are refused. Patterns are compiled
/// one at a time: thousands at once would take gigabytes.
fn pick<T: Copy + PartialEq>(
    name: &str,
    patterns: &BTreeMap<String, T>,
    modules: &[&str],
) -> Result<Vec<Option<T>>> {
    if patterns.len() > MAX_PATTERNS {
        let count = patterns.len();
        return Err(ModelError::invalid(
            WHAT,
            format!("{name}: {count} patterns, at most {MAX_PATTERNS}"),
        ));
    }
    let mut found = vec![None; modules.len()];
    for (pattern, value) in patterns {
        let pattern = ending(name, pattern)?;
        for (found, module) in found.iter_mut().zip(modules) {
            if !pattern.is_match(module) {
                continue;
            }
            if found.is_some_and(|other| other != *value) {
                return Err(ModelError::invalid(
                    WHAT,
                    format!("{name}: several patterns match {module}"),
                ));
            }
            *found = Some(*value);
        }
    }
    Ok(found)
}
