//! What is stored of bases, adapters and revisions.

use frame_support::{traits::ConstU32, BoundedVec};
use openledger_primitives::{
    licence::Licence,
    revision::{ModelRef, RevisionFacts, RevisionStatus, VersionUse, MAX_VERSIONS},
    Balance, BaseId, BlockNumber, Digest, RevisionId,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Bytes of a name at most.
pub const MAX_NAME: u32 = 64;
/// Revisions of an adapter that are live at a time at most.
pub const MAX_LIVE: u32 = 16;
/// Largest LoRA rank.
pub const MAX_RANK: u16 = 256;
/// Highest price per 1,000 tokens, planck: the whole supply.
pub const MAX_PRICE: Balance = 1_000_000_000_000_000_000_000;

/// Name of a base or an adapter: printable UTF-8.
pub type Name = BoundedVec<u8, ConstU32<MAX_NAME>>;
/// Versions that a revision was trained on.
pub type Versions = BoundedVec<VersionUse, ConstU32<MAX_VERSIONS>>;

/// A base model.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Base<AccountId> {
    /// Who registered it and earns the developer's part when it is served without an adapter.
    pub owner: AccountId,
    /// Name.
    pub name: Name,
    /// Digest of the manifest of its files in the store.
    pub manifest: Digest,
    /// What everyone may do with it.
    pub licence: Licence,
    /// The revision by which it is served without an adapter.
    pub revision: RevisionId,
    /// Block at which it was registered.
    pub registered_at: BlockNumber,
}

/// An adapter: a lineage of revisions on one base.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Adapter<AccountId> {
    /// Its developer.
    pub owner: AccountId,
    /// The base on which all its revisions stand.
    pub base: BaseId,
    /// Name.
    pub name: Name,
    /// Its live revisions, in the order in which they were published.
    pub live: BoundedVec<RevisionId, ConstU32<MAX_LIVE>>,
    /// Block at which it was registered.
    pub registered_at: BlockNumber,
}

/// What exactly answers: immutable but for its status.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Revision {
    /// The adapter, or the base without one.
    pub model: ModelRef,
    /// The base.
    pub base: BaseId,
    /// Digests and constants.
    pub facts: RevisionFacts,
    /// Versions it was trained on.
    pub versions: Versions,
    /// The meet of the licences of base and versions.
    pub licence: Licence,
    /// Least that contributors get of either price of 1,000 tokens: the highest `min_royalty` of
    /// the Datanets of its versions, planck.
    pub royalty: Balance,
    /// Block at which it was published.
    pub published_at: BlockNumber,
    /// Block at which it was retired.
    pub retired_at: Option<BlockNumber>,
    /// Whether it may be served.
    pub status: RevisionStatus,
}
