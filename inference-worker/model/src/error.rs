//! Why a model or an adapter was refused.

use std::path::PathBuf;

/// Everything that can go wrong between a folder on disk and logits.
///
/// Each variant names the file, the tensor or the field at fault, so that the message alone tells
/// the user what to change.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is larger than anything a model of this configuration can need.
    #[error("{}: {size} bytes, at most {limit} are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The largest accepted size in bytes.
        limit: u64,
    },
    /// A file is a link that leads out of the folder it was named in.
    #[error(
        "{}: leads outside its folder, and such links are not followed. The Hugging Face cache is made of them: \
         `hf download NAME --local-dir DIR` writes a folder of files",
        path.display()
    )]
    OutsideFolder {
        /// The file.
        path: PathBuf,
    },
    /// A JSON document does not parse, or lacks a field.
    #[error("{what}: {source}")]
    Json {
        /// Which document.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Something valid that this crate does not implement; it is refused rather than ignored.
    #[error("{what}: {feature} is not supported")]
    Unsupported {
        /// Which document.
        what: &'static str,
        /// The field and its value.
        feature: String,
    },
    /// A field holds a value that no model can have.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which document.
        what: &'static str,
        /// The field, its value and the bound.
        reason: String,
    },
    /// A tensor that the configuration calls for is not in the files.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// The tensor's name in the file.
        name: String,
    },
    /// A tensor is in the files that the configuration has no place for.
    #[error("tensor {name} does not belong to this model")]
    UnexpectedTensor {
        /// The tensor's name in the file.
        name: String,
    },
    /// A tensor has another shape than the configuration calls for.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's name in the file.
        name: String,
        /// The shape that the configuration calls for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a type that is not read there.
    #[error("tensor {name} has type {dtype}, expected {expected}")]
    DType {
        /// The tensor's name in the file.
        name: String,
        /// The type in the file.
        dtype: String,
        /// The types that are read.
        expected: String,
    },
    /// A tensor holds a NaN or an infinity.
    #[error("tensor {name} holds a value that is not finite")]
    NonFinite {
        /// The tensor's name in the file.
        name: String,
    },
    /// The bytes are not a safetensors file.
    #[error("{what}: {source}")]
    Safetensors {
        /// Which file.
        what: String,
        /// What is wrong with it.
        source: safetensors::SafeTensorError,
    },
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

/// The most characters of somebody else's text in a message.
const MAX_QUOTED: usize = 400;

/// Somebody else's text, cut to what a message has room for.
pub(crate) fn quoted(text: impl Into<String>) -> String {
    let mut text = text.into();
    if let Some((end, _)) = text.char_indices().nth(MAX_QUOTED) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl ModelError {
    /// An [`ModelError::Invalid`] with a formatted reason.
    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            reason: quoted(reason),
        }
    }

    /// An [`ModelError::Unsupported`] naming a feature.
    pub(crate) fn unsupported(what: &'static str, feature: impl Into<String>) -> Self {
        Self::Unsupported {
            what,
            feature: quoted(feature),
        }
    }
}
