//! Chat templates: messages to the text that the model was trained on.

use std::fmt::Write as _;
use std::path::Path;

use chrono::Utc;
use minijinja::value::Kwargs;
use minijinja::{context, Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::{Result, TextError};
use crate::python_json::{dumps, dumps_indented};
use crate::tokenizer::read;

/// Largest `tokenizer_config.json` or `chat_template.jinja`, bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Instructions that one rendering may take: a template may loop. They do not bound the memory of what it
/// holds in variables, which the engine of templates has no limit for: a string that is doubled a few dozen
/// times is more than any machine has. So templates are read from a base model's folder only, which its
/// operator chose; adapters, which come from strangers, bring none.
const FUEL: u64 = 5_000_000;
/// Bytes of a rendered conversation at most.
const MAX_RENDERED: usize = 8 << 20;
const NAME: &str = "chat";
const WITH_TOOLS: &str = "tools";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`, or whatever else the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// What a template is given beside its special tokens.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a, M> {
    /// The turns, oldest first.
    pub messages: &'a [M],
    /// Functions that the model may call, as the OpenAI API has them.
    pub tools: &'a [Json],
    /// Further variables by name, for switches that a family has.
    pub variables: Option<&'a Map<String, Json>>,
    /// Whether the text ends where the model's answer begins.
    pub add_generation_prompt: bool,
}

impl<'a, M> Conversation<'a, M> {
    /// Turns alone, up to where the model's answer begins.
    pub fn new(messages: &'a [M]) -> Self {
        Self {
            messages,
            tools: &[],
            variables: None,
            add_generation_prompt: true,
        }
    }
}

/// A template with the special tokens that it names.
///
/// Rendered as transformers renders it: blocks trimmed, Python's string and list methods available,
/// `raise_exception` to refuse messages. `strftime_now` exists only by [`Self::with_clock`]: where a
/// prompt must count the same tokens at the gateway and at the worker, the time must not be in it.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: Option<String>,
    eos: Option<String>,
}

/// The parts of `tokenizer_config.json` that enter a prompt.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Many(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Plain(String),
    Detailed { content: String },
}

impl Token {
    fn content(self) -> String {
        match self {
            Token::Plain(content) | Token::Detailed { content } => content,
        }
    }
}

impl ChatTemplate {
    /// Loads the template of `dir`: `chat_template.jinja` if there is one, else `chat_template` in
    /// `tokenizer_config.json`; none if the model has none.
    ///
    /// # Errors
    /// If a file cannot be read or the template does not parse.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>> {
        let optional = |name: &str| match read(&dir.join(name), MAX_BYTES) {
            Err(TextError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            other => other.map(Some),
        };
        let config = optional("tokenizer_config.json")?;
        let template = optional("chat_template.jinja")?;
        Self::from_bytes(config.as_deref(), template.as_deref())
    }

    /// The same from the bytes of `tokenizer_config.json` and `chat_template.jinja`.
    ///
    /// # Errors
    /// If the bytes are not what they should be or the template does not parse.
    pub fn from_bytes(config: Option<&[u8]>, template: Option<&[u8]>) -> Result<Option<Self>> {
        let config: TokenizerConfig = match config {
            Some(bytes) => {
                serde_json::from_slice(bytes).map_err(|e| TextError::Config(e.to_string()))?
            }
            None => TokenizerConfig::default(),
        };
        let mut with_tools = None;
        let template =
            match (template, config.chat_template) {
                (Some(bytes), _) => Some(
                    String::from_utf8(bytes.to_vec())
                        .map_err(|_| TextError::Template("is not UTF-8 text".into()))?,
                ),
                (None, Some(Templates::One(template))) => Some(template),
                (None, Some(Templates::Many(many))) => {
                    let named = |name: &str| {
                        let at = many.iter().position(|template| template.name == name)?;
                        Some(many[at].template.clone())
                    };
                    with_tools = named("tool_use");
                    Some(named("default").ok_or_else(|| {
                        TextError::Config("no chat template is named default".into())
                    })?)
                }
                (None, None) => None,
            };
        let token = |token: Option<Token>| token.map(Token::content);
        let Some(template) = template else {
            return Ok(None);
        };
        let mut template = Self::new(template, token(config.bos_token), token(config.eos_token))?;
        if let Some(with_tools) = with_tools {
            template.source.push_str(&with_tools);
            template
                .environment
                .add_template_owned(WITH_TOOLS, with_tools)
                .map_err(fault)?;
        }
        Ok(Some(template))
    }

    /// A template from its source and the tokens it may name.
    ///
    /// # Errors
    /// If the template does not parse.
    pub fn new(template: String, bos: Option<String>, eos: Option<String>) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |reason: String| -> std::result::Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, reason))
            },
        );
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, template.clone())
            .map_err(fault)?;
        Ok(Self {
            environment,
            source: template,
            bos,
            eos,
        })
    }

    /// The template's text, of all its variants.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The same with `strftime_now`: templates may write the date, UTC, into a prompt.
    pub fn with_clock(mut self) -> Self {
        self.environment.add_function("strftime_now", strftime_now);
        self
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// If the template refuses the messages, fails, or takes or writes too much.
    pub fn render<M: Serialize>(&self, conversation: &Conversation<'_, M>) -> Result<String> {
        let token = |token: &Option<String>| {
            token
                .as_ref()
                .map_or(Value::UNDEFINED, |token| Value::from(token.as_str()))
        };
        let tools = match conversation.tools {
            [] => Value::from(()),
            tools => tools
                .iter()
                .map(template_value)
                .collect::<Result<Value>>()?,
        };
        let name = match self.environment.get_template(WITH_TOOLS) {
            Ok(_) if !conversation.tools.is_empty() => WITH_TOOLS,
            _ => NAME,
        };
        let messages = serde_json::to_value(conversation.messages)
            .map_err(|error| TextError::Template(error.to_string()))?;
        let own = context! {
            messages => template_value(&messages)?,
            tools => tools,
            documents => Value::from(()),
            add_generation_prompt => conversation.add_generation_prompt,
            bos_token => token(&self.bos),
            eos_token => token(&self.eos),
        };
        let mut rendered = Bounded::default();
        let template = self.environment.get_template(name).map_err(fault)?;
        let result = match conversation.variables {
            // What the template is given by name cannot take the place of the conversation.
            Some(more) => {
                let more = map_value(more)?;
                template.render_captured_to(context! { ..own, ..more }, &mut rendered)
            }
            None => template.render_captured_to(own, &mut rendered),
        };
        if rendered.full {
            return Err(TextError::Template("it writes too much".into()));
        }
        result.map_err(fault)?;
        String::from_utf8(rendered.bytes).map_err(|error| TextError::Template(error.to_string()))
    }
}

/// Takes what is rendered, up to a size that no prompt has.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > MAX_RENDERED {
            self.full = true;
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A JSON value as templates see it. Not by `Value::from_serialize`: where any crate of a build turns
/// on serde_json's `arbitrary_precision`, that makes a number a map with a private key.
fn template_value(json: &Json) -> Result<Value> {
    Ok(match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (_, _, Some(number)) if number.is_finite() => Value::from(number),
            _ => return Err(TextError::Template(format!("{number} is out of range"))),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => list.iter().map(template_value).collect::<Result<Value>>()?,
        Json::Object(map) => map_value(map)?,
    })
}

fn map_value(map: &Map<String, Json>) -> Result<Value> {
    map.iter()
        .map(|(key, json)| Ok((key.as_str(), template_value(json)?)))
        .collect::<Result<Vec<_>>>()
        .map(Value::from_iter)
}

/// The filter `tojson` as transformers has it; `ensure_ascii` is false there.
fn to_json(value: Value, options: Kwargs) -> std::result::Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    let bad = |reason| Error::new(ErrorKind::BadSerialization, reason);
    let text = match indent {
        Some(indent) if indent <= 16 => dumps_indented(&value, indent).map_err(bad)?,
        Some(_) => return Err(bad("an indent is at most 16".to_owned())),
        None => dumps(&value).map_err(bad)?,
    };
    options.assert_all_used()?;
    Ok(text)
}

fn strftime_now(format: &str) -> std::result::Result<String, Error> {
    let mut text = String::new();
    write!(text, "{}", Utc::now().format(format)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidOperation,
            "the format of strftime_now is not understood",
        )
    })?;
    Ok(text)
}

fn fault(error: Error) -> TextError {
    TextError::Template(match error.line() {
        Some(line) => format!("{error} (line {line})"),
        None => error.to_string(),
    })
}
