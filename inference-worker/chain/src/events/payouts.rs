//! Earnings and claims.

use super::events;
use crate::{apis::payouts::Role, AccountId};
use openledger_primitives::{Balance, BatchSequence, BlockNumber, RevisionId};

events! { "Payouts":
    /// An account is owed more.
    Earned {
        /// Who earns.
        account: AccountId,
        /// In which role.
        role: Role,
        /// Planck.
        amount: Balance,
        /// Worker whose batch paid.
        worker: AccountId,
        /// That batch.
        batch: BatchSequence,
        /// Revision that answered.
        revision: RevisionId,
        /// Block from which it can be claimed.
        vests_at: BlockNumber,
    }
    /// An earning was paid.
    Paid {
        /// Who earned.
        account: AccountId,
        /// In which role.
        role: Role,
        /// Planck.
        amount: Balance,
        /// Worker whose batch paid.
        worker: AccountId,
        /// That batch.
        batch: BatchSequence,
        /// Revision that answered.
        revision: RevisionId,
    }
    /// An account claimed; a `Paid` for each earning stands before it.
    Claimed {
        /// Who.
        account: AccountId,
        /// Planck in all.
        amount: Balance,
    }
    /// The unattributed part of a fee went to a revision's pool.
    Pooled {
        /// Which.
        revision: RevisionId,
        /// Planck.
        amount: Balance,
    }
    /// The protocol's part of a fee was taken.
    ProtocolPaid {
        /// Planck burned.
        burned: Balance,
        /// Planck kept.
        kept: Balance,
    }
}
