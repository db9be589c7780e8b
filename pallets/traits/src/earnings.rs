//! Earnings as other pallets see them.

use frame_support::dispatch::DispatchResult;
use openledger_primitives::{
    receipt::CreditReason, Balance, BatchSequence, BlockNumber, ContributionId, RevisionId,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// In which role an account earns.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
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

/// One amount earned, with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earning<AccountId> {
    /// Who earns.
    pub account: AccountId,
    /// In which role.
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
}

/// Takes the parts of a fee out of an account and owes them to whom they belong. Every method moves
/// exactly `amount` out of `source` or fails and changes nothing.
pub trait Earnings<AccountId> {
    /// Owes an amount to an account.
    fn earn(source: &AccountId, earning: Earning<AccountId>) -> DispatchResult;
    /// Adds the unattributed part of a fee to the revision's pool.
    fn pool(source: &AccountId, revision: RevisionId, amount: Balance) -> DispatchResult;
    /// Takes the protocol's part: half is burned (the larger half when odd), half kept.
    fn protocol(source: &AccountId, amount: Balance) -> DispatchResult;
}
