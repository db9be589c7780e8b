//! The one error type of this crate.

use std::path::PathBuf;

/// What can go wrong between documents and a published adapter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed; the message is candle's.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The model crate refused a configuration, weights or an adapter.
    #[error(transparent)]
    Model(#[from] openledger_model::ModelError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A JSON document does not have the expected shape.
    #[error("{what}: {source}")]
    Json {
        /// Which document.
        what: String,
        /// The parser's reason, with line and column.
        source: serde_json::Error,
    },
    /// The tokenizer could not be trained, read or applied.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The request contradicts itself or the data; the message says what to change.
    #[error("{0}")]
    Invalid(String),
    /// Training was interrupted; the state is in the named checkpoint.
    #[error("interrupted after step {step}{}", resume_hint(checkpoint.as_deref()))]
    Interrupted {
        /// Optimizer steps done so far.
        step: usize,
        /// The folder holding the saved state, if the run has one.
        checkpoint: Option<PathBuf>,
    },
    /// The evaluation found the new adapter worse than what it replaces.
    #[error("not published: {0}")]
    Gate(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps an IO error with the path it concerns.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Wraps a JSON error with the name of the document it concerns.
    pub fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Json { what, source }
    }
}

fn resume_hint(checkpoint: Option<&std::path::Path>) -> String {
    match checkpoint {
        Some(dir) => format!(
            "; the state is in {}, and the same command goes on from there",
            dir.display()
        ),
        None => "; nothing was saved".into(),
    }
}
