//! Datanets and contributions.

use super::calls;
use openledger_primitives::{
    contribution::Submission, licence::Licence, Balance, ContributionId, DatanetId, Digest,
};
use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;

/// What the rows of a Datanet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub enum DataKind {
    /// Text.
    #[codec(index = 0)]
    Text,
    /// Images.
    #[codec(index = 1)]
    Image,
    /// Sound.
    #[codec(index = 2)]
    Audio,
    /// Tables.
    #[codec(index = 3)]
    Tabular,
    /// Choices between answers.
    #[codec(index = 4)]
    Preference,
    /// Labels of other rows.
    #[codec(index = 5)]
    Label,
}

/// Who may contribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub enum Admission {
    /// Anyone.
    #[codec(index = 0)]
    Open,
    /// Members only.
    #[codec(index = 1)]
    Members,
    /// Accounts with a stake in the Datanet.
    #[codec(index = 2)]
    Staked,
}

/// Why a contribution was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub enum RejectReason {
    /// It does not belong to the Datanet's subject.
    #[codec(index = 0)]
    OffTopic,
    /// It is of low quality.
    #[codec(index = 1)]
    LowQuality,
    /// Its rows stand in the Datanet already.
    #[codec(index = 2)]
    Duplicate,
    /// The contributor does not hold the rights it declares.
    #[codec(index = 3)]
    Rights,
    /// The rows do not follow the schema, or do not hash to the content root.
    #[codec(index = 4)]
    Malformed,
    /// The rows cannot be fetched by their locator.
    #[codec(index = 5)]
    Unavailable,
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
        /// The least that its contributors get of the price of 1,000 tokens of models trained on it, planck.
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
        /// Why.
        reason: RejectReason,
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
