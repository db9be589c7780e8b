//! What is stored of Datanets, contributions and versions.

use openledger_primitives::{
    contribution::{Submission, VersionLeaf},
    licence::Licence,
    Balance, BlockNumber, DatanetId, Digest, VersionIndex,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// What the rows of a Datanet are.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
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
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
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

/// A Datanet.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Datanet<AccountId> {
    /// Who admits, rejects and seals.
    pub owner: AccountId,
    /// What its rows are; immutable.
    pub kind: DataKind,
    /// What everyone may do with its rows; immutable.
    pub licence: Licence,
    /// Digest of the description of a row.
    pub schema: Digest,
    /// Who may contribute.
    pub admission: Admission,
    /// Price of access, planck.
    pub access_price: Balance,
    /// Least that contributors get of the price of 1,000 tokens of any model trained on it, planck.
    pub min_royalty: Balance,
    /// Bond of a contribution, planck.
    pub contribution_bond: Balance,
    /// Whether rows are encrypted.
    pub private: bool,
    /// Block at which it was founded.
    pub created_at: BlockNumber,
    /// Versions sealed so far.
    pub versions: VersionIndex,
    /// First position of the queue of what is admitted and not yet sealed.
    pub queue_from: u32,
    /// Position after the last of that queue.
    pub queue_to: u32,
}

/// Why a contribution was not admitted.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
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

/// How far a contribution has come.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub enum Stage {
    /// Waits for the owner's decision.
    #[codec(index = 0)]
    Pending,
    /// Admitted; the next version takes it in.
    #[codec(index = 1)]
    Admitted {
        /// Position in the queue.
        position: u32,
    },
    /// Not admitted.
    #[codec(index = 2)]
    Rejected {
        /// Why.
        reason: RejectReason,
    },
    /// Part of a version and of all later ones.
    #[codec(index = 3)]
    Sealed {
        /// First version that has it.
        version: VersionIndex,
        /// Position among the leaves, from 0.
        position: u32,
    },
}

/// Standing of what was sealed: an overlay, since a sealed root never changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub enum Status {
    /// In use; earns.
    #[codec(index = 0)]
    Live,
    /// In doubt: earns nothing until decided.
    #[codec(index = 1)]
    Quarantined,
    /// Taken back: never earns again.
    #[codec(index = 2)]
    Withdrawn,
}

/// What one account added in one submission.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Contribution<AccountId> {
    /// The Datanet.
    pub datanet: DatanetId,
    /// Who contributed and earns.
    pub owner: AccountId,
    /// What the contributor chose.
    pub submission: Submission,
    /// Block of the commitment.
    pub committed_at: BlockNumber,
    /// Block at which it was revealed.
    pub revealed_at: BlockNumber,
    /// Bond on hold for it, planck; 0 when given back.
    pub bond: Balance,
    /// How far it has come.
    pub stage: Stage,
    /// How it stands.
    pub status: Status,
}

impl<AccountId> Contribution<AccountId> {
    /// The contribution as a leaf of versions.
    pub fn leaf(&self, contribution: openledger_primitives::ContributionId) -> VersionLeaf {
        VersionLeaf {
            contribution,
            content_root: self.submission.content_root,
            rows: self.submission.rows,
        }
    }
}

/// A sealed version: the first `count` leaves of the Datanet's range.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Version {
    /// Root over the leaves.
    pub root: Digest,
    /// Leaves.
    pub count: u32,
    /// Block at which it was sealed.
    pub sealed_at: BlockNumber,
    /// How it stands.
    pub status: Status,
}
