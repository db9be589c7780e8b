//! Lanes with receipts in no batch, and what becomes of those that cannot be claimed.

use super::{
    begin, decode, lock, receipt, Journal, JournalError, LaneKey, ReceiptKey, ENDED, HELD, LANES,
    LAPSED, PENDING, RECEIPTS,
};
use crate::admission::LaneHead;
use openledger_primitives::{
    Balance, BlockNumber, ChannelId, LaneIndex, RevisionId, Sequence, TermsIndex,
};
use parity_scale_codec::{Decode, Encode};
use redb::{ReadableDatabase, ReadableTable};
use std::collections::BTreeMap;

/// A lane with receipts in no batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLane {
    /// Channel.
    pub channel: ChannelId,
    /// Lane.
    pub lane: LaneIndex,
    /// Sequence of the first.
    pub first: Sequence,
    /// Sequence of the last.
    pub last: Sequence,
    /// How many.
    pub receipts: u64,
    /// Their fees, planck.
    pub fees: Balance,
    /// Highest block at which one of their answers began.
    pub latest_start: BlockNumber,
    /// Highest block at which one of their vouchers expires.
    pub last_expiry: BlockNumber,
    /// Revisions and terms of their vouchers, each with the first sequence that names them.
    pub terms: BTreeMap<(RevisionId, TermsIndex), Sequence>,
}

/// Why a lane is left out of batches that others are in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Hold {
    /// The chain refused it; it is tried again, alone.
    #[codec(index = 0)]
    Aside {
        /// How often a batch of nothing else was refused.
        refusals: u32,
        /// First block at which it is tried again.
        until: BlockNumber,
    },
    /// The chain refused it alone so often that it is tried no more until the operator asks for it.
    #[codec(index = 1)]
    Parked {
        /// What the chain said last.
        error: String,
    },
}

impl Hold {
    /// Whether it lasts until the operator ends it.
    pub fn is_parked(&self) -> bool {
        matches!(self, Hold::Parked { .. })
    }
}

/// A lane that the chain refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLane {
    /// Channel.
    pub channel: ChannelId,
    /// Lane.
    pub lane: LaneIndex,
    /// How it is held.
    pub hold: Hold,
    /// Fees of its receipts in no batch, planck.
    pub fees: Balance,
}

impl Journal {
    /// Fees delivered on lanes of a channel beyond what the chain has settled of each, planck. Takes
    /// the settled cumulative charge by lane. What parked lanes charge is no longer counted on.
    pub fn unsettled_fees(
        &self,
        channel: ChannelId,
        settled: impl Iterator<Item = (LaneIndex, Balance)>,
    ) -> Result<Balance, JournalError> {
        let heads = self.database.begin_read()?.open_table(LANES)?;
        let mut fees: Balance = 0;
        for (lane, settled) in settled {
            if lock(&self.owed).is_parked((channel, lane)) {
                continue;
            }
            let Some(bytes) = heads.get((channel, lane))? else {
                continue;
            };
            let head: LaneHead = decode(bytes.value(), "lane")?;
            fees = fees.saturating_add(head.cumulative.saturating_sub(settled));
        }
        Ok(fees)
    }

    /// Lanes with receipts in no batch.
    pub fn pending_lanes(&self) -> Result<Vec<PendingLane>, JournalError> {
        let read = self.database.begin_read()?;
        let pending = read.open_table(PENDING)?;
        let receipts = read.open_table(RECEIPTS)?;
        let mut lanes: Vec<PendingLane> = Vec::new();
        for entry in pending.iter()? {
            let key = entry?.0.value();
            let delivered =
                receipt(&receipts, key)?.ok_or(JournalError::Damaged("pending list"))?;
            if lanes
                .last()
                .is_none_or(|last| (last.channel, last.lane) != (key.0, key.1))
            {
                lanes.push(PendingLane {
                    channel: key.0,
                    lane: key.1,
                    first: key.2,
                    last: key.2,
                    receipts: 0,
                    fees: 0,
                    latest_start: 0,
                    last_expiry: 0,
                    terms: BTreeMap::new(),
                });
            }
            if let Some(lane) = lanes.last_mut() {
                let voucher = &delivered.voucher.voucher;
                let charged = &delivered.receipt.receipt;
                lane.last = key.2;
                lane.receipts = lane.receipts.saturating_add(1);
                lane.fees = lane.fees.saturating_add(charged.fee);
                lane.latest_start = lane.latest_start.max(charged.start_block);
                lane.last_expiry = lane.last_expiry.max(voucher.expiry);
                lane.terms
                    .entry((voucher.revision, voucher.terms))
                    .or_insert(key.2);
            }
        }
        Ok(lanes)
    }

    /// Says which lanes have no voucher left on which a claim could rest, each with the last sequence
    /// that was looked at. Until the lane goes on, the bond need not cover what they charge.
    pub fn set_lapsed(&self, lanes: impl Iterator<Item = (ChannelId, LaneIndex, Sequence)>) {
        lock(&self.owed).set_lapsed(lanes.map(|(channel, lane, last)| ((channel, lane), last)));
    }

