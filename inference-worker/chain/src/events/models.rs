//! Base models, adapters, revisions.

use super::events;
use crate::AccountId;
use openledger_primitives::{
    revision::ModelRef, AdapterId, BaseId, BlockNumber, Digest, RevisionId, TermsIndex,
};

events! { "Models":
    /// A base model was registered.
    BaseRegistered {
        /// Which.
        base: BaseId,
        /// The revision that serves it bare.
        revision: RevisionId,
        /// By whom.
        owner: AccountId,
    }
    /// An adapter was registered.
    AdapterRegistered {
        /// Which.
        adapter: AdapterId,
        /// On what.
        base: BaseId,
        /// By whom.
        owner: AccountId,
    }
    /// A revision was published.
    RevisionPublished {
        /// Which.
        revision: RevisionId,
        /// Whose.
        adapter: AdapterId,
        /// Digest of its weights' manifest.
        adapter_digest: Digest,
    }
    /// Terms were appended.
    TermsSet {
        /// Whose.
        model: ModelRef,
        /// Index of the entry.
        terms: TermsIndex,
        /// First block at which a voucher may name it.
        effective_from: BlockNumber,
    }
}
