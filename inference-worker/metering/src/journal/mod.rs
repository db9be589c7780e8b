//! The crash-safe journal of what was delivered: one redb file, every commit synced to disk.

mod batches;
mod lanes;
mod layout;
mod owed;

pub use batches::{BatchState, JournaledBatch};
pub use lanes::{HeldLane, Hold, PendingLane};

use crate::{admission::LaneHead, record::DeliveredReceipt};
use openledger_primitives::{Balance, ChannelId, Digest, LaneIndex, Sequence};
use owed::Owed;
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
/// Delivered receipts that no batch will ever claim: their channel closed, their signer ran out, or their
/// terms were over.
const LAPSED: TableDefinition<'_, ReceiptKey, ()> = TableDefinition::new("lapsed");
/// Lanes whose claims the chain refused.
const HELD: TableDefinition<'_, LaneKey, &[u8]> = TableDefinition::new("held");
/// Lanes of which an answer was given up, so that nothing after it can be claimed.
const ENDED: TableDefinition<'_, LaneKey, ()> = TableDefinition::new("ended");
/// The last receipt of each lane.
const LANES: TableDefinition<'_, LaneKey, &[u8]> = TableDefinition::new("lanes");
/// Voucher hash → receipt, so that a voucher presented twice is served once.
const VOUCHERS: TableDefinition<'_, &[u8; 32], ReceiptKey> = TableDefinition::new("vouchers");
/// Batches by sequence.
const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");
/// State of each batch that is not released: few, however many were ever written.
const UNRELEASED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("unreleased");

/// What went wrong with the journal. The worker must not deliver when this happens.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The database file cannot be used.
    #[error("the journal: {0}")]
    Database(String),
    /// Another process has it open.
    #[error("the journal is in use: a worker runs on this folder already; stop it first")]
    InUse,
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
    /// A later version of the worker wrote the file.
    #[error("the journal has layout {0}, which this worker does not know; start the version that wrote it, or a later one")]
    Layout(u32),
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

/// The journal. One process opens it at a time.
#[derive(Debug)]
pub struct Journal {
    database: Database,
    /// Lanes with a request in flight in this process.
    busy: Busy,
    /// What receipts in no batch on chain charge.
    owed: Mutex<Owed>,
    /// A write has failed.
    failed: AtomicBool,
}

type Busy = Arc<Mutex<HashSet<LaneKey>>>;

impl Journal {
    /// Opens or creates the journal file. Fails while another process has it open.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => JournalError::InUse,
            error => error.into(),
        })?;
        let transaction = begin(&database)?;
        {
            transaction.open_table(RECEIPTS)?;
            transaction.open_table(PENDING)?;
            transaction.open_table(LAPSED)?;
            transaction.open_table(LANES)?;
            transaction.open_table(VOUCHERS)?;
            transaction.open_table(BATCHES)?;
            transaction.open_table(UNRELEASED)?;
            transaction.open_table(HELD)?;
            transaction.open_table(ENDED)?;
        }
        layout::migrate(&transaction)?;
        transaction.commit()?;
        let journal = Journal {
            database,
            busy: Busy::default(),
            owed: Mutex::default(),
            failed: AtomicBool::new(false),
        };
        *lock(&journal.owed) = journal.read_owed()?;
        Ok(journal)
    }

    /// Fees of delivered receipts that are not known to be in a batch on chain, planck: the bond must
    /// still cover them. Those of parked lanes, and of lanes whose vouchers have all lapsed, are not
    /// among them.
    pub fn unsubmitted_fees(&self) -> Balance {
        lock(&self.owed).unsubmitted()
    }

    /// What the file says is owed.
    fn read_owed(&self) -> Result<Owed, JournalError> {
        let mut owed = Owed::default();
        let prepared = self.prepared()?.map_or(0, |batch| batch.header.fee);
        owed.prepare(prepared);
        let read = self.database.begin_read()?;
        let receipts = read.open_table(RECEIPTS)?;
        for entry in read.open_table(PENDING)?.iter()? {
            let key = entry?.0.value();
            let delivered =
                receipt(&receipts, key)?.ok_or(JournalError::Damaged("pending list"))?;
            owed.add(key, delivered.receipt.receipt.fee);
        }
        for entry in read.open_table(HELD)?.iter()? {
            let (lane, hold) = entry?;
            let hold: Hold = decode(hold.value(), "held lane")?;
            owed.set_parked(lane.value(), hold.is_parked());
        }
        Ok(owed)
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
        // Before the commit: the batch that takes the receipt next takes it off again.
        let fee = delivered.receipt.receipt.fee;
        lock(&self.owed).add(key, fee);
        if let Err(error) = transaction.commit() {
            lock(&self.owed).remove(key, fee);
            return Err(error.into());
        }
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

    /// Totals for status pages.
    pub fn totals(&self) -> Result<Totals, JournalError> {
        let open_batches = self
            .in_state(BatchState::Prepared)?
            .len()
            .saturating_add(self.in_state(BatchState::Submitted)?.len());
        let read = self.database.begin_read()?;
        Ok(Totals {
            pending: read.open_table(PENDING)?.len()?,
            pending_fees: lock(&self.owed).pending(),
            lapsed: read.open_table(LAPSED)?.len()?,
            open_batches: u64::try_from(open_batches).unwrap_or(u64::MAX),
        })
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
