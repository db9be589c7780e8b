//! `quantization_config` of a `config.json`, as compressed-tensors writes it: which linear layers are
//! stored as codes, and how.
//!
//! Whatever is not understood in full is refused by name: codes that are read wrongly give a model
//! that answers nonsense.

use regex::Regex;
use serde_json::{json, Map, Value};

use crate::error::{ModelError, Result};

const WHAT: &str = "quantization_config";

/// How the weights of quantised layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// `int-quantized`: integers of eight bits, one to a byte.
    Int8,
    /// `pack-quantized` with eight bits: four integers to a word of 32 bits.
    PackedInt8,
    /// `pack-quantized` with four bits: eight integers to a word of 32 bits.
    PackedInt4,
    /// `float-quantized`: E4M3 floats of eight bits.
    Fp8,
}

impl Packing {
    /// Value of `format`.
    pub fn format(self) -> &'static str {
        match self {
            Packing::Int8 => "int-quantized",
            Packing::PackedInt8 | Packing::PackedInt4 => "pack-quantized",
            Packing::Fp8 => "float-quantized",
        }
    }

    fn bits(self) -> u64 {
        if self == Packing::PackedInt4 {
            4
        } else {
            8
        }
    }
}

/// How many weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// All of a matrix.
    Tensor,
    /// A row.
    Channel,
    /// So many neighbours of a row.
    Group(usize),
}

/// The quantisation of a checkpoint.
#[derive(Clone, Debug)]
pub struct Quantisation {
    /// How quantised weights are stored.
    pub packing: Packing,
    /// How many of them share a scale.
    pub grouping: Grouping,
    ignored: Vec<Ignored>,
}

/// A linear layer that is not quantised.
#[derive(Clone, Debug)]
enum Ignored {
    Name(String),
    Pattern(Regex),
}

impl Quantisation {
    /// Every linear layer stored so, but for those of these names.
    pub fn new(packing: Packing, grouping: Grouping, ignored: &[&str]) -> Self {
        Self {
            packing,
            grouping,
            ignored: ignored
                .iter()
                .map(|name| Ignored::Name((*name).to_owned()))
                .collect(),
        }
    }

    /// Whether the linear layer of this name, such as `model.layers.0.mlp.up_proj` or `lm_head`, is
    /// quantised.
    pub fn covers(&self, module: &str) -> bool {
        !self.ignored.iter().any(|ignored| match ignored {
            Ignored::Name(name) => name == module,
            Ignored::Pattern(pattern) => pattern.is_match(module),
        })
    }

    /// Reads the value of `quantization_config`.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for every field or value that is not read here,
    /// [`ModelError::Invalid`] for what contradicts itself.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = object("", value)?;
        let method = fields.get("quant_method").unwrap_or(&Value::Null);
        if method != "compressed-tensors" {
            return Err(unsupported("quant_method", method));
        }
        for (name, value) in fields {
            let empty = value.is_null() || *value == json!({});
            match name.as_str() {
                "config_groups" | "format" | "ignore" | "quant_method" => {}
                "global_compression_ratio" | "version" => {}
                "quantization_status" if value == "compressed" => {}
                "sparsity_config" if empty || value["format"] == "dense" => {}
                _ if empty => {}
                _ => return Err(unsupported(name, value)),
            }
        }
        let format = text(fields, "format")?;
        let groups = object(
            "config_groups",
            fields.get("config_groups").unwrap_or(&Value::Null),
        )?;
        let mut groups = groups.iter();
        let (Some((_, group)), None) = (groups.next(), groups.next()) else {
            return Err(ModelError::unsupported(
                WHAT,
                "config_groups with other than one group",
            ));
        };
        let (packing, grouping) = scheme(object("config_groups", group)?, format)?;
        Ok(Self {
            packing,
            grouping,
            ignored: ignored(fields.get("ignore"))?,
        })
    }

    /// The value of `quantization_config` that [`Self::from_json`] reads.
    pub fn to_json(&self) -> Value {
        let strategy = match self.grouping {
            Grouping::Tensor => "tensor",
            Grouping::Channel => "channel",
            Grouping::Group(_) => "group",
        };
        let group_size = match self.grouping {
            Grouping::Group(size) => json!(size),
            _ => Value::Null,
        };
        let kind = if self.packing == Packing::Fp8 {
            "float"
        } else {
            "int"
        };
        let ignored: Vec<String> = self
            .ignored
            .iter()
            .map(|ignored| match ignored {
                Ignored::Name(name) => name.clone(),
                Ignored::Pattern(pattern) => format!("re:{pattern}"),
            })
            .collect();
        json!({
            "config_groups": {
                "group_0": {
                    "input_activations": null,
                    "output_activations": null,
                    "targets": ["Linear"],
                    "weights": {
                        "actorder": null,
                        "block_structure": null,
                        "dynamic": false,
                        "group_size": group_size,
                        "num_bits": self.packing.bits(),
                        "strategy": strategy,
                        "symmetric": true,
                        "type": kind,
                    },
                },
            },
            "format": self.packing.format(),
            "ignore": ignored,
            "kv_cache_scheme": null,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        })
    }
}

