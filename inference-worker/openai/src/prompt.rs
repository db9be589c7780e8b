//! What a model is given: messages, or texts, or token ids.

use crate::error::ApiError;
use crate::messages::ChatMessage;
use serde_json::{json, Value};

/// The prompt of a completion.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Messages, to be rendered by the model's chat template.
    Messages(Vec<ChatMessage>),
    /// One or more prompts, each answered by itself.
    Inputs(Vec<Input>),
}

/// One prompt of a text completion, or one text to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Text, to be encoded by the model's tokenizer.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
}

impl Input {
    /// Reads the four shapes: a string, a list of strings, a list of token ids, a list of those.
    pub(crate) fn read(param: &str, value: Value, most: usize) -> Result<Vec<Self>, ApiError> {
        let wrong = || {
            ApiError::value(
                param,
                format!(
                    "`{param}` must be a string, a list of strings, a list of token ids, or a list of \
                     such lists; at most {most} of them, none empty."
                ),
            )
        };
        let list = match value {
            Value::String(text) => return Ok(vec![Input::Text(text)]),
            Value::Array(list) if !list.is_empty() => list,
            _ => return Err(wrong()),
        };
        if list.iter().all(Value::is_number) {
            return Ok(vec![Input::Tokens(ids(&list).ok_or_else(wrong)?)]);
        }
        if list.len() > most {
            return Err(wrong());
        }
        list.into_iter()
            .map(|entry| match entry {
                Value::String(text) => Ok(Input::Text(text)),
                Value::Array(list) if !list.is_empty() => {
                    Ok(Input::Tokens(ids(&list).ok_or_else(wrong)?))
                }
                _ => Err(wrong()),
            })
            .collect()
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Input::Text(text) => json!(text),
            Input::Tokens(ids) => json!(ids),
        }
    }
}

fn ids(list: &[Value]) -> Option<Vec<u32>> {
    list.iter()
        .map(|id| u32::try_from(id.as_u64()?).ok())
        .collect()
}
