//! Lanes on disk. Every change is on disk before what depends on it leaves this program.

use super::{Breakage, Came};
use crate::{
    commands::Opening,
    voucher::{Position, Terms},
    GatewayError,
};
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{voucher::Voucher, ChannelId, LaneIndex, Sequence, Signature};
use parity_scale_codec::{Decode, Encode};
use redb::{
    AccessGuard, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition,
};
use std::{os::unix::fs::DirBuilderExt, path::Path};

const LANES: TableDefinition<(u64, u16), &[u8]> = TableDefinition::new("lanes");
/// (channel, lane, sequence) → voucher, its signature, receipt, its signature: the consumer's
/// evidence of what was asked, answered and charged.
const RECEIPTS: TableDefinition<(u64, u16, u64), &[u8]> = TableDefinition::new("receipts");
/// Worker → what it charged for what came and for what did not.
const BREAKAGE: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("breakage");
const CHANNEL: TableDefinition<(), u64> = TableDefinition::new("channel");
/// The channel that is being opened: what to look for when this program does not live to see it.
const OPENING: TableDefinition<(), &[u8]> = TableDefinition::new("opening");

/// A voucher that was signed and whose receipt has not been accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pending {
    /// The voucher.
    pub voucher: Voucher,
    /// Its signature.
    pub signature: Signature,
    /// Terms that it names.
    pub terms: Terms,
    /// Prompt tokens counted; zero when an answer goes on.
    pub tokens_in: u32,
    /// What may be charged under it.
    pub owed: Owed,
}

/// What may be charged under a voucher whose answer was not received to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Owed {
    /// All that was signed for: this program ended before the answer did.
    #[codec(index = 0)]
    Signed,
    /// So many output tokens at most: the answer was cut off on this side.
    #[codec(index = 1)]
    AtMost(u32),
    /// So many output tokens, which came before the worker, or the way to it, broke the answer off,
    /// and those that may have been under way. What did not come is put up with as far as
    /// [`Breakage`] allows.
    #[codec(index = 2)]
    Broken(u32),
    /// Nothing: the worker refused the request, or says that it failed.
    #[codec(index = 3)]
    Nothing,
}

/// A lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LaneState {
    /// The last receipt accepted.
    pub position: Position,
    /// What is in doubt.
    pub pending: Option<Pending>,
    /// Why the lane is no longer used.
    pub parked: Option<String>,
}

/// Lanes, receipts and the channel's number in one file.
pub struct LaneStore {
    database: Database,
}

fn data<E: std::fmt::Display>(error: E) -> GatewayError {
    GatewayError::Data(error.to_string())
}

fn decoded(value: Option<AccessGuard<'_, &[u8]>>) -> Result<Breakage, GatewayError> {
    value.map_or_else(
        || Ok(Breakage::default()),
        |bytes| Breakage::decode(&mut bytes.value()).map_err(data),
    )
}

