//! Contributions: what one account adds to a Datanet in one submission.

use crate::{
    hash::{tagged, Digest, Tag},
    ids::*,
    licence::Licence,
    merkle,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

/// Where the rows come from, as their contributor declares.
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
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Made by the contributor.
    #[codec(index = 0)]
    Original,
    /// Made by others who licensed it.
    #[codec(index = 1)]
    Licensed,
    /// In the public domain: earns nobody anything.
    #[codec(index = 2)]
    Public,
}

/// Every field of a contribution that its submitter chooses, and that a commitment covers.
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
pub struct Submission {
    /// Merkle root over the [row leaves](crate::row::RowLeaf).
    pub content_root: Digest,
    /// [Sketch scheme](crate::sketch::SCHEME) of the rows.
    pub sketch_scheme: u8,
    /// Rows.
    pub rows: u32,
    /// Canonical bytes of all rows.
    pub bytes: u64,
    /// Declared origin.
    pub provenance: Provenance,
    /// Digest of the evidence of rights; zero where provenance needs none.
    pub rights: Digest,
    /// What the contributor permits.
    pub licence: Licence,
    /// Digest under which the store holds the rows.
    pub locator: Digest,
}

/// `H(tag ‖ domain ‖ salt ‖ account ‖ datanet ‖ every field the submitter chooses)`: what is put on
/// chain before a contribution is revealed, so that nobody who reads the reveal can claim it first.
pub fn commitment(
    domain: &Digest,
    salt: &[u8; 32],
    account: &[u8; 32],
    datanet: DatanetId,
    submission: &Submission,
) -> Digest {
    tagged(
        Tag::Commit,
        &[domain, salt, account, &(datanet, submission).encode()],
    )
}

/// A sealed contribution as a leaf of its Datanet's Merkle mountain range.
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
pub struct VersionLeaf {
    /// The contribution that owns the rows.
    pub contribution: ContributionId,
    /// Merkle root over its rows.
    pub content_root: Digest,
    /// Rows.
    pub rows: u32,
}

impl VersionLeaf {
    /// Hash of the leaf.
    pub fn hash(&self) -> Digest {
        merkle::leaf(&self.encode())
    }
}
