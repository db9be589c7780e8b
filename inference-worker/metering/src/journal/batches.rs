//! Batches in the journal, from the first write to the end of their liability.

use super::{
    begin, decode, lock, receipt, Journal, JournalError, BATCHES, PENDING, RECEIPTS, UNRELEASED,
};
use crate::{
    batching::{self, PreparedBatch},
    record::DeliveredReceipt,
    selection::{BatchLimits, ChainLane},
};
use openledger_primitives::{
    Balance, BatchSequence, BlockNumber, ChannelId, LaneIndex, RevisionId, TermsIndex,
};
use parity_scale_codec::{Decode, Encode};
use redb::{ReadableDatabase, ReadableTable, Table, WriteTransaction};
use std::collections::HashMap;

/// How far a batch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BatchState {
    /// Written here; perhaps submitted.
    Prepared,
    /// In a finalized block.
    Submitted,
    /// Its window passed and its fees were paid out.
    Settled,
    /// Its liability ended: nobody asks for its leaves any more, and they are dropped.
    Released,
}

/// A batch in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JournaledBatch {
    /// State.
    pub state: BatchState,
    /// The batch.
    pub batch: PreparedBatch,
}

impl Journal {
    /// The batch that was prepared and is not known to be on chain, if any.
    pub fn prepared(&self) -> Result<Option<PreparedBatch>, JournalError> {
        let Some(sequence) = self.in_state(BatchState::Prepared)?.into_iter().next() else {
            return Ok(None);
        };
        let batches = self.database.begin_read()?.open_table(BATCHES)?;
        let journaled = batch(&batches, sequence)?.ok_or(JournalError::Damaged("batch list"))?;
        Ok(Some(journaled.batch))
    }

    /// Batches on chain whose fees are not paid out yet, the oldest first.
    pub fn submitted(&self) -> Result<Vec<BatchSequence>, JournalError> {
        self.in_state(BatchState::Submitted)
    }

    /// Batches that are paid out and whose liability is not known to have ended, the oldest first.
    pub fn settled(&self) -> Result<Vec<BatchSequence>, JournalError> {
        self.in_state(BatchState::Settled)
    }

    /// Builds the next batch and writes it down, its receipts leaving the pending ones in the same
    /// commit. Gives the prepared batch again while it is not known to be on chain. `accepted_until`
    /// gives the last block at which usage of a revision at terms is accepted.
    pub fn prepare(
        &self,
        worker: &[u8; 32],
        limits: &BatchLimits,
        lane_on_chain: impl Fn(ChannelId, LaneIndex) -> Option<ChainLane>,
        accepted_until: impl Fn(RevisionId, TermsIndex) -> BlockNumber,
    ) -> Result<Option<PreparedBatch>, JournalError> {
        if let Some(prepared) = self.prepared()? {
            return Ok(Some(prepared));
        }
        let transaction = begin(&self.database)?;
        let mut delivered = Vec::new();
        let batch = {
            let mut pending = transaction.open_table(PENDING)?;
            let receipts = transaction.open_table(RECEIPTS)?;
            for entry in pending.iter()? {
                let key = entry?.0.value();
                if lane_on_chain(key.0, key.1).is_none() {
                    continue;
                }
                delivered
                    .push(receipt(&receipts, key)?.ok_or(JournalError::Damaged("pending list"))?);
            }
            let prepared = batching::prepare(
                worker,
                limits,
                lane_on_chain,
                accepted_until,
                delivered.iter(),
            );
            let Some(batch) = prepared else {
                return Ok(None);
            };
            for leaf in &batch.leaves {
                pending.remove(leaf)?;
            }
            batch
        };
        let journaled = JournaledBatch {
            state: BatchState::Prepared,
            batch,
        };
        write(&transaction, &journaled)?;
        transaction.commit()?;
        let batch = journaled.batch;
        let fees: HashMap<_, Balance> = delivered
            .iter()
            .map(|one| (one.key(), one.receipt.receipt.fee))
            .collect();
        let mut owed = lock(&self.owed);
        for leaf in &batch.leaves {
            owed.remove(*leaf, fees.get(leaf).copied().unwrap_or(0));
        }
        owed.prepare(batch.header.fee);
        drop(owed);
        Ok(Some(batch))
    }

    /// The chain has the batch.
    pub fn mark_submitted(&self, sequence: BatchSequence) -> Result<(), JournalError> {
        if self.set_state(sequence, BatchState::Submitted)? {
            lock(&self.owed).prepare(0);
        }
        Ok(())
    }

