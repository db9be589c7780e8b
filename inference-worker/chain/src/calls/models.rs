//! Base models, adapters, revisions, terms.

use super::calls;
use openledger_primitives::{
    licence::Licence,
    revision::{ModelRef, RevisionFacts, VersionUse},
    terms::Split,
    AdapterId, Balance, BaseId, Digest, RevisionId,
};

calls! { "Models":
    /// Registers a base model with its first terms and the revision that serves it bare.
    RegisterBase = "register_base" {
        /// UTF-8, at most 64 bytes.
        name: Vec<u8>,
        /// Digest of its manifest in the store.
        manifest: Digest,
        /// What it permits.
        licence: Licence,
        /// Planck per 1,000 prompt tokens.
        price_in: Balance,
        /// Planck per 1,000 output tokens.
        price_out: Balance,
        /// Who gets what of a fee.
        split: Split,
    }
    /// Registers an adapter on a base model.
    RegisterAdapter = "register_adapter" {
        /// The base.
        base: BaseId,
        /// UTF-8, at most 64 bytes.
        name: Vec<u8>,
    }
    /// Publishes a revision of an adapter.
    PublishRevision = "publish_revision" {
        /// Whose.
        adapter: AdapterId,
        /// Digests, shape and constants.
        facts: RevisionFacts,
        /// The Datanet versions it was trained on, at most 16.
        versions: Vec<VersionUse>,
    }
    /// Appends terms.
    SetTerms = "set_terms" {
        /// Whose.
        model: ModelRef,
        /// Planck per 1,000 prompt tokens.
        price_in: Balance,
        /// Planck per 1,000 output tokens.
        price_out: Balance,
        /// Who gets what of a fee.
        split: Split,
    }
    /// Withdraws a revision from service.
    RetireRevision = "retire_revision" {
        /// Which.
        revision: RevisionId,
    }
}
