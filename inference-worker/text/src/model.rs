//! All that a model knows of text.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::chat::{ChatTemplate, Conversation};
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

    /// The chat template, if there is one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_deref()
    }

    /// The same with the time in chat templates that ask for it; see [`ChatTemplate::with_clock`].
    pub fn with_clock(self) -> Self {
        let template = self.template;
        Self {
            tokenizer: self.tokenizer,
            template: template.map(|template| Arc::new((*template).clone().with_clock())),
        }
    }

    /// The token ids that the model is given for messages, up to where its answer begins.
    /// Their number is what is charged as input.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`] if the model has none; else if the template refuses the
    /// messages.
    pub fn count_prompt<M: Serialize>(&self, messages: &[M]) -> Result<Vec<u32>> {
        self.count_conversation(&Conversation::new(messages))
    }

    /// The same with tools and whatever else a conversation has.
    ///
    /// # Errors
    /// As [`Self::count_prompt`].
    pub fn count_conversation<M: Serialize>(
        &self,
        conversation: &Conversation<'_, M>,
    ) -> Result<Vec<u32>> {
        let template = self.template.as_ref().ok_or(TextError::NoChatTemplate)?;
        self.tokenizer
            .encode(&template.render(conversation)?, false)
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
