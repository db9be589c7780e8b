//! What programs outside the chain ask about models.

use crate::{Adapter, Base, Name, Versions};
use openledger_primitives::{
    licence::Licence,
    revision::{ModelRef, RevisionFacts, RevisionStatus},
    terms::Terms,
    AdapterId, Balance, BaseId, BlockNumber, Digest, RevisionId, TermsIndex,
};
use parity_scale_codec::{Codec, Decode, Encode};
use scale_info::TypeInfo;

/// A revision with what is needed to fetch, serve and price it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct RevisionInfo<AccountId> {
    /// The revision.
    pub revision: RevisionId,
    /// The adapter, or the base without one.
    pub model: ModelRef,
    /// Its name.
    pub name: Name,
    /// Who earns the developer's part.
    pub developer: AccountId,
    /// The base.
    pub base: BaseId,
    /// Name of the base.
    pub base_name: Name,
    /// Digest of the manifest of the base's files.
    pub base_manifest: Digest,
    /// The revision by which the base is served without an adapter.
    pub base_revision: RevisionId,
    /// Digests and constants; the adapter's digest is zero for a base.
    pub facts: RevisionFacts,
    /// Versions it was trained on.
    pub versions: Versions,
    /// The meet of the licences of base and versions.
    pub licence: Licence,
    /// Least that contributors get of either price of 1,000 tokens, planck.
    pub royalty: Balance,
    /// Block at which it was published.
    pub published_at: BlockNumber,
    /// Whether it may be served.
    pub status: RevisionStatus,
    /// Terms that a voucher names now; `None` when none were set.
    pub terms: Option<TermsIndex>,
}

/// Terms with their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct TermsInfo {
    /// The index that a voucher names.
    pub index: TermsIndex,
    /// The terms.
    pub terms: Terms<BlockNumber>,
}

sp_api::decl_runtime_apis! {
    /// Reads models.
    #[api_version(1)]
    pub trait ModelsApi<AccountId> where AccountId: Codec {
        /// A revision, live or retired.
        fn revision(revision: RevisionId) -> Option<RevisionInfo<AccountId>>;
        /// Terms by index; those in effect now for `None`.
        fn terms(model: ModelRef, index: Option<TermsIndex>) -> Option<TermsInfo>;
        /// A base.
        fn base(base: BaseId) -> Option<Base<AccountId>>;
        /// An adapter.
        fn adapter(adapter: AdapterId) -> Option<Adapter<AccountId>>;
    }
}
