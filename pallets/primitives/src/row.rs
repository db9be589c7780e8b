//! Rows: the unit of data that is matched, attributed and proven.

use crate::{
    hash::{tagged, Digest, Tag},
    merkle,
    sketch::Sketch,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Most canonical bytes of a row, so that the chain can recompute its hash and sketch.
pub const MAX_ROW_BYTES: usize = 4_096;

/// A row as a leaf of its contribution's content root.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct RowLeaf {
    /// Position in the contribution, from 0.
    pub row: u32,
    /// [`canonical_hash`] of the row.
    pub canonical: Digest,
    /// Hash of the row's sketch.
    pub sketch: Digest,
    /// Tokens of the row, by the tokenizer of the base model for which it was prepared; 0 when not
    /// bound to one.
    pub tokens: u32,
}

impl RowLeaf {
    /// The leaf of canonical `bytes`.
    pub fn new(row: u32, bytes: &[u8], tokens: u32) -> Self {
        RowLeaf {
            row,
            canonical: canonical_hash(bytes),
            sketch: Sketch::of(bytes).hash(),
            tokens,
        }
    }

    /// Hash of the leaf.
    pub fn hash(&self) -> Digest {
        merkle::leaf(&self.encode())
    }
}

/// Hash of a row's canonical bytes: equal for equal rows whoever contributes them.
pub fn canonical_hash(bytes: &[u8]) -> Digest {
    tagged(Tag::Row, &[bytes])
}
