//! Chat templates: messages to the text that the model was trained on.

use std::path::Path;

use minijinja::{context, Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};

use crate::error::{Result, TextError};
use crate::python_json::dumps;
use crate::tokenizer::read;

/// Largest `tokenizer_config.json` or `chat_template.jinja`, bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Instructions that one rendering may take: a template comes from a stranger and may loop.
const FUEL: u64 = 5_000_000;
const NAME: &str = "chat";

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

/// A template with the special tokens that it names.
///
/// Rendered as transformers renders it: blocks trimmed, Python's string and list methods available,
/// `raise_exception` to refuse messages. `strftime_now` does not exist here, on purpose: a prompt
/// must count the same tokens at the gateway and at the worker, whatever the time.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
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
        let template = match (template, config.chat_template) {
            (Some(bytes), _) => Some(
                String::from_utf8(bytes.to_vec())
                    .map_err(|_| TextError::Template("is not UTF-8 text".into()))?,
            ),
            (None, Some(Templates::One(template))) => Some(template),
            (None, Some(Templates::Many(many))) => Some(
                many.into_iter()
                    .find(|named| named.name == "default")
                    .ok_or_else(|| TextError::Config("no chat template is named default".into()))?
                    .template,
            ),
            (None, None) => None,
        };
        template
            .map(|template| {
                let token = |token: Option<Token>| token.map(Token::content);
                Self::new(template, token(config.bos_token), token(config.eos_token))
            })
            .transpose()
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
        environment.add_filter("tojson", |value: Value| {
            dumps(&value).map_err(|reason| Error::new(ErrorKind::BadSerialization, reason))
        });
        environment
            .add_template_owned(NAME, template)
            .map_err(fault)?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// The text of a conversation. With `add_generation_prompt` it ends where the model's answer
    /// begins.
    ///
    /// # Errors
    /// If the template refuses the messages, fails, or takes too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let token = |token: &Option<String>| {
            token
                .as_ref()
                .map_or(Value::UNDEFINED, |token| Value::from(token.as_str()))
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| {
                template.render(context! {
                    messages => messages,
                    add_generation_prompt => add_generation_prompt,
                    bos_token => token(&self.bos),
                    eos_token => token(&self.eos),
                })
            })
            .map_err(fault)
    }
}

fn fault(error: Error) -> TextError {
    TextError::Template(match error.line() {
        Some(line) => format!("{error} (line {line})"),
        None => error.to_string(),
    })
}
