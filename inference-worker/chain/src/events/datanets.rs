//! Datanets and contributions.

use super::events;
use crate::{calls::datanets::RejectReason, AccountId};
use openledger_primitives::{ContributionId, DatanetId, Digest, VersionIndex};

events! { "Datanets":
    /// A Datanet was founded.
    Created {
        /// Which.
        datanet: DatanetId,
        /// By whom.
        owner: AccountId,
    }
    /// Rows were submitted.
    Contributed {
        /// Where to.
        datanet: DatanetId,
        /// Which.
        contribution: ContributionId,
        /// By whom.
        owner: AccountId,
        /// Merkle root over the rows.
        content_root: Digest,
        /// How many rows.
        rows: u32,
    }
    /// A contribution was admitted and its bond given back.
    Admitted {
        /// Where.
        datanet: DatanetId,
        /// Which.
        contribution: ContributionId,
    }
    /// A contribution was not admitted.
    Rejected {
        /// Where.
        datanet: DatanetId,
        /// Which.
        contribution: ContributionId,
        /// Why.
        reason: RejectReason,
    }
    /// A version was sealed.
    VersionSealed {
        /// Whose.
        datanet: DatanetId,
        /// Which.
        version: VersionIndex,
        /// Merkle root over its contributions.
        root: Digest,
        /// Contributions in it.
        count: u32,
    }
}
