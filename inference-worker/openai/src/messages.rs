//! The messages of a conversation.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::limits::{MESSAGES, TOOLS};
use crate::tools::ToolCall;
use serde::Serialize;
use serde_json::{json, Map, Value};

/// One turn, as chat templates get it: tool calls carry their arguments as objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text; empty where an assistant's turn has tool calls only.
    pub content: String,
    /// Who speaks, if several have the same role; of a tool's turn, the tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What an assistant called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's turn answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// Roles that conversations have.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

impl ChatMessage {
    /// A turn with text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        ChatMessage {
            role: role.into(),
            content: content.into(),
            ..ChatMessage::default()
        }
    }

    pub(crate) fn read_all(list: Option<Vec<Value>>) -> Result<Vec<Self>, ApiError> {
        let list = list.filter(|list| !list.is_empty()).ok_or_else(|| {
            ApiError::invalid(
                "missing_messages",
                format!("`messages` must be a list of 1 to {MESSAGES} messages."),
            )
            .about("messages")
        })?;
        list.into_iter()
            .enumerate()
            .map(|(at, message)| Self::read(message, &format!("messages[{at}]")))
            .collect()
    }

    fn read(message: Value, path: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::of(message, path)?;
        let role = fields
            .string("role")?
            .filter(|role| ROLES.contains(&role.as_str()))
            .ok_or_else(|| {
                ApiError::value(
                    &format!("{path}.role"),
                    format!("`{path}.role` must be one of {}.", ROLES.join(", ")),
                )
            })?;
        let assistant = role == "assistant";
        let calls = match assistant {
            true => fields.list("tool_calls", TOOLS)?.unwrap_or_default(),
            false => Vec::new(),
        };
        let tool_calls = calls
            .into_iter()
            .map(|call| ToolCall::read(call, &format!("{path}.tool_calls")))
            .collect::<Result<Vec<_>, _>>()?;
        let content = match fields.take("content") {
            Some(content) => text_of(content, path)?,
            None if assistant && !tool_calls.is_empty() => String::new(),
            None => return Err(not_text(path)),
        };
        let message = ChatMessage {
            content,
            name: fields.name("name")?,
            tool_call_id: match role == "tool" {
                true => fields.name("tool_call_id")?,
                false => None,
            },
            role,
            tool_calls,
        };
        if assistant {
            // What a client sends back of an answer, when it was empty.
            fields.pass_over(&["refusal", "annotations", "audio", "function_call"]);
        }
        fields.finish()?;
        Ok(message)
    }

    /// As the API has it: arguments of tool calls are strings there.
    pub(crate) fn to_json(&self) -> Value {
        let mut body = Map::new();
        body.insert("role".into(), json!(self.role));
        body.insert("content".into(), json!(self.content));
        if let Some(name) = &self.name {
            body.insert("name".into(), json!(name));
        }
        if !self.tool_calls.is_empty() {
            let calls: Vec<Value> = self.tool_calls.iter().map(ToolCall::to_json).collect();
            body.insert("tool_calls".into(), Value::Array(calls));
        }
        if let Some(id) = &self.tool_call_id {
            body.insert("tool_call_id".into(), json!(id));
        }
        Value::Object(body)
    }
}

fn not_text(path: &str) -> ApiError {
    ApiError::invalid(
        "unsupported_content",
        format!("`{path}.content` must be text: a string, or parts of type `text`."),
    )
    .about(&format!("{path}.content"))
}

/// The text of a content: a string, or a list of parts of type `text`, joined.
fn text_of(content: Value, path: &str) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part.get("type"), part.get("text")) {
                (Some(Value::String(kind)), Some(Value::String(text))) if kind == "text" => {
                    Ok(text.as_str())
                }
                _ => Err(not_text(path)),
            })
            .collect(),
        _ => Err(not_text(path)),
    }
}
