//! All that a model knows of text.

use std::path::Path;
use std::sync::Arc;

use crate::chat::{ChatTemplate, Message};
use crate::error::{Result, TextError};
use crate::stream::StreamDecoder;
use crate::tokenizer::Tokenizer;

/// A model's tokenizer and chat template.
#[derive(Clone, Debug)]
pub struct TextModel {
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<ChatTemplate>>,
}

impl TextModel {
    /// Loads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` from `dir`; the
    /// last two may be absent.
    ///
    /// # Errors
    /// If a file cannot be read or is not understood.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Ok(Self::new(
            Tokenizer::from_dir(dir)?,
            ChatTemplate::from_dir(dir)?,
        ))
    }

    /// The same from the bytes of the three files.
    ///
    /// # Errors
    /// If a file is not understood.
    pub fn from_bytes(
        tokenizer: &[u8],
        config: Option<&[u8]>,
        template: Option<&[u8]>,
    ) -> Result<Self> {
        Ok(Self::new(
            Tokenizer::from_bytes(tokenizer)?,
            ChatTemplate::from_bytes(config, template)?,
        ))
    }

    /// From its parts.
    pub fn new(tokenizer: Tokenizer, template: Option<ChatTemplate>) -> Self {
        Self {
            tokenizer: tokenizer.into(),
            template: template.map(Arc::new),
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token ids that the model is given for a conversation, up to where its answer begins.
    /// Their number is what is charged as input.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`] if the model has none; else if the template refuses the
    /// messages.
    pub fn count_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let template = self.template.as_ref().ok_or(TextError::NoChatTemplate)?;
        self.tokenizer
            .encode(&template.render(messages, true)?, false)
    }

    /// The token ids that the model is given for a plain text.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn count_text(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, true)
    }

    /// A decoder for one answer.
    pub fn stream(&self) -> StreamDecoder {
        StreamDecoder::new(self.tokenizer.clone())
    }
}
