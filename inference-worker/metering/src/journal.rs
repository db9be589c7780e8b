//! The crash-safe journal of what was delivered: one redb file, every commit synced to disk.

use crate::{
    admission::LaneHead,
    batching::{self, PreparedBatch},
    record::DeliveredReceipt,
    selection::{BatchLimits, ChainLane},
};
use openledger_primitives::{
    Balance, BatchSequence, BlockNumber, ChannelId, Digest, LaneIndex, Sequence,
};
use parity_scale_codec::{Decode, Encode};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use std::{
    collections::HashSet,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
};
use thiserror::Error;

type LaneKey = (u64, u16);
type ReceiptKey = (u64, u16, u64);

/// Every delivered receipt.
const RECEIPTS: TableDefinition<'_, ReceiptKey, &[u8]> = TableDefinition::new("receipts");
/// Delivered receipts that are in no batch.
const PENDING: TableDefinition<'_, ReceiptKey, ()> = TableDefinition::new("pending");
/// Delivered receipts that no batch will ever claim: their channel closed, or their signer ran out.
const LAPSED: TableDefinition<'_, ReceiptKey, ()> = TableDefinition::new("lapsed");
/// The last receipt of each lane.
const LANES: TableDefinition<'_, LaneKey, &[u8]> = TableDefinition::new("lanes");
/// Voucher hash → receipt, so that a voucher presented twice is served once.
const VOUCHERS: TableDefinition<'_, &[u8; 32], ReceiptKey> = TableDefinition::new("vouchers");
/// Batches by sequence.
const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

/// What went wrong with the journal. The worker must not deliver when this happens.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The database file cannot be used.
    #[error("the journal: {0}")]
    Database(String),
    /// An entry cannot be read.
    #[error("the journal's {0} is damaged; restore the file from a backup")]
    Damaged(&'static str),
    /// A receipt does not follow the last one on its lane.
    #[error("channel {channel} lane {lane}: sequence {given} does not follow {last}")]
    OutOfOrder {
        /// Channel.
        channel: ChannelId,
        /// Lane.
        lane: LaneIndex,
        /// Sequence of the receipt.
        given: Sequence,
        /// Last in the journal.
        last: Sequence,
    },
    /// Another request holds the lane.
    #[error("channel {0} lane {1} has a request in flight; use another lane or wait")]
    LaneBusy(ChannelId, LaneIndex),
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for JournalError {
            fn from(error: $error) -> Self {
                JournalError::Database(error.to_string())
            }
        })*
    };
}
from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// How far a batch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BatchState {
    /// Written here; perhaps submitted.
    Prepared,
    /// In a finalized block.
    Submitted,
    /// Its window passed and its fees were paid out.
    Settled,
}

/// A batch in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JournaledBatch {
    /// State.
    pub state: BatchState,
    /// The batch.
    pub batch: PreparedBatch,
}

/// Totals for status pages.
///
/// Lapsed receipts are those of lanes that can never be claimed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Receipts in no batch.
    pub pending: u64,
    /// Their fees, planck.
    pub pending_fees: Balance,
    /// Receipts that can never be claimed.
    pub lapsed: u64,
    /// Batches written and not settled.
    pub open_batches: u64,
}

/// A lane with receipts in no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLane {
    /// Channel.
    pub channel: ChannelId,
    /// Lane.
    pub lane: LaneIndex,
    /// Sequence of the first.
    pub first: Sequence,
    /// How many.
    pub receipts: u64,
    /// Highest block at which one of their answers began.
    pub latest_start: BlockNumber,
}

/// The journal. One process opens it at a time.
#[derive(Debug)]
pub struct Journal {
    database: Database,
    /// Lanes with a request in flight in this process.
    busy: Busy,
    /// Fees of receipts that are not known to be in a batch on chain, planck.
    unsubmitted: Mutex<Balance>,
    /// A write has failed.
    failed: AtomicBool,
}

