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
}