/// The one group of `config_groups`.
fn scheme(group: &Map<String, Value>, format: &str) -> Result<(Packing, Grouping)> {
    for (name, value) in group {
        match name.as_str() {
            "weights" => {}
            "targets" if *value == json!(["Linear"]) => {}
            "format" if value.is_null() || value == format => {}
            // What is left quantises activations, or is not known.
            "input_activations" | "output_activations" if value.is_null() => {}
            _ => return Err(unsupported(name, value)),
        }
    }
    let weights = object("weights", group.get("weights").unwrap_or(&Value::Null))?;
    for (name, value) in weights {
        match name.as_str() {
            "group_size" | "num_bits" | "strategy" | "type" => {}
            // How the scales were found, not how they are used.
            "observer" | "observer_kwargs" => {}
            "symmetric" if *value == json!(true) => {}
            // Symmetric codes have no zero points.
            "zp_dtype" => {}
            "dynamic" if *value == json!(false) => {}
            // An order by which the codes were chosen; the stored columns keep their own.
            "actorder" if value == "weight" || value == "static" => {}
            "actorder" if *value == json!(false) => {}
            _ if value.is_null() => {}
            _ => return Err(unsupported(name, value)),
        }
    }
    if weights.get("symmetric") != Some(&json!(true)) {
        return Err(ModelError::invalid(WHAT, "symmetric is absent"));
    }
    let bits = weights.get("num_bits").unwrap_or(&Value::Null);
    let packing = match (format, text(weights, "type")?, bits.as_u64()) {
        ("int-quantized", "int", Some(8)) => Packing::Int8,
        ("pack-quantized", "int", Some(8)) => Packing::PackedInt8,
        ("pack-quantized", "int", Some(4)) => Packing::PackedInt4,
        ("float-quantized", "float", Some(8)) => Packing::Fp8,
        (format, kind, _) => {
            return Err(ModelError::unsupported(
                WHAT,
                format!("format \"{format}\" with type \"{kind}\" and num_bits {bits}"),
            ))
        }
    };
    let size = weights.get("group_size").filter(|size| !size.is_null());
    let grouping = match text(weights, "strategy")? {
        "tensor" if packing != Packing::PackedInt4 && packing != Packing::PackedInt8 => {
            Grouping::Tensor
        }
        "channel" => Grouping::Channel,
        "group" if packing != Packing::Fp8 => {
            let size = size.and_then(Value::as_u64).unwrap_or(0);
            if size == 0 || size > 1 << 16 {
                return Err(ModelError::invalid(
                    WHAT,
                    format!("group_size {size} is not between 1 and {}", 1 << 16),
                ));
            }
            return Ok((packing, Grouping::Group(size as usize)));
        }
        other => {
            return Err(ModelError::unsupported(
                WHAT,
                format!("strategy \"{other}\" with format \"{format}\""),
            ))
        }
    };
    match size {
        Some(size) if *size != json!(-1) => Err(unsupported("group_size", size)),
        _ => Ok((packing, grouping)),
    }
}

fn ignored(list: Option<&Value>) -> Result<Vec<Ignored>> {
    let list = match list {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(list) => list,
    };
    let refuse = || unsupported("ignore", list);
    let names = list.as_array().ok_or_else(refuse)?;
    names
        .iter()
        .map(|name| {
            let name = name.as_str().ok_or_else(refuse)?;
            match name.strip_prefix("re:") {
                None if name == "Linear" => Err(refuse()),
                None => Ok(Ignored::Name(name.to_owned())),
                // As Python's `re.match`: from the beginning, to anywhere.
                Some(pattern) => Regex::new(&format!("^(?:{pattern})"))
                    .map(Ignored::Pattern)
                    .map_err(|error| ModelError::invalid(WHAT, format!("ignore: {error}"))),
            }
        })
        .collect()
}

