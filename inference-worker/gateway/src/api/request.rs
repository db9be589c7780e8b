//! The bodies of OpenAI's chat and text completions, and the canonical body sent to the worker.
//!
//! A field that would change the answer and is not understood is refused by name. Source: the
//! OpenAI API reference for `/v1/chat/completions` and `/v1/completions`.

use crate::{upstream::Endpoint, GatewayError};
use openledger_primitives::RevisionId;
use openledger_text::Message;
use serde::Deserialize;
use serde_json::{json, Map, Value};

/// What the model is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Messages for the chat template.
    Messages(Vec<Message>),
    /// Plain text.
    Text(String),
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; OpenAI's default is 1.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Seed; without it the voucher fixes one.
    pub seed: Option<i64>,
}

/// A request, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Endpoint.
    pub endpoint: Endpoint,
    /// Name or decimal revision.
    pub model: String,
    /// Prompt.
    pub prompt: Prompt,
    /// Output tokens at most; `None` for as many as fit.
    pub max_tokens: Option<u32>,
    /// Sampling.
    pub sampling: Sampling,
    /// Whether to answer by server-sent events.
    pub stream: bool,
    /// Whether a stream ends with usage.
    pub include_usage: bool,
}

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Option<Vec<WireMessage>>,
    prompt: Option<Value>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct WireMessage {
    role: String,
    content: Value,
}

/// Fields that change nothing about the answer.
const INDIFFERENT: [&str; 6] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
];

impl Request {
    /// Parses and validates a body.
    ///
    /// # Errors
    /// [`GatewayError::BadRequest`] that names the field at fault.
    pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Self, GatewayError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            GatewayError::bad(
                "invalid_json",
                "",
                format!("the body cannot be read: {error}"),
            )
        })?;
        for (name, value) in &body.rest {
            if !INDIFFERENT.contains(&name.as_str()) && !is_neutral(name, value) {
                return Err(GatewayError::bad(
                    "unsupported_parameter",
                    name,
                    format!("`{name}` is not supported; leave it out"),
                ));
            }
        }
        if body.n.is_some_and(|n| n != 1) {
            return Err(GatewayError::bad(
                "unsupported_value",
                "n",
                "`n` must be 1: each answer has a voucher of its own",
            ));
        }
        if body
            .temperature
            .is_some_and(|temperature| !(0.0..=2.0).contains(&temperature))
        {
            return Err(GatewayError::bad(
                "invalid_value",
                "temperature",
                "`temperature` must be between 0 and 2",
            ));
        }
        if body
            .top_p
            .is_some_and(|top_p| !(top_p > 0.0 && top_p <= 1.0))
        {
            return Err(GatewayError::bad(
                "invalid_value",
                "top_p",
                "`top_p` must be above 0 and at most 1",
            ));
        }
        let max_tokens = body.max_completion_tokens.or(body.max_tokens);
        if max_tokens == Some(0) {
            return Err(GatewayError::bad(
                "invalid_value",
                "max_tokens",
                "`max_tokens` must be at least 1",
            ));
        }
        Ok(Request {
            endpoint,
            model: body.model,
            prompt: prompt(endpoint, body.messages, body.prompt)?,
            max_tokens,
            sampling: Sampling {
                temperature: body.temperature,
                top_p: body.top_p,
                seed: body.seed,
            },
            stream: body.stream.unwrap_or(false),
            include_usage: body
                .stream_options
                .is_some_and(|options| options.include_usage),
        })
    }

    /// The body that the worker gets and that the voucher commits to.
    pub fn canonical(&self, revision: RevisionId, max_tokens: u32) -> Vec<u8> {
        let mut body = Map::new();
        body.insert("model".into(), json!(revision.to_string()));
        match &self.prompt {
            Prompt::Messages(messages) => body.insert("messages".into(), json!(messages)),
            Prompt::Text(text) => body.insert("prompt".into(), json!(text)),
        };
        body.insert("max_tokens".into(), json!(max_tokens));
        body.insert("stream".into(), json!(true));
        if let Some(temperature) = self.sampling.temperature {
            body.insert("temperature".into(), json!(temperature));
        }
        if let Some(top_p) = self.sampling.top_p {
            body.insert("top_p".into(), json!(top_p));
        }
        if let Some(seed) = self.sampling.seed {
            body.insert("seed".into(), json!(seed));
        }
        Value::Object(body).to_string().into_bytes()
    }
}