impl LaneStore {
    /// Opens or creates `lanes.redb` in `folder`. One process at a time.
    pub fn open(folder: &Path) -> Result<Self, GatewayError> {
        // What was asked, answered and paid is nobody else's business.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| GatewayError::Data(format!("{}: {error}", folder.display())))?;
        let path = folder.join("lanes.redb");
        let database = Database::create(&path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => GatewayError::Setup(format!(
                    "{} is in use: a gateway runs on this folder. Its /ready tells how its lanes stand; stop it \
                     to use this command",
                    path.display()
                )),
                error => GatewayError::Data(format!("{}: {error}", path.display())),
            })?;
        let store = LaneStore { database };
        let write = store.database.begin_write().map_err(data)?;
        {
            write.open_table(LANES).map_err(data)?;
            write.open_table(RECEIPTS).map_err(data)?;
            write.open_table(BREAKAGE).map_err(data)?;
            write.open_table(CHANNEL).map_err(data)?;
            write.open_table(OPENING).map_err(data)?;
        }
        write.commit().map_err(data)?;
        Ok(store)
    }

    /// The channel that `open-channel` noted.
    pub fn channel(&self) -> Result<Option<ChannelId>, GatewayError> {
        let read = self.database.begin_read().map_err(data)?;
        let table = read.open_table(CHANNEL).map_err(data)?;
        Ok(table.get(()).map_err(data)?.map(|channel| channel.value()))
    }

    /// The channel that an earlier run was opening when it ended.
    pub fn opening(&self) -> Result<Option<Opening>, GatewayError> {
        let read = self.database.begin_read().map_err(data)?;
        let table = read.open_table(OPENING).map_err(data)?;
        let value = table.get(()).map_err(data)?;
        value
            .map(|bytes| Opening::decode(&mut bytes.value()).map_err(data))
            .transpose()
    }

    /// Notes what is about to be opened, or that nothing is any more.
    pub fn set_opening(&self, opening: Option<&Opening>) -> Result<(), GatewayError> {
        let write = self.database.begin_write().map_err(data)?;
        {
            let mut table = write.open_table(OPENING).map_err(data)?;
            match opening {
                Some(opening) => table.insert((), opening.encode().as_slice()),
                None => table.remove(()),
            }
            .map_err(data)?;
        }
        write.commit().map_err(data)
    }

    /// Notes the channel to use; nothing is being opened any more.
    pub fn set_channel(&self, channel: ChannelId) -> Result<(), GatewayError> {
        let write = self.database.begin_write().map_err(data)?;
        write
            .open_table(OPENING)
            .map_err(data)?
            .remove(())
            .map_err(data)?;
        write
            .open_table(CHANNEL)
            .map_err(data)?
            .insert((), channel)
            .map_err(data)?;
        write.commit().map_err(data)
    }

    /// A lane; `None` when it was never used here.
    pub fn lane(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
    ) -> Result<Option<LaneState>, GatewayError> {
        let read = self.database.begin_read().map_err(data)?;
        let table = read.open_table(LANES).map_err(data)?;
        let value = table.get((channel, lane)).map_err(data)?;
        value
            .map(|bytes| LaneState::decode(&mut bytes.value()).map_err(data))
            .transpose()
    }

    /// Puts a lane on disk.
    pub fn put(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        state: &LaneState,
    ) -> Result<(), GatewayError> {
        let write = self.database.begin_write().map_err(data)?;
        write
            .open_table(LANES)
            .map_err(data)?
            .insert((channel, lane), state.encode().as_slice())
            .map_err(data)?;
        write.commit().map_err(data)
    }

    /// Puts a lane after an accepted receipt on disk, with the receipt and the worker's account after
    /// it, all or nothing.
    ///
    /// # Errors
    /// [`GatewayError::Overdrawn`] when more would be lost to the worker than is put up with; nothing
    /// is changed then.
    pub fn accept(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        state: &LaneState,
        voucher: &SignedVoucher,
        receipt: &SignedReceipt,
        came: &Came,
    ) -> Result<(), GatewayError> {
        // Lanes are settled at the same time: each sees what the others lost.
        let write = self.database.begin_write().map_err(data)?;
        {
            let mut table = write.open_table(BREAKAGE).map_err(data)?;
            let worker = receipt.receipt.worker;
            let before = decoded(table.get(worker).map_err(data)?)?;
            let after = before.after(&receipt.receipt, came)?;
            if after != before {
                table
                    .insert(worker, after.encode().as_slice())
                    .map_err(data)?;
            }
        }
        write
            .open_table(LANES)
            .map_err(data)?
            .insert((channel, lane), state.encode().as_slice())
            .map_err(data)?;
        write
            .open_table(RECEIPTS)
            .map_err(data)?
            .insert(
                (channel, lane, state.position.sequence),
                (voucher, receipt).encode().as_slice(),
            )
            .map_err(data)?;
        write.commit().map_err(data)
    }

    /// The account of a worker.
    pub fn breakage(&self, worker: &[u8; 32]) -> Result<Breakage, GatewayError> {
        let read = self.database.begin_read().map_err(data)?;
        let table = read.open_table(BREAKAGE).map_err(data)?;
        decoded(table.get(worker).map_err(data)?)
    }

    /// The accounts of all workers.
    pub fn breakages(&self) -> Result<Vec<([u8; 32], Breakage)>, GatewayError> {
        let read = self.database.begin_read().map_err(data)?;
        let table = read.open_table(BREAKAGE).map_err(data)?;
        let mut accounts = Vec::new();
        for entry in table.iter().map_err(data)? {
            let (key, value) = entry.map_err(data)?;
            accounts.push((key.value(), decoded(Some(value))?));
        }
        Ok(accounts)
    }

    /// The voucher and receipt of a sequence.
    pub fn receipt(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        sequence: Sequence,
    ) -> Result<Option<(SignedVoucher, SignedReceipt)>, GatewayError> {
        let read = self.database.begin_read().map_err(data)?;
        let table = read.open_table(RECEIPTS).map_err(data)?;
        let value = table.get((channel, lane, sequence)).map_err(data)?;
        value
            .map(|bytes| Decode::decode(&mut bytes.value()).map_err(data))
            .transpose()
    }

    /// Every lane of the channel that was ever used here.
    pub fn lanes(&self, channel: ChannelId) -> Result<Vec<(LaneIndex, LaneState)>, GatewayError> {
        let read = self.database.begin_read().map_err(data)?;
        let table = read.open_table(LANES).map_err(data)?;
        let mut lanes = Vec::new();
        for entry in table
            .range((channel, 0)..=(channel, u16::MAX))
            .map_err(data)?
        {
            let (key, value) = entry.map_err(data)?;
            lanes.push((
                key.value().1,
                LaneState::decode(&mut value.value()).map_err(data)?,
            ));
        }
        Ok(lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("deep").join("gateway");
        LaneStore::open(&data).unwrap();
        let mode = std::fs::metadata(&data).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_a_gateway_uses_should_be_said_to_be_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let _running = LaneStore::open(folder.path()).unwrap();
        let error = LaneStore::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("a gateway runs on this folder"), "{error}");
    }

    #[test]
    fn what_is_being_opened_is_known_until_its_channel_is() {
        let folder = tempfile::tempdir().unwrap();
        let opening = Opening {
            genesis: [1; 32],
            consumer: [2; 32],
            worker: [3; 32],
            signer: [4; 32],
            first: 5,
        };
        let store = LaneStore::open(folder.path()).unwrap();
        store.set_opening(Some(&opening)).unwrap();
        drop(store);
        let store = LaneStore::open(folder.path()).unwrap();
        assert_eq!(store.opening().unwrap(), Some(opening));
        store.set_channel(6).unwrap();
        assert_eq!(store.opening().unwrap(), None);
    }

    #[test]
    fn a_lane_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = LaneState {
            position: Position {
                sequence: 3,
                receipt: [3; 32],
                cumulative: 17,
            },
            pending: None,
            parked: Some("receipt refused".into()),
        };
        {
            let store = LaneStore::open(folder.path()).unwrap();
            store.put(8, 1, &state).unwrap();
            store.put(9, 0, &LaneState::default()).unwrap();
            store.set_channel(8).unwrap();
        }
        let store = LaneStore::open(folder.path()).unwrap();
        assert_eq!(store.lane(8, 1).unwrap().as_ref(), Some(&state));
        assert_eq!(store.lane(8, 0).unwrap(), None);
        assert_eq!(store.lanes(8).unwrap(), vec![(1, state)]);
        assert_eq!(store.channel().unwrap(), Some(8));
    }
}
