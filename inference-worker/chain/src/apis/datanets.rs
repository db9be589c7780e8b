//! Datanets, contributions, versions.

use super::queries;
use crate::{
    calls::datanets::{Admission, DataKind, RejectReason},
    AccountId,
};
use openledger_primitives::{
    contribution::{Submission, VersionLeaf},
    licence::Licence,
    Balance, BlockNumber, ContributionId, DatanetId, Digest, VersionIndex,
};
use parity_scale_codec::Decode;
use scale_info::TypeInfo;

/// A Datanet.
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct Datanet {
    /// Who admits, rejects and seals.
    pub owner: AccountId,
    /// What its rows are.
    pub kind: DataKind,
    /// What everyone may do with its rows.
    pub licence: Licence,
    /// Digest of the description of a row.
    pub schema: Digest,
    /// Who may contribute.
    pub admission: Admission,
    /// Price of access, planck.
    pub access_price: Balance,
    /// The least that its contributors get of the price of 1,000 tokens of any model trained on it, planck.
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

/// How far a contribution has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
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

/// Standing of what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
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
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct Contribution {
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

/// A sealed version: the first `count` leaves of the Datanet's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
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

queries! { "DatanetsApi":
    /// A Datanet.
    GetDatanet = "datanet" {
        /// Which.
        datanet: DatanetId,
    } -> Option<Datanet>;
    /// A contribution.
    GetContribution = "contribution" {
        /// Which.
        contribution: ContributionId,
    } -> Option<Contribution>;
    /// A sealed version.
    GetVersion = "version" {
        /// Whose.
        datanet: DatanetId,
        /// Which.
        version: VersionIndex,
    } -> Option<Version>;
    /// The leaves of a version in order.
    VersionLeaves = "version_leaves" {
        /// Whose.
        datanet: DatanetId,
        /// Which.
        version: VersionIndex,
    } -> Vec<VersionLeaf>;
    /// Position of a contribution in a version, and its siblings up to the version's root.
    ProveContribution = "prove_contribution" {
        /// Whose.
        datanet: DatanetId,
        /// Which.
        version: VersionIndex,
        /// What.
        contribution: ContributionId,
    } -> Option<(u32, Vec<Digest>)>;
}
