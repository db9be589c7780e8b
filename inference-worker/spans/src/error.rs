//! What can go wrong with an index.

use std::path::PathBuf;

/// A failed build or opening. No partial index is left by a build.
#[derive(Debug, thiserror::Error)]
pub enum SpanError {
    /// The operating system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A row that does not come after the row before it.
    #[error("rows must ascend by datanet, version, contribution and row")]
    OutOfOrder,
    /// A row of a version that the index is not bound to.
    #[error("version {version} of datanet {datanet} is not one of the index")]
    UnknownVersion {
        /// Datanet.
        datanet: u32,
        /// Version.
        version: u32,
    },
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Number of ids.
        vocabulary: u32,
    },
    /// A vocabulary of no ids, or of more than 2³¹ − 2.
    #[error("a vocabulary of {0} ids cannot be indexed")]
    Vocabulary(u32),
    /// More tokens than an index of 32-bit positions can hold.
    #[error("more than {} tokens", crate::builder::MAX_TOKENS)]
    TooManyTokens,
    /// There is nothing to index.
    #[error("no rows to index")]
    Empty,
    /// The suffix array could not be built.
    #[error("suffix array: {0}")]
    Suffixes(String),
    /// A file that is not what `index.json` says, or contradicts another.
    #[error("{file} refused: {reason}")]
    Corrupt {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

pub(crate) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> SpanError {
    let path = path.into();
    move |source| SpanError::Io {
        action,
        path,
        source,
    }
}

pub(crate) fn corrupt(file: &'static str, reason: impl Into<String>) -> SpanError {
    SpanError::Corrupt {
        file,
        reason: reason.into(),
    }
}
