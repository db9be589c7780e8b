//! Protocol parameters: the structs, and how pallets read them. `pallet-protocol` keeps and
//! validates them. Times are in blocks, amounts in planck, shares in parts per million.

use openledger_primitives::{Balance, BlockNumber};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

macro_rules! parameters {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident : $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking,
            MaxEncodedLen, TypeInfo, Serialize, Deserialize,
        )]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }
    };
}

parameters! {
    /// Set at genesis for good: BABE cannot change them later.
    ConsensusParameters {
        /// Milliseconds of a slot.
        slot_duration: u64,
        /// Slots of an epoch.
        epoch_length: u64,
    }
}

parameters! {
    /// Windows and limits of settlement.
    SettlementParameters {
        /// Blocks in which a batch can be challenged.
        challenge_window: BlockNumber,
        /// Blocks after the challenge window in which evidence can still undo a batch.
        evidence_window: BlockNumber,
        /// Blocks between asking to close a channel and the end of claims.
        close_delay: BlockNumber,
        /// Blocks until the revocation of a signer or the cut of a deposit takes effect.
        revoke_delay: BlockNumber,
        /// Blocks after its expiry in which a voucher can be claimed.
        voucher_grace: BlockNumber,
        /// Deposit per lane of a channel.
        lane_deposit: Balance,
        /// Least deposit of a channel.
        min_channel_deposit: Balance,
        /// Raised when a chain forks, so that signatures of one side are void on the other.
        fork_nonce: u32,
    }
}

impl SettlementParameters {
    /// Blocks within which work must be claimed, whatever a consumer does after the answer: lets its
    /// voucher expire, revokes the signer, cuts the deposit or closes the channel.
    pub fn claim_within(&self) -> BlockNumber {
        self.voucher_grace
            .min(self.revoke_delay)
            .min(self.close_delay)
    }
}

parameters! {
    /// Bonds of workers.
    BondParameters {
        /// Least own bond of a worker.
        min_worker_bond: Balance,
        /// Blocks of thaw.
        thaw: BlockNumber,
        /// Blocks without a heartbeat after which a worker is not offered to consumers.
        heartbeat_grace: BlockNumber,
    }
}

parameters! {
    /// Deposits of Datanets and contributions.
    DatanetParameters {
        /// Least bond of a contribution, given back when it is admitted.
        min_contribution_bond: Balance,
        /// Contributions that one version may add.
        max_contributions_per_version: u32,
    }
}

parameters! {
    /// Bounds on models' terms.
    ModelParameters {
        /// Least worker share of a split.
        min_worker_ppm: u32,
        /// Least protocol share of a split.
        min_protocol_ppm: u32,
        /// Blocks between setting terms and their effect.
        terms_notice: BlockNumber,
    }
}

parameters! {
    /// When earnings can be claimed.
    PayoutParameters {
        /// Blocks that a contributor's earning vests after finalization.
        contributor_vesting: BlockNumber,
        /// Protocol share that is burned, parts per million of it.
        protocol_burn_ppm: u32,
    }
}

/// Reads the parameters in force.
pub trait Parameters {
    /// Slots and epochs.
    fn consensus() -> ConsensusParameters;
    /// Settlement.
    fn settlement() -> SettlementParameters;
    /// Bonds.
    fn bonds() -> BondParameters;
    /// Datanets.
    fn datanets() -> DatanetParameters;
    /// Models.
    fn models() -> ModelParameters;
    /// Payouts.
    fn payouts() -> PayoutParameters;
}