fn prompt(
    endpoint: Endpoint,
    messages: Option<Vec<WireMessage>>,
    prompt: Option<Value>,
) -> Result<Prompt, GatewayError> {
    match (endpoint, messages, prompt) {
        (Endpoint::Chat, Some(messages), None) if !messages.is_empty() => messages
            .into_iter()
            .map(|message| Ok(Message::new(message.role, text_of(message.content)?)))
            .collect::<Result<_, _>>()
            .map(Prompt::Messages),
        (Endpoint::Chat, ..) => Err(GatewayError::bad(
            "missing_messages",
            "messages",
            "`messages` must be a list of at least one message, without `prompt`",
        )),
        (Endpoint::Text, None, Some(Value::String(text))) => Ok(Prompt::Text(text)),
        (Endpoint::Text, None, Some(Value::Array(list))) => match list.as_slice() {
            [Value::String(text)] => Ok(Prompt::Text(text.clone())),
            _ => Err(GatewayError::bad(
                "unsupported_value",
                "prompt",
                "`prompt` must be one string",
            )),
        },
        (Endpoint::Text, ..) => Err(GatewayError::bad(
            "invalid_prompt",
            "prompt",
            "`prompt` must be one string, without `messages`",
        )),
    }
}

/// The text of a message's content: a string, or a list of parts of type `text`.
fn text_of(content: Value) -> Result<String, GatewayError> {
    let unsupported = || {
        GatewayError::bad(
            "unsupported_content",
            "messages",
            "`content` must be text: a string, or parts of type `text`",
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
        ("best_of", Value::Number(n)) => n.as_u64() == Some(1),
        ("logprobs" | "echo" | "parallel_tool_calls", Value::Bool(on)) => !on,
        ("logit_bias", Value::Object(map)) => map.is_empty(),
        ("stop" | "tools", Value::Array(list)) => list.is_empty(),
        ("response_format", Value::Object(map)) => map.get("type") == Some(&json!("text")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Request, GatewayError> {
        Request::parse(Endpoint::Chat, body.as_bytes())
    }

    #[test]
    fn an_ordinary_request_is_understood_and_made_canonical() {
        let request = parse(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],
                "temperature":0,"stream":true,"stream_options":{"include_usage":true},"user":"u",
                "seed":7,"frequency_penalty":0,"tools":[],"stop":null}"#,
        )
        .unwrap();
        assert!(request.stream && request.include_usage);
        let canonical: Value = serde_json::from_slice(&request.canonical(12, 40)).unwrap();
        assert_eq!(
            canonical,
            json!({
                "model": "12", "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 40, "stream": true, "temperature": 0.0, "seed": 7,
            })
        );
        assert_eq!(request.canonical(12, 40), request.canonical(12, 40));
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        for (field, param) in [
            (r#""tools":[{"type":"function"}]"#, "tools"),
            (r#""stop":["x"]"#, "stop"),
            (r#""logit_bias":{"5":100}"#, "logit_bias"),
            (
                r#""response_format":{"type":"json_object"}"#,
                "response_format",
            ),
            (r#""n":2"#, "n"),
            (r#""temperature":-1"#, "temperature"),
            (r#""top_p":0"#, "top_p"),
            (r#""max_tokens":0"#, "max_tokens"),
        ] {
            let body =
                format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}],{field}}}"#);
            match parse(&body) {
                Err(GatewayError::BadRequest {
                    param: Some(named), ..
                }) => {
                    assert_eq!(named, param)
                }
                other => panic!("{field}: {other:?}"),
            }
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
