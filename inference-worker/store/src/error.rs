//! What can go wrong in the store.

use crate::{remote::FetchError, rows::RowsError};
use openledger_primitives::Digest;
use std::path::PathBuf;

/// A failed use of the store. Nothing is left half-written by any of them.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// No object has this digest.
    #[error("the store has no object {}", hex::encode(.0))]
    Missing(Digest),
    /// The bytes on disk are not the bytes that the digest names.
    #[error("object {} is damaged: its bytes hash to {}", hex::encode(.wanted), hex::encode(.found))]
    Damaged {
        /// The digest asked for.
        wanted: Digest,
        /// The digest of what is there.
        found: Digest,
    },
    /// An object is larger than the reader accepts.
    #[error("object {} has {bytes} bytes, more than the {limit} accepted here", hex::encode(.digest))]
    TooLarge {
        /// The object.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// What the reader accepts.
        limit: u64,
    },
    /// A remote store that cannot be spoken to as it was given.
    #[error("the remote store {address}: {reason}")]
    RemoteAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is not here and did not come from the remote store.
    #[error("object {} from {remote}: {source}", hex::encode(.digest))]
    Fetch {
        /// The object.
        digest: Digest,
        /// The remote store.
        remote: String,
        /// Why it did not come.
        source: FetchError,
    },
    /// An object could not be sent to the remote store.
    #[error("object {} to {remote}: {reason}", hex::encode(.digest))]
    Upload {
        /// The object.
        digest: Digest,
        /// The remote store.
        remote: String,
        /// Why not.
        reason: String,
    },
    /// Another process uses the disk cache, and one of the two wants to bound it.
    #[error(
        "another process uses the disk cache of the store {0}, and a bounded cache is one process's \
         alone; end that process or use another folder"
    )]
    CacheInUse(PathBuf),
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is not a digest of 64 hexadecimal digits")]
    NotADigest(String),
    /// A manifest that does not say what a manifest must.
    #[error("manifest refused: {0}")]
    Manifest(String),
    /// A manifest of another kind than asked for.
    #[error("{} is a manifest of kind `{found}`, not `{wanted}`", hex::encode(.digest))]
    Kind {
        /// The manifest.
        digest: Digest,
        /// The kind asked for.
        wanted: String,
        /// Its kind.
        found: String,
    },
    /// A file that a folder may not hold.
    #[error("{path} refused: {reason}")]
    Path {
        /// The path, relative to the folder.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A folder to write into that holds something else already.
    #[error("{0} exists and is not what the manifest describes")]
    Occupied(PathBuf),
    /// A rows object that is not one.
    #[error("rows {}: {source}", hex::encode(.digest))]
    Rows {
        /// The object.
        digest: Digest,
        /// What is wrong with it.
        source: RowsError,
    },
}

/// Names the action and the path of an IO error.
pub(crate) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.into();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
