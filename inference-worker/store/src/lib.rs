//! Content-addressed store of rows, adapters, indexes and manifests.
//!
//! Programs of the project hand each other data through the store by digest and in no other way. An
//! object's name is the blake2b-256 of its bytes, so every read checks what it returns. Folders (a
//! base model, an adapter, a span index) are objects listed by a [`Manifest`], itself an object.
//!
//! The local store is a folder:
//!
//! ```text
//! objects/ab/cdef…    one object, named by the hex of its digest; never removed
//! cache/ab/cdef…      the same of a remote store: it may give way
//! cache.lock          who counts the cache
//! partial/            objects being written
//! ```
//!
//! An object appears under its name by a rename after its bytes are on disk, so neither a crash nor
//! a concurrent writer can leave a part of one behind a digest.
//!
//! Behind it there can be a [`Remote`], a bucket that speaks S3. What is not in the folder is then
//! fetched from there, checked and kept in the cache: a reader does not see the difference.

mod cache;
mod digest;
mod draft;
mod error;
mod folder;
mod manifest;
mod objects;
mod proof;
mod remote;
mod row;
mod rows;
mod stats;

pub use cache::ledger::{Ledger, Room};
pub use digest::{digest_of, parse_digest, to_hex};
pub use error::StoreError;
pub use manifest::{FileEntry, Manifest, MAX_FILES, MAX_MANIFEST_BYTES};
pub use objects::{Object, Reached, Store, StoreOptions, MAX_IN_MEMORY};
pub use openledger_primitives::Digest;
pub use proof::{ProofError, RowProof};
pub use remote::{FetchError, Remote, RemoteOptions};
pub use row::{Pair, Row, RowError, MAX_PAIRS};
pub use rows::{Rows, RowsError, MAX_ROWS, MAX_ROWS_BYTES};
pub use stats::StoreStats;