type Busy = Arc<Mutex<HashSet<LaneKey>>>;

impl Journal {
    /// Opens or creates the journal file. Fails while another process has it open.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let database = Database::create(path)?;
        let transaction = begin(&database)?;
        {
            transaction.open_table(RECEIPTS)?;
            transaction.open_table(PENDING)?;
            transaction.open_table(LAPSED)?;
            transaction.open_table(LANES)?;
            transaction.open_table(VOUCHERS)?;
            transaction.open_table(BATCHES)?;
        }
        transaction.commit()?;
        let journal = Journal {
            database,
            busy: Busy::default(),
            unsubmitted: Mutex::default(),
            failed: AtomicBool::new(false),
        };
        let prepared = journal.prepared()?.map_or(0, |batch| batch.header.fee);
        *lock(&journal.unsubmitted) = journal.totals()?.pending_fees.saturating_add(prepared);
        Ok(journal)
    }

    /// Fees of delivered receipts that are not known to be in a batch on chain, planck: the bond must
    /// still cover them.
    pub fn unsubmitted_fees(&self) -> Balance {
        *lock(&self.unsubmitted)
    }

    /// Takes a lane for one request; dropping the guard frees it.
    pub fn take_lane(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
    ) -> Result<LaneGuard, JournalError> {
        let key = (channel, lane);
        if lock(&self.busy).insert(key) {
            Ok(LaneGuard {
                busy: self.busy.clone(),
                key,
            })
        } else {
            Err(JournalError::LaneBusy(channel, lane))
        }
    }

    /// Whether a request holds the lane.
    pub fn is_busy(&self, channel: ChannelId, lane: LaneIndex) -> bool {
        lock(&self.busy).contains(&(channel, lane))
    }

    /// Whether receipts can be written. After a failed write (a full disk, a broken one) they cannot,
    /// until the file is opened anew.
    pub fn is_writable(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Where a lane stands; the start when nothing was delivered on it.
    pub fn head(&self, channel: ChannelId, lane: LaneIndex) -> Result<LaneHead, JournalError> {
        let lanes = self.database.begin_read()?.open_table(LANES)?;
        match lanes.get((channel, lane))? {
            Some(bytes) => decode(bytes.value(), "lane"),
            None => Ok(LaneHead::default()),
        }
    }

    /// The receipt under which a voucher was already served.
    pub fn by_voucher(&self, voucher: &Digest) -> Result<Option<DeliveredReceipt>, JournalError> {
        let read = self.database.begin_read()?;
        let key = read
            .open_table(VOUCHERS)?
            .get(voucher)?
            .map(|key| key.value());
        match key {
            Some(key) => receipt(&read.open_table(RECEIPTS)?, key),
            None => Ok(None),
        }
    }

    /// The last receipt on a lane.
    pub fn last(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
    ) -> Result<Option<DeliveredReceipt>, JournalError> {
        let head = self.head(channel, lane)?;
        let receipts = self.database.begin_read()?.open_table(RECEIPTS)?;
        receipt(&receipts, (channel, lane, head.sequence))
    }

    /// Writes a receipt and returns when it is on disk. Only then may the last event of the answer
    /// be sent. Writing the same receipt again changes nothing.
    pub fn deliver(&self, delivered: &DeliveredReceipt) -> Result<(), JournalError> {
        let written = self.write(delivered);
        if let Err(JournalError::Database(_)) = &written {
            self.failed.store(true, Ordering::Relaxed);
        }
        written
    }

    fn write(&self, delivered: &DeliveredReceipt) -> Result<(), JournalError> {
        let voucher = &delivered.voucher.voucher;
        let key = (voucher.channel, voucher.lane, voucher.sequence);
        let transaction = begin(&self.database)?;
        {
            let mut lanes = transaction.open_table(LANES)?;
            let head: LaneHead = match lanes.get((voucher.channel, voucher.lane))? {
                Some(bytes) => decode(bytes.value(), "lane")?,
                None => LaneHead::default(),
            };
            if head == delivered.head() {
                return Ok(());
            }
            if voucher.sequence != head.sequence.saturating_add(1) {
                return Err(JournalError::OutOfOrder {
                    channel: voucher.channel,
                    lane: voucher.lane,
                    given: voucher.sequence,
                    last: head.sequence,
                });
            }
            lanes.insert(
                (voucher.channel, voucher.lane),
                delivered.head().encode().as_slice(),
            )?;
            transaction
                .open_table(RECEIPTS)?
                .insert(key, delivered.encode().as_slice())?;
            transaction.open_table(PENDING)?.insert(key, ())?;
            transaction
                .open_table(VOUCHERS)?
                .insert(&voucher.hash(), key)?;
        }
        transaction.commit()?;
        let mut unsubmitted = lock(&self.unsubmitted);
        *unsubmitted = unsubmitted.saturating_add(delivered.receipt.receipt.fee);
        Ok(())
    }

    /// Sets a lane to where chain and consumer agree that it stands, when that is later than what is
    /// known here: after the loss of the file, the lane goes on from what was settled.
    pub fn adopt(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        head: &LaneHead,
    ) -> Result<(), JournalError> {
        let transaction = begin(&self.database)?;
        {
            let mut lanes = transaction.open_table(LANES)?;
            let known: LaneHead = match lanes.get((channel, lane))? {
                Some(bytes) => decode(bytes.value(), "lane")?,
                None => LaneHead::default(),
            };
            if known.sequence >= head.sequence {
                return Ok(());
            }
            lanes.insert((channel, lane), head.encode().as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Fees delivered on lanes of a channel beyond what the chain has settled of each, planck. Takes
    /// the settled cumulative charge by lane.
    pub fn unsettled_fees(
        &self,
        channel: ChannelId,
        settled: impl Iterator<Item = (LaneIndex, Balance)>,
    ) -> Result<Balance, JournalError> {
        let heads = self.database.begin_read()?.open_table(LANES)?;
        let mut fees: Balance = 0;
        for (lane, settled) in settled {
            let Some(bytes) = heads.get((channel, lane))? else {
                continue;
            };
            let head: LaneHead = decode(bytes.value(), "lane")?;
            fees = fees.saturating_add(head.cumulative.saturating_sub(settled));
        }
        Ok(fees)
    }

    /// Lanes with receipts in no batch, and the highest block at which one of their answers began.
    pub fn pending_lanes(&self) -> Result<Vec<PendingLane>, JournalError> {
        let read = self.database.begin_read()?;
        let pending = read.open_table(PENDING)?;
        let receipts = read.open_table(RECEIPTS)?;
        let mut lanes: Vec<PendingLane> = Vec::new();
        for entry in pending.iter()? {
            let key = entry?.0.value();
            let delivered =
                receipt(&receipts, key)?.ok_or(JournalError::Damaged("pending list"))?;
            let started = delivered.receipt.receipt.start_block;
            match lanes.last_mut() {
                Some(last) if (last.channel, last.lane) == (key.0, key.1) => {
                    last.receipts = last.receipts.saturating_add(1);
                    last.latest_start = last.latest_start.max(started);
                }
                _ => lanes.push(PendingLane {
                    channel: key.0,
                    lane: key.1,
                    first: key.2,
                    receipts: 1,
                    latest_start: started,
                }),
            }
        }
        Ok(lanes)
    }

    /// Gives up the pending receipts of a lane that can never be claimed again. Returns their fees,
    /// planck. The receipts stay on record.
    pub fn write_off(&self, channel: ChannelId, lane: LaneIndex) -> Result<Balance, JournalError> {
        self.take_pending(channel, lane, Sequence::MAX, true)
    }

    /// Drops the pending receipts of a lane below a sequence, because a batch on chain has claimed them.
    pub fn drop_claimed(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        below: Sequence,
    ) -> Result<(), JournalError> {
        match below.checked_sub(1) {
            Some(last) => self.take_pending(channel, lane, last, false).map(drop),
            None => Ok(()),
        }
    }

    /// Takes the receipts of a lane up to sequence `last` out of the pending ones; gives their fees.
    fn take_pending(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        last: Sequence,
        lapsed: bool,
    ) -> Result<Balance, JournalError> {
        let transaction = begin(&self.database)?;
        let mut fees: Balance = 0;
        {
            let mut pending = transaction.open_table(PENDING)?;
            let mut lost = transaction.open_table(LAPSED)?;
            let receipts = transaction.open_table(RECEIPTS)?;
            let keys: Vec<ReceiptKey> = pending
                .range((channel, lane, Sequence::MIN)..=(channel, lane, last))?
                .map(|entry| entry.map(|(key, _)| key.value()))
                .collect::<Result<_, _>>()?;
            for key in keys {
                let delivered =
                    receipt(&receipts, key)?.ok_or(JournalError::Damaged("pending list"))?;
                fees = fees.saturating_add(delivered.receipt.receipt.fee);
                pending.remove(key)?;
                if lapsed {
                    lost.insert(key, ())?;
                }
            }
        }
        transaction.commit()?;
        let mut unsubmitted = lock(&self.unsubmitted);
        *unsubmitted = unsubmitted.saturating_sub(fees);
        Ok(fees)
    }

    /// The batch that was prepared and is not known to be on chain, if any.
    pub fn prepared(&self) -> Result<Option<PreparedBatch>, JournalError> {
        Ok(self.batches_in(BatchState::Prepared)?.into_iter().next())
    }

    /// Batches on chain whose fees are not paid out yet.
    pub fn submitted(&self) -> Result<Vec<PreparedBatch>, JournalError> {
        self.batches_in(BatchState::Submitted)
    }

    /// Builds the next batch and writes it down, its receipts leaving the pending ones in the same
    /// commit. Gives the prepared batch again while it is not known to be on chain.
    pub fn prepare(
        &self,
        worker: &[u8; 32],
        limits: &BatchLimits,
        lane_on_chain: impl Fn(ChannelId, LaneIndex) -> Option<ChainLane>,
    ) -> Result<Option<PreparedBatch>, JournalError> {
        if let Some(prepared) = self.prepared()? {
            return Ok(Some(prepared));
        }
        let transaction = begin(&self.database)?;
        let batch = {
            let mut pending = transaction.open_table(PENDING)?;
            let receipts = transaction.open_table(RECEIPTS)?;
            let mut delivered = Vec::new();
            for entry in pending.iter()? {
                let (key, ()) = (entry?.0.value(), ());
                let bytes = receipts
                    .get(key)?
                    .ok_or(JournalError::Damaged("pending list"))?;
                delivered.push(decode::<DeliveredReceipt>(bytes.value(), "receipt")?);
            }
            let Some(batch) = batching::prepare(worker, limits, lane_on_chain, delivered.iter())
            else {
                return Ok(None);
            };
            for leaf in &batch.leaves {
                pending.remove(leaf)?;
            }
            let journaled = JournaledBatch {
                state: BatchState::Prepared,
                batch: batch.clone(),
            };
            transaction
                .open_table(BATCHES)?
                .insert(batch.header.sequence, journaled.encode().as_slice())?;
            batch
        };
        transaction.commit()?;
        Ok(Some(batch))
    }

    /// The chain has the batch.
    pub fn mark_submitted(&self, sequence: BatchSequence) -> Result<(), JournalError> {
        if let Some(batch) = self.set_state(sequence, BatchState::Submitted)? {
            let mut unsubmitted = lock(&self.unsubmitted);
            *unsubmitted = unsubmitted.saturating_sub(batch.header.fee);
        }
        Ok(())
    }

    /// The batch's fees were paid out.
    pub fn mark_settled(&self, sequence: BatchSequence) -> Result<(), JournalError> {
        self.set_state(sequence, BatchState::Settled).map(drop)
    }

    /// The chain refused the prepared batch: its receipts are pending again.
    pub fn discard(&self, sequence: BatchSequence) -> Result<(), JournalError> {
        let transaction = begin(&self.database)?;
        {
            let mut batches = transaction.open_table(BATCHES)?;
            let Some(journaled) = batch(&batches, sequence)? else {
                return Ok(());
            };
            if journaled.state != BatchState::Prepared {
                return Ok(());
            }
            let mut pending = transaction.open_table(PENDING)?;
            for leaf in &journaled.batch.leaves {
                pending.insert(leaf, ())?;
            }
            batches.remove(sequence)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The receipts of a batch, in the order of its leaves: its leaf table.
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

    /// Totals for status pages.
    pub fn totals(&self) -> Result<Totals, JournalError> {
        let read = self.database.begin_read()?;
        let pending = read.open_table(PENDING)?;
        let receipts = read.open_table(RECEIPTS)?;
        let mut totals = Totals {
            pending: pending.len()?,
            lapsed: read.open_table(LAPSED)?.len()?,
            ..Totals::default()
        };
        for entry in pending.iter()? {
            if let Some(delivered) = receipt(&receipts, entry?.0.value())? {
                totals.pending_fees = totals
                    .pending_fees
                    .saturating_add(delivered.receipt.receipt.fee);
            }
        }
        for entry in read.open_table(BATCHES)?.iter()? {
            let journaled: JournaledBatch = decode(entry?.1.value(), "batch")?;
            if journaled.state != BatchState::Settled {
                totals.open_batches = totals.open_batches.saturating_add(1);
            }
        }
        Ok(totals)
    }

    fn batches_in(&self, state: BatchState) -> Result<Vec<PreparedBatch>, JournalError> {
        let batches = self.database.begin_read()?.open_table(BATCHES)?;
        let mut found = Vec::new();
        for entry in batches.iter()? {
            let journaled: JournaledBatch = decode(entry?.1.value(), "batch")?;
            if journaled.state == state {
                found.push(journaled.batch);
            }
        }
        Ok(found)
    }

    /// Sets the state of a batch; gives the batch when that was a change.
    fn set_state(
        &self,
        sequence: BatchSequence,
        state: BatchState,
    ) -> Result<Option<PreparedBatch>, JournalError> {
        let transaction = begin(&self.database)?;
        let changed = {
            let mut batches = transaction.open_table(BATCHES)?;
            let Some(mut journaled) = batch(&batches, sequence)? else {
                return Ok(None);
            };
            if journaled.state == state {
                return Ok(None);
            }
            journaled.state = state;
            batches.insert(sequence, journaled.encode().as_slice())?;
            journaled.batch
        };
        transaction.commit()?;
        Ok(Some(changed))
    }
}

/// Holds a lane for one request.
#[derive(Debug)]
pub struct LaneGuard {
    busy: Busy,
    key: LaneKey,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        lock(&self.busy).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A write transaction whose commit returns when the data is on disk.
fn begin(database: &Database) -> Result<redb::WriteTransaction, JournalError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

fn decode<T: Decode>(mut bytes: &[u8], what: &'static str) -> Result<T, JournalError> {
    T::decode(&mut bytes).map_err(|_| JournalError::Damaged(what))
}

fn receipt(
    receipts: &impl ReadableTable<ReceiptKey, &'static [u8]>,
    key: ReceiptKey,
) -> Result<Option<DeliveredReceipt>, JournalError> {
    match receipts.get(key)? {
        Some(bytes) => decode(bytes.value(), "receipt").map(Some),
        None => Ok(None),
    }
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
