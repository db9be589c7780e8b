//! Requests for completions, of chats and of texts.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::format::Format;
use crate::limits::{
    ALTERNATIVES, ANSWERS, ANSWERS_OF_ALL, MESSAGES, PROMPTS, STOPS, STOP_BYTES, TOOLS,
};
use crate::messages::ChatMessage;
use crate::prompt::{Input, Prompt};
use crate::sampling::Sampling;
use crate::tools::{Tool, ToolChoice};
use serde_json::{json, Map, Value};

/// Which of the two endpoints a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

impl Endpoint {
    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Text => "/v1/completions",
        }
    }
}

/// A request, understood and within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Endpoint.
    pub endpoint: Endpoint,
    /// Name of the model.
    pub model: String,
    /// What it is given.
    pub prompt: Prompt,
    /// Output tokens at most; `None` for as many as fit. 0 only with `echo`.
    pub max_tokens: Option<u32>,
    /// Answers to each prompt.
    pub n: u32,
    /// Whether the prompt is part of the answer (texts only).
    pub echo: bool,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Log-probabilities of tokens, each with this many alternatives.
    pub logprobs: Option<u32>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Whether the model's own end of an answer is passed over.
    pub ignore_eos: bool,
    /// What the answer must look like.
    pub format: Format,
    /// What the model may call; empty where `tool_choice` is none.
    pub tools: Vec<Tool>,
    /// Whether it calls.
    pub tool_choice: ToolChoice,
    /// Whether an answer has one call at most.
    pub one_call: bool,
    /// Further variables of the chat template.
    pub template: Map<String, Value>,
    /// Whether to answer by server-sent events.
    pub stream: bool,
    /// Whether a stream ends with usage.
    pub include_usage: bool,
}

/// Fields that change nothing about an answer here.
const INDIFFERENT: [&str; 8] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "request_id",
];

/// Fields that say nothing with these values, which they have when they are left out: OpenAI's, and those of
/// vLLM that some clients write out.
fn neutral() -> Vec<(&'static str, Value)> {
    vec![
        ("suffix", json!("")),
        ("functions", json!([])),
        ("modalities", json!(["text"])),
        ("echo", json!(false)),
        ("tools", json!([])),
        ("tool_choice", json!("none")),
        ("top_logprobs", json!(0)),
        ("add_generation_prompt", json!(true)),
        ("allowed_token_ids", json!([])),
        ("bad_words", json!([])),
        ("continue_final_message", json!(false)),
        ("detokenize", json!(true)),
        ("early_stopping", json!(false)),
        ("include_reasoning", json!(true)),
        ("include_stop_str_in_output", json!(false)),
        ("length_penalty", json!(1)),
        ("logits_processors", json!([])),
        ("min_tokens", json!(0)),
        ("priority", json!(0)),
        ("return_token_ids", json!(false)),
        ("return_tokens_as_token_ids", json!(false)),
        ("skip_special_tokens", json!(true)),
        ("spaces_between_special_tokens", json!(true)),
        ("stop_token_ids", json!([])),
        ("use_beam_search", json!(false)),
    ]
}

