//! Datanets and contributions.

use super::calls;
use openledger_primitives::{
    contribution::Submission, licence::Licence, Balance, ContributionId, DatanetId, Digest,
};
use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;

/// What a Datanet's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub enum DataKind {
    /// Text documents.
    #[codec(index = 0)]
    Text,
}

/// Who may contribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub enum Admission {
    /// Anyone.
    #[codec(index = 0)]
    Open,
    /// Members.
    #[codec(index = 1)]
    Members,
    /// Who has a stake.
    #[codec(index = 2)]
    Staked,
}

calls! { "Datanets":
    /// Founds a Datanet owned by the caller.
    Create = "create" {
        /// What its rows are.
        kind: DataKind,
        /// What it permits.
        licence: Licence,
        /// Digest of the schema of its rows.
        schema: Digest,
        /// Who may contribute.
        admission: Admission,
        /// Price of access, planck.
        access_price: Balance,
        /// Least price per 1,000 tokens of models trained on it, planck.
        min_royalty: Balance,
        /// Bond of a contribution until it is admitted, planck.
        contribution_bond: Balance,
        /// Whether its rows are kept from the public.
        private: bool,
    }
    /// Submits rows.
    Contribute = "contribute" {
        /// Where to.
        datanet: DatanetId,
        /// What.
        submission: Submission,
    }
    /// Admits contributions; the owner's call.
    Admit = "admit" {
        /// Whose.
        datanet: DatanetId,
        /// Which.
        contributions: Vec<ContributionId>,
    }
    /// Rejects a contribution; the owner's call.
    Reject = "reject" {
        /// Whose.
        datanet: DatanetId,
        /// Which.
        contribution: ContributionId,
        /// Digest of the reason.
        reason: Digest,
    }
    /// Seals the admitted contributions into a version; the owner's call.
    SealVersion = "seal_version" {
        /// Whose.
        datanet: DatanetId,
    }
    /// Withdraws a contribution of the caller.
    Withdraw = "withdraw" {
        /// Which.
        contribution: ContributionId,
    }
}
