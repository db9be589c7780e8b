//! From messages to token ids and back.
//!
//! The gateway counts the tokens of a prompt before it signs for them, and the worker counts them
//! before it serves them; both call [`TextModel::count_prompt`] on the same three files, so that the
//! counts agree by construction. Nothing here depends on the locale or the machine, nor, unless a
//! server without a gateway asks for it, on the clock.

mod chat;
mod error;
mod model;
mod python_json;
mod stop;
mod stream;
mod token_bytes;
mod tokenizer;

pub use chat::{ChatTemplate, Conversation, Message};
pub use error::{Result, TextError};
pub use model::TextModel;
pub use stop::{Scanned, StopStrings, MAX_STOPS, MAX_STOP_BYTES};
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
