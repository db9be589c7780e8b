//! What the pallet stores.

use openledger_primitives::{
    hash::blake2_256, Balance, BatchSequence, BlockNumber, Digest, RevisionId,
};
use openledger_traits::{Earning, Role};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// A block number, most significant byte first, so that storage keys ascend as blocks do.
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
pub struct VestsAt([u8; 4]);

impl From<BlockNumber> for VestsAt {
    fn from(block: BlockNumber) -> Self {
        VestsAt(block.to_be_bytes())
    }
}

impl VestsAt {
    /// The block number.
    pub fn block(&self) -> BlockNumber {
        BlockNumber::from_be_bytes(self.0)
    }
}

/// One amount owed to an account.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Owed<AccountId> {
    /// In which role it was earned.
    pub role: Role,
    /// Planck.
    pub amount: Balance,
    /// Worker whose batch paid.
    pub worker: AccountId,
    /// That batch.
    pub batch: BatchSequence,
    /// Revision that answered.
    pub revision: RevisionId,
}

impl<AccountId: Encode> Owed<AccountId> {
    /// Under which key it stands: equal for amounts that add up.
    pub fn key(&self) -> Digest {
        blake2_256(&(&self.worker, self.batch, self.revision, self.role).encode())
    }
}

impl<AccountId> From<Earning<AccountId>> for Owed<AccountId> {
    fn from(earning: Earning<AccountId>) -> Self {
        Owed {
            role: earning.role,
            amount: earning.amount,
            worker: earning.worker,
            batch: earning.batch,
            revision: earning.revision,
        }
    }
}

/// Sums since genesis, planck.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
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