    /// The batch's fees were paid out.
    pub fn mark_settled(&self, sequence: BatchSequence) -> Result<(), JournalError> {
        self.set_state(sequence, BatchState::Settled).map(drop)
    }

    /// The batch's liability has ended: its leaves are dropped. Its receipts stay on record.
    pub fn mark_released(&self, sequence: BatchSequence) -> Result<(), JournalError> {
        self.set_state(sequence, BatchState::Released).map(drop)
    }

    /// The chain refused the prepared batch: its receipts are pending again.
    pub fn discard(&self, sequence: BatchSequence) -> Result<(), JournalError> {
        let transaction = begin(&self.database)?;
        let mut again = Vec::new();
        {
            let mut batches = transaction.open_table(BATCHES)?;
            let Some(journaled) = batch(&batches, sequence)? else {
                return Ok(());
            };
            if journaled.state != BatchState::Prepared {
                return Ok(());
            }
            let receipts = transaction.open_table(RECEIPTS)?;
            let mut pending = transaction.open_table(PENDING)?;
            for leaf in &journaled.batch.leaves {
                let delivered =
                    receipt(&receipts, *leaf)?.ok_or(JournalError::Damaged("leaf table"))?;
                again.push((*leaf, delivered.receipt.receipt.fee));
                pending.insert(leaf, ())?;
            }
            batches.remove(sequence)?;
            transaction.open_table(UNRELEASED)?.remove(sequence)?;
        }
        transaction.commit()?;
        let mut owed = lock(&self.owed);
        owed.prepare(0);
        for (leaf, fee) in again {
            owed.add(leaf, fee);
        }
        Ok(())
    }

    /// The receipts of a batch, in the order of its leaves: its leaf table. Empty once the batch is released.
    pub fn leaf_table(
        &self,
        sequence: BatchSequence,
    ) -> Result<Vec<DeliveredReceipt>, JournalError> {
        let read = self.database.begin_read()?;
        let Some(journaled) = batch(&read.open_table(BATCHES)?, sequence)? else {
            return Ok(Vec::new());
        };
        let receipts = read.open_table(RECEIPTS)?;
        journaled
            .batch
            .leaves
            .iter()
            .map(|key| receipt(&receipts, *key)?.ok_or(JournalError::Damaged("leaf table")))
            .collect()
    }

    /// Sequences of the batches in a state, ascending. Looks at those that are not released only.
    pub(super) fn in_state(&self, state: BatchState) -> Result<Vec<BatchSequence>, JournalError> {
        let unreleased = self.database.begin_read()?.open_table(UNRELEASED)?;
        let mut found = Vec::new();
        for entry in unreleased.iter()? {
            let (sequence, known) = entry?;
            if decode::<BatchState>(known.value(), "batch list")? == state {
                found.push(sequence.value());
            }
        }
        Ok(found)
    }

    /// Sets the state of a batch; whether that was a change.
    fn set_state(&self, sequence: BatchSequence, state: BatchState) -> Result<bool, JournalError> {
        let transaction = begin(&self.database)?;
        let known = batch(&transaction.open_table(BATCHES)?, sequence)?;
        let Some(mut journaled) = known.filter(|known| known.state != state) else {
            return Ok(false);
        };
        journaled.state = state;
        if state == BatchState::Released {
            journaled.batch.leaves = Vec::new();
        }
        write(&transaction, &journaled)?;
        transaction.commit()?;
        Ok(true)
    }
}

/// Writes a batch, and its state into the list of those that are not released.
fn write(transaction: &WriteTransaction, journaled: &JournaledBatch) -> Result<(), JournalError> {
    let sequence = journaled.batch.header.sequence;
    transaction
        .open_table(BATCHES)?
        .insert(sequence, journaled.encode().as_slice())?;
    list(
        &mut transaction.open_table(UNRELEASED)?,
        sequence,
        journaled.state,
    )
}

/// Notes the state of a batch in the list of those that are not released.
pub(super) fn list(
    unreleased: &mut Table<'_, u64, &'static [u8]>,
    sequence: BatchSequence,
    state: BatchState,
) -> Result<(), JournalError> {
    match state {
        BatchState::Released => unreleased.remove(sequence)?.map(drop),
        _ => unreleased
            .insert(sequence, state.encode().as_slice())?
            .map(drop),
    };
    Ok(())
}

fn batch(
    batches: &impl ReadableTable<u64, &'static [u8]>,
    sequence: BatchSequence,
) -> Result<Option<JournaledBatch>, JournalError> {
    match batches.get(sequence)? {
        Some(bytes) => decode(bytes.value(), "batch").map(Some),
        None => Ok(None),
    }
}
