//! What an answer may be asked to look like, and what is refused before anything is compiled.

use crate::error::GrammarError;
use serde_json::Value;

/// The most bytes of a schema or a regular expression.
pub const MAX_FORM_BYTES: usize = 64 << 10;

/// How deep a schema may be nested.
pub const MAX_DEPTH: usize = 32;

/// The most values, at any depth, of a schema.
pub const MAX_PARTS: usize = 5_000;

/// The most bytes of a pattern within a schema, and of a regular expression.
pub const MAX_PATTERN_BYTES: usize = 2 << 10;

/// The largest of a schema's lengths and counts.
pub const MAX_NUMBER: usize = 10_000;

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Any JSON object.
    JsonObject,
    /// A JSON text that a schema accepts.
    JsonSchema(Value),
    /// A JSON text that a schema accepts, between two texts that are always there.
    JsonBetween {
        /// What comes first.
        before: String,
        /// The schema.
        schema: Value,
        /// What comes last.
        after: String,
    },
    /// A text that a regular expression, in the syntax of the `regex` crate, matches as a whole.
    Regex(String),
}

/// Keywords whose numbers are how many times something is repeated.
const COUNTS: [&str; 6] = [
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

impl Form {
    /// Refuses what is too large to be worth compiling.
    pub(crate) fn check(&self) -> Result<(), GrammarError> {
        match self {
            Self::JsonObject => Ok(()),
            Self::Regex(pattern) => at_most("regular expression", pattern.len(), MAX_PATTERN_BYTES),
            Self::JsonSchema(schema) | Self::JsonBetween { schema, .. } => {
                // Depth first: whatever else walks a schema does so by recursion.
                at_most("depth of the schema", depth(schema), MAX_DEPTH)?;
                let mut parts = 0;
                check_schema(schema, &mut parts)?;
                at_most("schema", schema.to_string().len(), MAX_FORM_BYTES)
            }
        }
    }
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), GrammarError> {
    if found > most {
        return Err(GrammarError::TooLarge { what, found, most });
    }
    Ok(())
}

/// How deep a value is nested, counted no further than one beyond [`MAX_DEPTH`].
fn depth(value: &Value) -> usize {
    let mut level: Vec<&Value> = vec![value];
    let mut depth = 0;
    while !level.is_empty() && depth <= MAX_DEPTH {
        depth += 1;
        let parts = level.into_iter().flat_map(|value| {
            let (items, members) = (value.as_array(), value.as_object());
            let items = items.into_iter().flatten();
            items.chain(members.into_iter().flat_map(|m| m.values()))
        });
        level = parts.collect();
    }
    depth
}

fn check_schema(schema: &Value, parts: &mut usize) -> Result<(), GrammarError> {
    *parts += 1;
    at_most("number of values in the schema", *parts, MAX_PARTS)?;
    match schema {
        Value::Array(items) => items.iter().try_for_each(|item| check_schema(item, parts)),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| {
            match (key.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(target)) if !target.starts_with('#') => {
                    return Err(GrammarError::Reference(target.clone()));
                }
                ("pattern", Value::String(pattern)) => {
                    at_most("pattern", pattern.len(), MAX_PATTERN_BYTES)?;
                }
                ("patternProperties", Value::Object(patterns)) => {
                    for pattern in patterns.keys() {
                        at_most("pattern", pattern.len(), MAX_PATTERN_BYTES)?;
                    }
                }
                (key, Value::Number(number)) if COUNTS.contains(&key) => {
                    let count = number.as_f64().unwrap_or(f64::INFINITY);
                    if count > MAX_NUMBER as f64 {
                        return Err(GrammarError::TooLarge {
                            what: "count of a repetition in the schema",
                            found: count as usize,
                            most: MAX_NUMBER,
                        });
                    }
                }
                _ => {}
            }
            check_schema(value, parts)
        }),
        _ => Ok(()),
    }
}
