//! Why text could not be turned into tokens, or back.

use std::path::PathBuf;

/// Everything that can go wrong between messages and token ids.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is larger than any of its kind.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest accepted size in bytes.
        limit: u64,
    },
    /// `tokenizer.json` is not understood, or a text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Stop strings without a meaning, or too many.
    #[error("stop strings: {0}")]
    Stop(String),
    /// `tokenizer_config.json` is not understood.
    #[error("tokenizer_config.json: {0}")]
    Config(String),
    /// The folder has no chat template, so messages cannot be rendered.
    #[error("the model has no chat template; send a plain prompt")]
    NoChatTemplate,
    /// The template is broken, or refused these messages.
    #[error("chat template: {0}")]
    Template(String),
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, TextError>;
