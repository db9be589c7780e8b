//! Answers to completions: whole, and as chunks of a stream.

use crate::completion::Endpoint;
use crate::logprobs::{of_chat, of_text, TokenLogprobs};
use crate::tools::ToolCall;
use serde_json::{json, Map, Value};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string.
    Stop,
    /// No more tokens were allowed, or the context is full.
    Length,
    /// It ends in calls of tools.
    ToolCalls,
}

impl Finish {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Which of several.
    pub index: usize,
    /// Its text, without calls of tools.
    pub text: String,
    /// Calls of tools.
    pub tool_calls: Vec<ToolCall>,
    /// If they were asked for.
    pub logprobs: Option<Vec<TokenLogprobs>>,
    /// Why it ended.
    pub finish: Finish,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of its prompts.
    pub prompt_tokens: u64,
    /// Of its answers.
    pub completion_tokens: u64,
}

impl Usage {
    /// The object `usage`.
    pub fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens.saturating_add(self.completion_tokens),
        })
    }
}

/// What every chunk of an answer repeats.
#[derive(Clone, Debug)]
pub struct Head {
    /// Endpoint.
    pub endpoint: Endpoint,
    /// The answer's own name.
    pub id: String,
    /// Unix time, seconds.
    pub created: u64,
    /// The model, as it was asked for.
    pub model: String,
    /// Which weights answer.
    pub fingerprint: Option<String>,
}

impl Head {
    /// The name of an answer from random digits.
    pub fn id_of(endpoint: Endpoint, random: &str) -> String {
        let kind = match endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Text => "cmpl",
        };
        format!("{kind}-{random}")
    }

    fn object(&self, object: &str, choices: Vec<Value>) -> Value {
        let mut body = Map::new();
        body.insert("id".into(), json!(self.id));
        body.insert("object".into(), json!(object));
        body.insert("created".into(), json!(self.created));
        body.insert("model".into(), json!(self.model));
        if let Some(fingerprint) = &self.fingerprint {
            body.insert("system_fingerprint".into(), json!(fingerprint));
        }
        body.insert("choices".into(), Value::Array(choices));
        Value::Object(body)
    }

    fn logprobs(&self, tokens: Option<&[TokenLogprobs]>) -> Value {
        match (tokens, self.endpoint) {
            (None, _) => Value::Null,
            (Some(tokens), Endpoint::Chat) => of_chat(tokens),
            (Some(tokens), Endpoint::Text) => of_text(tokens),
        }
    }

    /// The whole answer.
    pub fn whole(&self, choices: &[Choice], usage: Usage) -> Value {
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion",
            Endpoint::Text => "text_completion",
        };
        let choices = choices
            .iter()
            .map(|choice| {
                let mut value = json!({
                    "index": choice.index,
                    "logprobs": self.logprobs(choice.logprobs.as_deref()),
                    "finish_reason": choice.finish.as_str(),
                });
                if self.endpoint == Endpoint::Text {
                    value["text"] = json!(choice.text);
                    return value;
                }
                let mut message = json!({"role": "assistant", "refusal": null});
                message["content"] = match choice.text.is_empty() && !choice.tool_calls.is_empty() {
                    true => Value::Null,
                    false => json!(choice.text),
                };
                if !choice.tool_calls.is_empty() {
                    message["tool_calls"] =
                        choice.tool_calls.iter().map(ToolCall::to_json).collect();
                }
                value["message"] = message;
                value
            })
            .collect();
        let mut body = self.object(object, choices);
        body["usage"] = usage.to_json();
        body
    }

    fn chunk(&self, index: usize, mut choice: Value, finish: Option<Finish>) -> Value {
        choice["index"] = json!(index);
        choice["finish_reason"] = json!(finish.map(Finish::as_str));
        if choice.get("logprobs").is_none() {
            choice["logprobs"] = Value::Null;
        }
        self.object(self.streamed(), vec![choice])
    }

    fn streamed(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Text => "text_completion",
        }
    }

    /// The chunk that a chat's answer begins with; texts have none.
    pub fn opening(&self, index: usize) -> Option<Value> {
        let delta = json!({"delta": {"role": "assistant", "content": ""}});
        (self.endpoint == Endpoint::Chat).then(|| self.chunk(index, delta, None))
    }

    /// A chunk with text, and the tokens that are in it.
    pub fn delta(&self, index: usize, text: &str, logprobs: Option<&[TokenLogprobs]>) -> Value {
        let mut choice = match self.endpoint {
            Endpoint::Chat => json!({"delta": {"content": text}}),
            Endpoint::Text => json!({"text": text}),
        };
        choice["logprobs"] = self.logprobs(logprobs);
        self.chunk(index, choice, None)
    }

    /// A chunk with a whole call; `position` counts the calls of the answer.
    pub fn call(&self, index: usize, position: usize, call: &ToolCall) -> Value {
        let mut value = call.to_json();
        value["index"] = json!(position);
        self.chunk(index, json!({"delta": {"tool_calls": [value]}}), None)
    }

    /// The chunk that ends an answer.
    pub fn ending(&self, index: usize, finish: Finish) -> Value {
        let choice = match self.endpoint {
            Endpoint::Chat => json!({"delta": {}}),
            Endpoint::Text => json!({"text": ""}),
        };
        self.chunk(index, choice, Some(finish))
    }

    /// The chunk with usage, after the last answer's end.
    pub fn usage(&self, usage: Usage) -> Value {
        let mut body = self.object(self.streamed(), Vec::new());
        body["usage"] = usage.to_json();
        body
    }
}
