//! The rotary base and scaling of a `config.json`, in the spellings of transformers 4 and 5.

use serde_json::{Map, Value};

use super::fields::{number_in, Fields};
use super::{Family, RopeScaling, WHAT};
use crate::error::{ModelError, Result};

impl Fields {
    /// The rotary base and scaling: at the top level and under `rope_scaling` (transformers 4), or
    /// under `rope_parameters` (transformers 5). Where both speak they must agree.
    pub(super) fn rope(&self, family: Family) -> Result<(f64, Option<RopeScaling>)> {
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
        let theta = match theta {
            Some(theta) => theta,
            // Folders of Llama 2 written before the field existed have none; transformers documents
            // 10000.
            None if family == Family::Llama => 10_000.0,
            None => return Err(ModelError::invalid(WHAT, "rope_theta is absent")),
        };
        Ok((theta, scaling.flatten()))
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