impl Completion {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ApiError`] that names the field which is missing, wrong or not understood.
    pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.name("model")?.ok_or_else(|| {
            ApiError::invalid("missing_model", "`model` must name the model.").about("model")
        })?;
        let chat = endpoint == Endpoint::Chat;
        let prompt = match endpoint {
            Endpoint::Chat => {
                let messages = fields.list("messages", MESSAGES)?;
                Prompt::Messages(ChatMessage::read_all(messages)?)
            }
            Endpoint::Text => {
                let prompt = fields.take("prompt").ok_or_else(|| {
                    ApiError::invalid("invalid_prompt", "`prompt` is missing.").about("prompt")
                })?;
                Prompt::Inputs(Input::read("prompt", prompt, PROMPTS)?)
            }
        };
        let n = fields.whole("n", 1..=ANSWERS)?.unwrap_or(1) as u32;
        if let Some(best_of) = fields.whole("best_of", 1..=u64::MAX)? {
            if best_of != u64::from(n) {
                return Err(ApiError::value(
                    "best_of",
                    "`best_of` must be `n`: every answer that is computed is given.",
                ));
            }
        }
        let echo = !chat && fields.flag("echo")?;
        let max_tokens = max_tokens(&mut fields, chat)?;
        if max_tokens == Some(0) && !echo {
            return Err(ApiError::value(
                "max_tokens",
                "`max_tokens` must be at least 1; only with `echo` it may be 0.",
            ));
        }
        let tools = match chat {
            true => Tool::read_all(fields.list("tools", TOOLS)?.unwrap_or_default())?,
            false => Vec::new(),
        };
        let tool_choice = match chat {
            true => ToolChoice::take(&mut fields, &tools)?,
            false => ToolChoice::Auto,
        };
        let tools = match tool_choice {
            ToolChoice::None => Vec::new(),
            _ => tools,
        };
        let one_call = fields.switch("parallel_tool_calls")? == Some(false);
        let mut completion = Completion {
            endpoint,
            model,
            prompt,
            max_tokens,
            n,
            echo,
            sampling: Sampling::take(&mut fields)?,
            logprobs: logprobs(&mut fields, chat)?,
            stop: stop(&mut fields)?,
            ignore_eos: fields.flag("ignore_eos")?,
            format: Format::take(&mut fields)?,
            one_call: one_call && !tools.is_empty(),
            tools,
            tool_choice,
            template: Map::new(),
            stream: fields.flag("stream")?,
            include_usage: false,
        };
        if chat {
            if let Some(more) = fields.take("chat_template_kwargs") {
                match more {
                    Value::Object(map) => completion.template = map,
                    _ => {
                        return Err(ApiError::value(
                            "chat_template_kwargs",
                            "`chat_template_kwargs` must be an object.",
                        ))
                    }
                }
            }
        }
        if let Some(options) = fields.take("stream_options") {
            let mut options = Fields::of(options, "stream_options")?;
            completion.include_usage = options.flag("include_usage")?;
            // Padding against the measuring of lengths: there is none here.
            options.pass_over(&["include_obfuscation"]);
            options.finish()?;
        }
        completion.pass_over_neutral(&mut fields);
        fields.finish()?;
        completion.check()?;
        Ok(completion)
    }

    /// Drops what clients send although it says nothing.
    fn pass_over_neutral(&self, fields: &mut Fields) {
        fields.pass_over(&INDIFFERENT);
        // Whether a tokenizer adds its own tokens to a prompt: a rendered chat holds them.
        let adds = ("add_special_tokens", json!(self.endpoint == Endpoint::Text));
        for (name, neutral) in neutral().into_iter().chain([adds]) {
            if let Some(value) = fields.take(name) {
                let same = match (value.as_f64(), neutral.as_f64()) {
                    // 1 and 1.0 are the same number.
                    (Some(value), Some(neutral)) => value == neutral,
                    _ => value == neutral,
                };
                if !same {
                    fields.put_back(name, value);
                }
            }
        }
    }

    /// What goes together and what does not.
    fn check(&self) -> Result<(), ApiError> {
        let prompts = match &self.prompt {
            Prompt::Messages(_) => 1,
            Prompt::Inputs(inputs) => inputs.len(),
        };
        if prompts.saturating_mul(self.n as usize) > ANSWERS_OF_ALL {
            return Err(ApiError::value(
                "n",
                format!("One request may ask for at most {ANSWERS_OF_ALL} answers."),
            ));
        }
        if self.tool_choice.is_forced() && self.format != Format::Text {
            return Err(ApiError::value(
                "response_format",
                "A forced call of a tool has its own shape: leave `response_format` out, or the force.",
            ));
        }
        Ok(())
    }

    /// The same request for `model` and at most so many tokens, as a stream, with nothing in it that is
    /// left at its default: what a gateway sends on, and what its voucher commits to. Everything that
    /// changes the answer is in it; parsing it gives this request again.
    pub fn canonical(&self, model: &str, max_tokens: u32) -> Vec<u8> {
        let mut body = Map::new();
        body.insert("model".into(), json!(model));
        match &self.prompt {
            Prompt::Messages(messages) => {
                let list = messages.iter().map(ChatMessage::to_json).collect();
                body.insert("messages".into(), Value::Array(list));
            }
            Prompt::Inputs(inputs) => {
                let prompt = match inputs.as_slice() {
                    [one] => one.to_json(),
                    several => several.iter().map(Input::to_json).collect(),
                };
                body.insert("prompt".into(), prompt);
            }
        }
        body.insert("max_tokens".into(), json!(max_tokens));
        body.insert("stream".into(), json!(true));
        if self.n != 1 {
            body.insert("n".into(), json!(self.n));
        }
        if self.echo {
            body.insert("echo".into(), json!(true));
        }
        self.sampling.write(&mut body);
        if let Some(alternatives) = self.logprobs {
            if self.endpoint == Endpoint::Chat {
                body.insert("logprobs".into(), json!(true));
                body.insert("top_logprobs".into(), json!(alternatives));
            } else {
                body.insert("logprobs".into(), json!(alternatives));
            }
        }
        if !self.stop.is_empty() {
            body.insert("stop".into(), json!(self.stop));
        }
        if self.ignore_eos {
            body.insert("ignore_eos".into(), json!(true));
        }
        self.format.write(&mut body);
        if !self.tools.is_empty() {
            let tools = self.tools.iter().map(Tool::to_json).collect();
            body.insert("tools".into(), Value::Array(tools));
            body.insert("tool_choice".into(), self.tool_choice.to_json());
        }
        if self.one_call {
            body.insert("parallel_tool_calls".into(), json!(false));
        }
        if !self.template.is_empty() {
            let template = Value::Object(self.template.clone());
            body.insert("chat_template_kwargs".into(), template);
        }
        Value::Object(body).to_string().into_bytes()
    }
}

fn max_tokens(fields: &mut Fields, chat: bool) -> Result<Option<u32>, ApiError> {
    let most = u64::from(u32::MAX);
    let old = fields.whole("max_tokens", 0..=most)?;
    let new = match chat {
        true => fields.whole("max_completion_tokens", 0..=most)?,
        false => None,
    };
    // As long as OpenAI says nothing: a text without a bound has 16 tokens there, as many as fit here.
    Ok(new.or(old).map(|tokens| tokens as u32))
}

fn logprobs(fields: &mut Fields, chat: bool) -> Result<Option<u32>, ApiError> {
    if !chat {
        // `false` is what some clients send for none.
        return match fields.take("logprobs") {
            None | Some(Value::Bool(false)) => Ok(None),
            Some(value) => {
                fields.put_back("logprobs", value);
                let asked = fields.whole("logprobs", 0..=ALTERNATIVES)?;
                Ok(asked.map(|alternatives| alternatives as u32))
            }
        };
    }
    let on = fields.flag("logprobs")?;
    let alternatives = fields.whole("top_logprobs", 0..=ALTERNATIVES)?;
    match (on, alternatives) {
        (true, alternatives) => Ok(Some(alternatives.unwrap_or(0) as u32)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ApiError::value(
            "top_logprobs",
            "`top_logprobs` needs `logprobs` to be true.",
        )),
    }
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(value) => vec![value],
    };
    let texts: Option<Vec<String>> = list
        .into_iter()
        .map(|value| match value {
            Value::String(text) if !text.is_empty() && text.len() <= STOP_BYTES => Some(text),
            _ => None,
        })
        .collect();
    texts.filter(|texts| texts.len() <= STOPS).ok_or_else(|| {
        ApiError::value(
            "stop",
            format!("`stop` must be a string, or a list of at most {STOPS}, of 1 to {STOP_BYTES} bytes each."),
        )
    })
}

#[cfg(test)]
mod tests;
