//! The bodies of OpenAI's chat and text completions that this worker understands.
//!
//! A field that would change the answer and is not understood is refused, so that nobody gets an
//! answer other than the one asked for. Source: the OpenAI API reference for
//! `/v1/chat/completions` and `/v1/completions`.

use super::error::ApiError;
use openledger_text::Message;
use serde::Deserialize;
use serde_json::{json, Map, Value};

/// Which of the two endpoints a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// What the model is given.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Messages, to be rendered by the base model's chat template.
    Messages(Vec<Message>),
    /// Plain text.
    Text(String),
}

/// A request, validated.
#[derive(Clone, Debug)]
pub struct CompletionRequest {
    /// Alias or decimal revision id.
    pub model: String,
    /// Prompt.
    pub prompt: Prompt,
    /// Most output tokens; `None` leaves it to the voucher.
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus.
    pub top_p: f32,
    /// Sampler seed; `None` takes the voucher's.
    pub seed: Option<i64>,
    /// Whether to answer by server-sent events.
    pub stream: bool,
}

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Option<Vec<WireMessage>>,
    prompt: Option<Value>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<i64>,
    #[serde(default)]
    stream: bool,
    n: Option<u32>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct WireMessage {
    role: String,
    content: Value,
}

/// Fields that change nothing about the answer here and are accepted.
const INDIFFERENT: [&str; 7] = [
    // Usage is always sent: it is what the receipt charges.
    "stream_options",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
];

impl CompletionRequest {
    /// Parses and validates a body.
    pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Self, ApiError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            ApiError::invalid("invalid_json", format!("The body cannot be read: {error}."))
        })?;
        for (name, value) in &body.rest {
            if !INDIFFERENT.contains(&name.as_str()) && !is_neutral(name, value) {
                return Err(ApiError::invalid(
                    "unsupported_parameter",
                    format!("`{name}` is not supported. Leave it out."),
                ));
            }
        }
        if body.n.is_some_and(|n| n != 1) {
            return Err(ApiError::invalid(
                "unsupported_value",
                "`n` must be 1: each answer has a voucher of its own.",
            ));
        }
        let temperature = body.temperature.unwrap_or(1.0);
        if !(0.0..=2.0).contains(&temperature) {
            return Err(ApiError::invalid(
                "invalid_value",
                "`temperature` must be between 0 and 2.",
            ));
        }
        let top_p = body.top_p.unwrap_or(1.0);
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(ApiError::invalid(
                "invalid_value",
                "`top_p` must be above 0 and at most 1.",
            ));
        }
        let max_tokens = body.max_completion_tokens.or(body.max_tokens);
        if max_tokens == Some(0) {
            return Err(ApiError::invalid(
                "invalid_value",
                "`max_tokens` must be at least 1.",
            ));
        }
        Ok(CompletionRequest {
            model: body.model,
            prompt: prompt(endpoint, body.messages, body.prompt)?,
            max_tokens,
            temperature,
            top_p,
            seed: body.seed,
            stream: body.stream,
        })
    }
}

fn prompt(
    endpoint: Endpoint,
    messages: Option<Vec<WireMessage>>,
    prompt: Option<Value>,
) -> Result<Prompt, ApiError> {
    match (endpoint, messages, prompt) {
        (Endpoint::Chat, Some(messages), None) if !messages.is_empty() => messages
            .into_iter()
            .map(|message| {
                Ok(Message {
                    role: message.role,
                    content: text_of(message.content)?,
                })
            })
            .collect::<Result<_, _>>()
            .map(Prompt::Messages),
        (Endpoint::Chat, ..) => Err(ApiError::invalid(
            "missing_messages",
            "`messages` must be a list of at least one message, without `prompt`.",
        )),
        (Endpoint::Text, None, Some(Value::String(text))) => Ok(Prompt::Text(text)),
        (Endpoint::Text, ..) => Err(ApiError::invalid(
            "invalid_prompt",
            "`prompt` must be one string, without `messages`.",
        )),
    }
}

/// The text of a message's content: a string, or a list of parts of type `text`.
fn text_of(content: Value) -> Result<String, ApiError> {
    let unsupported = || {
        ApiError::invalid(
            "unsupported_content",
            "`content` must be text: a string, or parts of type `text`.",
        )
    };
    match content {
        Value::String(text) => Ok(text),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part.get("type"), part.get("text")) {
                (Some(Value::String(kind)), Some(Value::String(text))) if kind == "text" => {
                    Ok(text.as_str())
                }
                _ => Err(unsupported()),
            })
            .collect(),
        _ => Err(unsupported()),
    }
}

/// Whether a field that is not supported has the value it has when left out.
fn is_neutral(name: &str, value: &Value) -> bool {
    match (name, value) {
        (_, Value::Null) => true,
        ("frequency_penalty" | "presence_penalty", Value::Number(n)) => n.as_f64() == Some(0.0),
        ("logprobs" | "echo" | "parallel_tool_calls", Value::Bool(on)) => !on,
        ("logit_bias", Value::Object(map)) => map.is_empty(),
        ("stop" | "tools", Value::Array(list)) => list.is_empty(),
        ("response_format", Value::Object(map)) => map.get("type") == Some(&json!("text")),
        _ => false,
    }
}

/// Tokens charged for one answer, as OpenAI reports them.
pub fn usage(tokens_in: u32, tokens_out: u32) -> Value {
    json!({
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in.saturating_add(tokens_out),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::parse(Endpoint::Chat, body.as_bytes())
    }

    #[test]
    fn an_ordinary_chat_request_is_understood() {
        let request = parse(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],
                "temperature":0,"stream":true,"stream_options":{"include_usage":true},"user":"u",
                "frequency_penalty":0,"tools":[]}"#,
        )
        .unwrap();
        assert!(request.stream);
        assert!(matches!(request.prompt, Prompt::Messages(m) if m[0].content == "Hi"));
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        for field in [
            r#""tools":[{"type":"function"}]"#,
            r#""logit_bias":{"5":100}"#,
            r#""response_format":{"type":"json_object"}"#,
            r#""n":2"#,
            r#""temperature":-1"#,
            r#""top_p":0"#,
            r#""max_tokens":0"#,
            r#""prompt":"x""#,
        ] {
            let body =
                format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}],{field}}}"#);
            assert!(parse(&body).is_err(), "{field} was accepted");
        }
        for body in [
            "",
            "{",
            "[]",
            r#"{"model":"m"}"#,
            r#"{"model":"m","messages":[]}"#,
        ] {
            assert!(parse(body).is_err(), "{body} was accepted");
        }
    }
}
