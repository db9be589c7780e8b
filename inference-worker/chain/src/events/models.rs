//! Base models, adapters, revisions.

use super::events;
use crate::AccountId;
use openledger_primitives::{AdapterId, BaseId, RevisionId};

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
    }
}
