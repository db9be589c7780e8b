//! What the journal keeps of an answer.

use crate::{admission::LaneHead, receipts::SignedReceipt, signature::SignedVoucher};
use openledger_primitives::{
    receipt::{CreditReason, ReceiptLeaf},
    Balance, ChannelId, ContributionId, LaneIndex, Sequence,
};
use parity_scale_codec::{Decode, Encode};

/// What one answer credits one contribution with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CreditLine {
    /// Contribution.
    pub contribution: ContributionId,
    /// Why.
    pub reason: CreditReason,
    /// Planck, above zero.
    pub amount: Balance,
}

/// A delivered answer: everything a batch, a proof or a repeated request needs, and no prompt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeliveredReceipt {
    /// The voucher that paid.
    pub voucher: SignedVoucher,
    /// The receipt.
    pub receipt: SignedReceipt,
    /// Salt of the output commitment.
    pub output_salt: [u8; 32],
    /// Credits of this answer, sorted by (contribution, reason).
    pub credits: Vec<CreditLine>,
}

impl DeliveredReceipt {
    /// Its place: channel, lane, sequence.
    pub fn key(&self) -> (ChannelId, LaneIndex, Sequence) {
        let voucher = &self.voucher.voucher;
        (voucher.channel, voucher.lane, voucher.sequence)
    }

    /// The leaf in a batch.
    pub fn leaf(&self) -> ReceiptLeaf {
        let voucher = &self.voucher.voucher;
        ReceiptLeaf {
            channel: voucher.channel,
            lane: voucher.lane,
            sequence: voucher.sequence,
            receipt: self.receipt.receipt.hash(),
            fee: self.receipt.receipt.fee,
        }
    }

    /// Where the lane stands after it.
    pub fn head(&self) -> LaneHead {
        LaneHead {
            sequence: self.voucher.voucher.sequence,
            cumulative: self.receipt.receipt.cum,
            receipt: self.receipt.receipt.hash(),
        }
    }
}
