//! The consumer's side of a lane: the next voucher stands on the last receipt that was accepted.

use crate::{
    admission::LaneHead, journal::JournalError, receipts::SignedReceipt, signature::SignedVoucher,
};
use openledger_primitives::{ChannelId, LaneIndex};
use parity_scale_codec::{Decode, Encode};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;

/// Lanes by (domain, channel, lane): a channel of another chain is another lane.
const LANES: TableDefinition<'_, (&[u8; 32], u64, u16), &[u8]> = TableDefinition::new("lanes");

/// What a consumer keeps of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ConsumerLane {
    /// The last receipt accepted.
    pub head: LaneHead,
    /// The last voucher signed, if its receipt was not accepted yet: it must be presented again, or
    /// resolved through the worker's lane endpoint, before another is signed for its sequence.
    pub open: Option<SignedVoucher>,
    /// A receipt failed the check: nothing more is signed on this lane.
    pub parked: bool,
}

impl ConsumerLane {
    /// The lane after a receipt was checked and accepted.
    pub fn accepted(&self, voucher: &SignedVoucher, receipt: &SignedReceipt) -> Self {
        ConsumerLane {
            head: LaneHead {
                sequence: voucher.voucher.sequence,
                cumulative: receipt.receipt.cum,
                receipt: receipt.receipt.hash(),
            },
            open: None,
            parked: false,
        }
    }
}

/// The lanes of a consumer on disk; every change is synced before it returns.
#[derive(Debug)]
pub struct ConsumerLanes {
    database: Database,
    domain: [u8; 32],
}

impl ConsumerLanes {
    /// Opens or creates the file for the chain of `domain`.
    pub fn open(path: &Path, domain: [u8; 32]) -> Result<Self, JournalError> {
        let database = Database::create(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(LANES)?;
        transaction.commit()?;
        Ok(ConsumerLanes { database, domain })
    }

    /// A lane; `None` when nothing was signed on it here.
    pub fn get(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
    ) -> Result<Option<ConsumerLane>, JournalError> {
        let lanes = self.database.begin_read()?.open_table(LANES)?;
        let found = lanes.get((&self.domain, channel, lane))?;
        found
            .map(|bytes| {
                ConsumerLane::decode(&mut bytes.value()).map_err(|_| JournalError::Damaged("lane"))
            })
            .transpose()
    }

    /// Writes a lane.
    pub fn put(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        state: &ConsumerLane,
    ) -> Result<(), JournalError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction
            .open_table(LANES)?
            .insert((&self.domain, channel, lane), state.encode().as_slice())?;
        transaction.commit()?;
        Ok(())
    }
}