fn object<'a>(name: &str, value: &'a Value) -> Result<&'a Map<String, Value>> {
    let what = if name.is_empty() { WHAT } else { name };
    value
        .as_object()
        .ok_or_else(|| ModelError::invalid(WHAT, format!("{what} {value} is not an object")))
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str> {
    let value = fields.get(name).and_then(Value::as_str);
    value.ok_or_else(|| ModelError::invalid(WHAT, format!("{name} is absent or not a text")))
}

fn unsupported(name: &str, value: &Value) -> ModelError {
    ModelError::unsupported(WHAT, format!("{name} = {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int4() -> Value {
        Quantisation::new(Packing::PackedInt4, Grouping::Group(32), &["lm_head"]).to_json()
    }

    #[test]
    fn what_is_written_should_be_read_again() {
        for (packing, grouping) in [
            (Packing::Int8, Grouping::Channel),
            (Packing::Int8, Grouping::Tensor),
            (Packing::PackedInt8, Grouping::Group(64)),
            (Packing::PackedInt4, Grouping::Group(128)),
            (Packing::Fp8, Grouping::Channel),
        ] {
            let written = Quantisation::new(packing, grouping, &["lm_head"]);
            let read = Quantisation::from_json(&written.to_json()).unwrap();
            assert_eq!((read.packing, read.grouping), (packing, grouping));
            assert!(!read.covers("lm_head"));
            assert!(read.covers("model.layers.0.mlp.up_proj"));
        }
    }

    #[test]
    fn patterns_should_match_from_the_beginning() {
        let mut value = int4();
        value["ignore"] = json!([
            "re:.*lm_head",
            r"re:layers\.1",
            "model.layers.0.mlp.up_proj"
        ]);
        let read = Quantisation::from_json(&value).unwrap();
        assert!(!read.covers("lm_head") && !read.covers("model.layers.0.mlp.up_proj"));
        assert!(read.covers("model.layers.1.mlp.up_proj"));
    }

    #[test]
    fn what_is_not_understood_should_be_refused_by_name() {
        let group = "/config_groups/group_0";
        let weights = "/config_groups/group_0/weights";
        let activations = json!({"num_bits": 8, "dynamic": true});
        let cases = [
            ("", "quant_method", json!("gptq")),
            ("", "quant_method", Value::Null),
            ("", "format", json!("marlin-24")),
            ("", "format", json!("int-quantized")),
            ("", "quantization_status", json!("frozen")),
            ("", "kv_cache_scheme", activations.clone()),
            (
                "",
                "sparsity_config",
                json!({"format": "sparse-24-bitmask"}),
            ),
            ("", "transform_config", json!({"config_groups": {}})),
            ("", "config_groups", json!({})),
            ("", "ignore", json!(["Linear"])),
            ("", "ignore", json!("lm_head")),
            ("", "bits", json!(4)),
            (group, "input_activations", activations.clone()),
            (group, "output_activations", activations),
            (group, "targets", json!(["re:.*q_proj"])),
            (group, "format", json!("nvfp4-pack-quantized")),
            (weights, "actorder", json!("group")),
            (weights, "actorder", json!(true)),
            (weights, "symmetric", json!(false)),
            (weights, "symmetric", Value::Null),
            (weights, "dynamic", json!(true)),
            (weights, "num_bits", json!(3)),
            (weights, "type", json!("float")),
            (weights, "strategy", json!("block")),
            (weights, "strategy", json!("tensor")),
            (weights, "block_structure", json!([128, 128])),
            (weights, "group_size", json!(0)),
            (weights, "scale_dtype", json!("torch.float8_e4m3fn")),
            (weights, "a_field_of_the_future", json!(1)),
        ];
        assert!(Quantisation::from_json(&int4()).is_ok());
        for (path, name, new) in cases {
            let mut value = int4();
            value.pointer_mut(path).unwrap()[name] = new.clone();
            let error = Quantisation::from_json(&value).unwrap_err().to_string();
            assert!(error.contains(name), "{name} = {new}: {error}");
        }
    }
}
