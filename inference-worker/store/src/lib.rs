//! Content-addressed store of rows, adapters, indexes and manifests.
//!
//! Programs of the project hand each other data through the store by digest and in no other way. An
//! object's name is the blake2b-256 of its bytes, so every read checks what it returns. Folders (a
//! base model, an adapter, a span index) are objects listed by a [`Manifest`], itself an object.
//!
//! The first cut keeps objects in a local folder:
//!
//! ```text
//! objects/ab/cdef…    one object, named by the hex of its digest
//! partial/            objects being written
//! ```
//!
//! An object appears under its name by a rename after its bytes are on disk, so neither a crash nor
//! a concurrent writer can leave a part of one behind a digest.

mod digest;
mod error;
mod folder;
mod manifest;
mod objects;
mod proof;
mod row;
mod rows;

pub use digest::{digest_of, parse_digest, to_hex};
pub use error::StoreError;
pub use manifest::{FileEntry, Manifest, MAX_FILES, MAX_MANIFEST_BYTES};
pub use objects::{Store, MAX_IN_MEMORY};
pub use openledger_primitives::Digest;
pub use proof::{ProofError, RowProof};
pub use row::{Pair, Row, RowError, MAX_PAIRS};
pub use rows::{Rows, RowsError, MAX_ROWS, MAX_ROWS_BYTES};