    /// Gives up the pending receipts of a lane that can never be claimed again. Returns their fees,
    /// planck. The receipts stay on record; a hold of the lane ends.
    pub fn write_off(&self, channel: ChannelId, lane: LaneIndex) -> Result<Balance, JournalError> {
        let fees =
            self.take_pending((channel, lane), Sequence::MIN..=Sequence::MAX, true, false)?;
        self.unhold(channel, lane)?;
        Ok(fees)
    }

    /// Gives up the pending receipts of a lane from a sequence on, because its terms are over, and ends
    /// the lane: nothing that is delivered on it after them can be claimed without them. Returns their
    /// fees, planck.
    pub fn cut_off(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        from: Sequence,
    ) -> Result<Balance, JournalError> {
        self.take_pending((channel, lane), from..=Sequence::MAX, true, true)
    }

    /// Drops the pending receipts of a lane below a sequence, because a batch on chain has claimed them.
    pub fn drop_claimed(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        below: Sequence,
    ) -> Result<(), JournalError> {
        match below.checked_sub(1) {
            Some(last) => self
                .take_pending((channel, lane), Sequence::MIN..=last, false, false)
                .map(drop),
            None => Ok(()),
        }
    }

    /// Takes receipts of a lane out of the pending ones; gives their fees.
    fn take_pending(
        &self,
        (channel, lane): LaneKey,
        sequences: std::ops::RangeInclusive<Sequence>,
        lapsed: bool,
        ends: bool,
    ) -> Result<Balance, JournalError> {
        let transaction = begin(&self.database)?;
        let mut taken: Vec<(ReceiptKey, Balance)> = Vec::new();
        {
            let mut pending = transaction.open_table(PENDING)?;
            let mut lost = transaction.open_table(LAPSED)?;
            let receipts = transaction.open_table(RECEIPTS)?;
            let (first, last) = sequences.into_inner();
            let keys: Vec<ReceiptKey> = pending
                .range((channel, lane, first)..=(channel, lane, last))?
                .map(|entry| entry.map(|(key, _)| key.value()))
                .collect::<Result<_, _>>()?;
            for key in keys {
                let delivered =
                    receipt(&receipts, key)?.ok_or(JournalError::Damaged("pending list"))?;
                taken.push((key, delivered.receipt.receipt.fee));
                pending.remove(key)?;
                if lapsed {
                    lost.insert(key, ())?;
                }
            }
            if ends {
                transaction.open_table(ENDED)?.insert((channel, lane), ())?;
            }
        }
        transaction.commit()?;
        let mut owed = lock(&self.owed);
        let mut fees: Balance = 0;
        for (key, fee) in taken {
            owed.remove(key, fee);
            fees = fees.saturating_add(fee);
        }
        Ok(fees)
    }

    /// Holds a lane that the chain refused out of batches that others are in.
    pub fn hold(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
        hold: &Hold,
    ) -> Result<(), JournalError> {
        let transaction = begin(&self.database)?;
        transaction
            .open_table(HELD)?
            .insert((channel, lane), hold.encode().as_slice())?;
        transaction.commit()?;
        lock(&self.owed).set_parked((channel, lane), hold.is_parked());
        Ok(())
    }

    /// Ends the hold of a lane, if it has one.
    pub fn unhold(&self, channel: ChannelId, lane: LaneIndex) -> Result<(), JournalError> {
        let transaction = begin(&self.database)?;
        transaction.open_table(HELD)?.remove((channel, lane))?;
        transaction.commit()?;
        lock(&self.owed).set_parked((channel, lane), false);
        Ok(())
    }

    /// Ends the hold of all parked lanes; gives their number.
    pub fn unpark(&self) -> Result<usize, JournalError> {
        let mut parked = self.held()?;
        parked.retain(|one| one.hold.is_parked());
        for one in &parked {
            self.unhold(one.channel, one.lane)?;
        }
        Ok(parked.len())
    }

    /// Lanes that the chain refused.
    pub fn held(&self) -> Result<Vec<HeldLane>, JournalError> {
        let table = self.database.begin_read()?.open_table(HELD)?;
        let owed = lock(&self.owed);
        let mut held = Vec::new();
        for entry in table.iter()? {
            let (key, hold) = entry?;
            let (channel, lane) = key.value();
            held.push(HeldLane {
                channel,
                lane,
                hold: decode(hold.value(), "held lane")?,
                fees: owed.of((channel, lane)),
            });
        }
        Ok(held)
    }

    /// Whether what is delivered on the lane could not, or not surely, be claimed: the chain refused it,
    /// or an answer of it was given up.
    pub fn is_refused(&self, channel: ChannelId, lane: LaneIndex) -> Result<bool, JournalError> {
        let read = self.database.begin_read()?;
        let held = read.open_table(HELD)?.get((channel, lane))?.is_some();
        Ok(held || read.open_table(ENDED)?.get((channel, lane))?.is_some())
    }
}
