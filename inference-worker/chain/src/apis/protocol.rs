//! The rules in force. Times are in blocks, amounts in planck.

use super::queries;
use openledger_primitives::{Balance, BlockNumber};
use parity_scale_codec::Decode;
use scale_info::TypeInfo;

/// Set at genesis for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct ConsensusParameters {
    /// Milliseconds of a slot.
    pub slot_duration: u64,
    /// Slots of an epoch.
    pub epoch_length: u64,
}

/// Windows and limits of settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct SettlementParameters {
    /// Blocks in which a batch can be challenged.
    pub challenge_window: BlockNumber,
    /// Blocks after the challenge window in which evidence can still undo a batch.
    pub evidence_window: BlockNumber,
    /// Blocks between asking to close a channel and the end of claims.
    pub close_delay: BlockNumber,
    /// Blocks until the revocation of a signer or the cut of a deposit takes effect.
    pub revoke_delay: BlockNumber,
    /// Blocks after its expiry in which a voucher can be claimed.
    pub voucher_grace: BlockNumber,
    /// Deposit per lane of a channel.
    pub lane_deposit: Balance,
    /// Least deposit of a channel.
    pub min_channel_deposit: Balance,
    /// Raised when a chain forks, so that signatures of one side are void on the other.
    pub fork_nonce: u32,
}

/// Bonds of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct BondParameters {
    /// Least own bond of a worker.
    pub min_worker_bond: Balance,
    /// Blocks of thaw.
    pub thaw: BlockNumber,
    /// Blocks without a heartbeat after which a worker is not offered to consumers.
    pub heartbeat_grace: BlockNumber,
}

queries! { "ProtocolApi":
    /// Slots and epochs.
    GetConsensus = "consensus" {} -> ConsensusParameters;
    /// Windows and limits of settlement.
    GetSettlement = "settlement" {} -> SettlementParameters;
    /// Bonds of workers.
    GetBonds = "bonds" {} -> BondParameters;
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
