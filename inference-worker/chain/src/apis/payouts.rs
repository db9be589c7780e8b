//! Earnings and why they were earned.

use super::queries;
use crate::AccountId;
use openledger_primitives::{
    receipt::CreditReason, Balance, BatchSequence, BlockNumber, ContributionId, RevisionId,
};
use parity_scale_codec::Decode;
use scale_info::TypeInfo;

/// In which role an account earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Decode, TypeInfo)]
pub enum Role {
    /// Served the answer.
    #[codec(index = 0)]
    Worker,
    /// Developed the model.
    #[codec(index = 1)]
    Developer,
    /// Holds the model.
    #[codec(index = 2)]
    Holder,
    /// Contributed data that shaped the answer, and why it counts.
    #[codec(index = 3)]
    Contributor {
        /// The contribution.
        contribution: ContributionId,
        /// Why it is credited.
        reason: CreditReason,
    },
}

/// An earning as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct EarningInfo {
    /// In which role, and why where there is a choice.
    pub role: Role,
    /// Planck.
    pub amount: Balance,
    /// Worker whose batch paid.
    pub worker: AccountId,
    /// That batch.
    pub batch: BatchSequence,
    /// Revision that answered.
    pub revision: RevisionId,
    /// Block from which it can be claimed.
    pub vests_at: BlockNumber,
    /// Whether `claim` would pay it now.
    pub vested: bool,
}

/// Sums since genesis, planck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Decode, TypeInfo)]
pub struct Totals {
    /// Owed to accounts at some time.
    pub earned: Balance,
    /// Paid to accounts.
    pub claimed: Balance,
    /// Put into pools.
    pub pooled: Balance,
    /// Burned of the protocol's part.
    pub burned: Balance,
    /// Kept of the protocol's part.
    pub kept: Balance,
}

queries! { "PayoutsApi":
    /// What the account is owed, the earliest to vest first, at most 1,024.
    GetEarnings = "earnings" {
        /// Whose.
        account: AccountId,
    } -> Vec<EarningInfo>;
    /// The unattributed fees of a revision, planck.
    Pool = "pool" {
        /// Which.
        revision: RevisionId,
    } -> Balance;
    /// Sums since genesis.
    GetTotals = "totals" {} -> Totals;
}
