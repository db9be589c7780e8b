//! Bases, adapters, revisions, terms.

use super::queries;
use crate::AccountId;
use openledger_primitives::{
    licence::Licence,
    revision::{ModelRef, RevisionFacts, RevisionStatus, VersionUse},
    terms::Terms,
    AdapterId, Balance, BaseId, BlockNumber, Digest, RevisionId, TermsIndex,
};
use parity_scale_codec::Decode;
use scale_info::TypeInfo;

/// A base model.
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct Base {
    /// Who registered it.
    pub owner: AccountId,
    /// Name, UTF-8.
    pub name: Vec<u8>,
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
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct Adapter {
    /// Its developer.
    pub owner: AccountId,
    /// The base on which all its revisions stand.
    pub base: BaseId,
    /// Name, UTF-8.
    pub name: Vec<u8>,
    /// Its live revisions, in the order in which they were published.
    pub live: Vec<RevisionId>,
    /// Block at which it was registered.
    pub registered_at: BlockNumber,
}

/// A revision with what is needed to fetch, serve and price it.
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct RevisionInfo {
    /// The revision.
    pub revision: RevisionId,
    /// The adapter, or the base without one.
    pub model: ModelRef,
    /// Its name, UTF-8.
    pub name: Vec<u8>,
    /// Who earns the developer's part.
    pub developer: AccountId,
    /// The base.
    pub base: BaseId,
    /// Name of the base, UTF-8.
    pub base_name: Vec<u8>,
    /// Digest of the manifest of the base's files.
    pub base_manifest: Digest,
    /// The revision by which the base is served without an adapter.
    pub base_revision: RevisionId,
    /// Digests and constants; the adapter's digest is zero for a base.
    pub facts: RevisionFacts,
    /// Versions it was trained on.
    pub versions: Vec<VersionUse>,
    /// The meet of the licences of base and versions.
    pub licence: Licence,
    /// The least that contributors get of either price of 1,000 tokens, planck.
    pub royalty: Balance,
    /// Block at which it was published.
    pub published_at: BlockNumber,
    /// Whether it may be served.
    pub status: RevisionStatus,
    /// Terms that a voucher names now; `None` when none were set.
    pub terms: Option<TermsIndex>,
}

impl RevisionInfo {
    /// The name as text.
    pub fn label(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// The base's name as text.
    pub fn base_label(&self) -> String {
        String::from_utf8_lossy(&self.base_name).into_owned()
    }
}

/// Terms with their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct TermsInfo {
    /// The index that a voucher names.
    pub index: TermsIndex,
    /// The terms.
    pub terms: Terms<BlockNumber>,
}

queries! { "ModelsApi":
    /// A revision, live or retired.
    GetRevision = "revision" {
        /// Which.
        revision: RevisionId,
    } -> Option<RevisionInfo>;
    /// Terms by index; those in effect now for `None`.
    GetTerms = "terms" {
        /// Whose.
        model: ModelRef,
        /// Which.
        index: Option<TermsIndex>,
    } -> Option<TermsInfo>;
    /// A base.
    GetBase = "base" {
        /// Which.
        base: BaseId,
    } -> Option<Base>;
    /// An adapter.
    GetAdapter = "adapter" {
        /// Which.
        adapter: AdapterId,
    } -> Option<Adapter>;
}
