//! Channels, batches, settlement.

use super::events;
use crate::AccountId;
use openledger_primitives::{Balance, BatchSequence, BlockNumber, ChannelId};

events! { "Settlement":
    /// A channel was opened.
    ChannelOpened {
        /// Which.
        channel: ChannelId,
        /// Who pays.
        consumer: AccountId,
        /// Who serves.
        worker: AccountId,
        /// Planck.
        deposit: Balance,
    }
    /// A batch was accepted.
    BatchSubmitted {
        /// Whose.
        worker: AccountId,
        /// Which.
        sequence: BatchSequence,
        /// Sum of its fees, planck.
        fee: Balance,
        /// Receipts.
        count: u32,
        /// Block after which it can be settled.
        window_end: BlockNumber,
    }
    /// A batch was settled to the end.
    BatchFinalized {
        /// Whose.
        worker: AccountId,
        /// Which.
        sequence: BatchSequence,
        /// Sum of its fees, planck.
        fee: Balance,
    }
    /// A page of a batch was settled.
    BatchPageSettled {
        /// Whose.
        worker: AccountId,
        /// Which batch.
        sequence: BatchSequence,
        /// Page, from 0.
        page: u32,
        /// Planck that left escrow.
        amount: Balance,
    }
    /// A consumer asked to close a channel.
    ChannelClosing {
        /// Which.
        channel: ChannelId,
        /// Last block at which vouchers can be claimed.
        claim_until: BlockNumber,
    }
    /// A channel is gone.
    ChannelClosed {
        /// Which.
        channel: ChannelId,
        /// Planck freed on the consumer's account, the lanes' deposits among them.
        returned: Balance,
    }
}
