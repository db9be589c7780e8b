//! What shape an answer must have.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::limits::GRAMMAR_BYTES;
use serde_json::{json, Map, Value};

/// The shape of an answer's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON by a schema, as `response_format` asks for it.
    JsonSchema(Value),
    /// The same, as `guided_json` does.
    GuidedJson(Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
}

impl Format {
    pub(crate) fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        let mut asked = Vec::new();
        if let Some(value) = fields.take("response_format") {
            asked.push(response_format(value)?);
        }
        if let Some(value) = fields.take("guided_json") {
            // Clients of vLLM send the schema as it is, or as a string.
            let schema = match value {
                Value::String(text) => serde_json::from_str(&text).map_err(|error| {
                    ApiError::value(
                        "guided_json",
                        format!("`guided_json` is not JSON: {error}."),
                    )
                })?,
                value => value,
            };
            asked.push(Format::GuidedJson(schema_of(schema, "guided_json")?));
        }
        if let Some(pattern) = fields.string("guided_regex")? {
            if pattern.len() > GRAMMAR_BYTES {
                return Err(too_long("guided_regex"));
            }
            asked.push(Format::Regex(pattern));
        }
        asked.retain(|format| *format != Format::Text);
        match asked.len() {
            0 => Ok(Format::Text),
            1 => Ok(asked.remove(0)),
            _ => Err(ApiError::value(
                "response_format",
                "Only one of `response_format`, `guided_json` and `guided_regex` can be asked for.",
            )),
        }
    }

    pub(crate) fn write(&self, body: &mut Map<String, Value>) {
        let format = match self {
            Format::Text => return,
            Format::JsonObject => json!({"type": "json_object"}),
            Format::JsonSchema(schema) => {
                json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
            }
            Format::GuidedJson(schema) => {
                body.insert("guided_json".into(), schema.clone());
                return;
            }
            Format::Regex(pattern) => {
                body.insert("guided_regex".into(), json!(pattern));
                return;
            }
        };
        body.insert("response_format".into(), format);
    }
}

fn response_format(value: Value) -> Result<Format, ApiError> {
    let mut fields = Fields::of(value, "response_format")?;
    let kind = fields.string("type")?.unwrap_or_default();
    let format = match kind.as_str() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema" => {
            let path = "response_format.json_schema";
            let mut inner = Fields::of(fields.take("json_schema").unwrap_or(Value::Null), path)?;
            // Answers are always held to the schema, strict or not; a name and a description are not
            // shown to the model.
            inner.pass_over(&["name", "description", "strict"]);
            let schema = inner
                .take("schema")
                .unwrap_or_else(|| json!({"type": "object"}));
            inner.finish()?;
            Format::JsonSchema(schema_of(schema, "response_format.json_schema.schema")?)
        }
        _ => {
            return Err(ApiError::value(
                "response_format.type",
                "`response_format.type` must be text, json_object or json_schema.",
            ))
        }
    };
    fields.finish()?;
    Ok(format)
}

fn schema_of(schema: Value, param: &str) -> Result<Value, ApiError> {
    if !(schema.is_object() || schema.is_boolean()) {
        return Err(ApiError::value(
            param,
            format!("`{param}` must be a JSON schema."),
        ));
    }
    if schema.to_string().len() > GRAMMAR_BYTES {
        return Err(too_long(param));
    }
    Ok(schema)
}

fn too_long(param: &str) -> ApiError {
    ApiError::value(
        param,
        format!("`{param}` has more than {GRAMMAR_BYTES} bytes."),
    )
}
