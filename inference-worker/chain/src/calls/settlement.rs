//! Channels, batches, settlement.

use super::calls;
use crate::AccountId;
use openledger_primitives::{
    batch::{BatchHeader, Claim, Credit, Usage},
    voucher::EvidenceClass,
    Balance, BatchSequence, BlockNumber, ChannelId, LaneIndex, PublicKey,
};

calls! { "Settlement":
    /// Opens a channel with a worker; the deposit is held on the caller's account.
    OpenChannel = "open_channel" {
        /// Who serves.
        worker: AccountId,
        /// Planck.
        deposit: Balance,
        /// Requests at the same time, at most 256.
        lanes: LaneIndex,
        /// Key that signs vouchers.
        signer: PublicKey,
        /// Most that the signer may spend, planck.
        limit: Balance,
        /// Last block at which the signer's vouchers count.
        valid_until: BlockNumber,
        /// How answers may be audited.
        evidence: EvidenceClass,
    }
    /// Adds to a channel's deposit.
    Deposit = "deposit" {
        /// Which.
        channel: ChannelId,
        /// Planck.
        amount: Balance,
    }
    /// Adds a signer.
    AddSigner = "add_signer" {
        /// Whose.
        channel: ChannelId,
        /// The key.
        key: PublicKey,
        /// Most that it may spend, planck.
        limit: Balance,
        /// Last block at which its vouchers count.
        valid_until: BlockNumber,
    }
    /// Revokes a signer, effective after a while.
    RevokeSigner = "revoke_signer" {
        /// Whose.
        channel: ChannelId,
        /// The key.
        key: PublicKey,
    }
    /// Adds lanes.
    AddLanes = "add_lanes" {
        /// Where.
        channel: ChannelId,
        /// How many.
        lanes: LaneIndex,
    }
    /// Asks to close a channel.
    CloseChannel = "close_channel" {
        /// Which.
        channel: ChannelId,
    }
    /// Ends a closing channel once claims are over; anyone's call.
    FinishClose = "finish_close" {
        /// Which.
        channel: ChannelId,
    }
    /// Submits a batch; the worker's or its service key's call.
    SubmitBatch = "submit_batch" {
        /// Whose.
        worker: AccountId,
        /// Head.
        header: BatchHeader,
        /// Claims, sorted.
        claims: Vec<Claim>,
        /// Usage, sorted.
        usage: Vec<Usage>,
        /// Credits, sorted.
        credits: Vec<Credit>,
    }
    /// Settles the next page of a batch whose window has passed; anyone's call.
    SettlePage = "settle_page" {
        /// Whose.
        worker: AccountId,
        /// Which.
        sequence: BatchSequence,
    }
    /// Frees the reservation of batches whose liability has ended; anyone's call.
    ReleaseLiability = "release_liability" {
        /// Whose.
        worker: AccountId,
    }
    /// Takes back a part of a deposit, effective after a while.
    CutDeposit = "cut_deposit" {
        /// Which channel.
        channel: ChannelId,
        /// Planck.
        amount: Balance,
    }
    /// Pays a cut whose time has come; anyone's call.
    FinishCut = "finish_cut" {
        /// Which channel.
        channel: ChannelId,
    }
}
