//! What receipts in no batch on chain charge, kept in memory: the file is read for it once.

use super::{LaneKey, ReceiptKey};
use openledger_primitives::{Balance, Sequence};
use std::collections::{HashMap, HashSet};

/// Receipts of one lane in no batch.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    receipts: u64,
    fees: Balance,
    /// Highest sequence ever pending.
    last: Sequence,
}

/// See the module. All in planck.
#[derive(Debug, Default)]
pub(super) struct Owed {
    lanes: HashMap<LaneKey, Lane>,
    /// Lanes that no batch takes until the operator says otherwise.
    parked: HashSet<LaneKey>,
    /// Lanes with no voucher on which a claim could rest.
    lapsed: HashSet<LaneKey>,
    /// Of the batch that is not known to be on chain.
    prepared: Balance,
}

impl Owed {
    /// Fees that the bond must still cover.
    pub fn unsubmitted(&self) -> Balance {
        self.lanes
            .iter()
            .filter(|(lane, _)| !self.parked.contains(lane) && !self.lapsed.contains(lane))
            .fold(self.prepared, |sum, (_, lane)| {
                sum.saturating_add(lane.fees)
            })
    }

    /// Fees of all receipts in no batch.
    pub fn pending(&self) -> Balance {
        self.lanes
            .values()
            .fold(0, |sum, lane| sum.saturating_add(lane.fees))
    }

    /// Fees of the receipts of a lane in no batch.
    pub fn of(&self, lane: LaneKey) -> Balance {
        self.lanes.get(&lane).map_or(0, |lane| lane.fees)
    }

    /// A receipt is pending. It may be what claims of the lane can rest on.
    pub fn add(&mut self, (channel, index, sequence): ReceiptKey, fee: Balance) {
        let lane = self.lanes.entry((channel, index)).or_default();
        lane.receipts = lane.receipts.saturating_add(1);
        lane.fees = lane.fees.saturating_add(fee);
        lane.last = lane.last.max(sequence);
        self.lapsed.remove(&(channel, index));
    }

    /// A receipt is pending no more.
    pub fn remove(&mut self, (channel, index, _): ReceiptKey, fee: Balance) {
        let Some(lane) = self.lanes.get_mut(&(channel, index)) else {
            return;
        };
        lane.receipts = lane.receipts.saturating_sub(1);
        lane.fees = lane.fees.saturating_sub(fee);
        if lane.receipts == 0 {
            self.lanes.remove(&(channel, index));
            self.lapsed.remove(&(channel, index));
        }
    }

    /// Sets the fee of the batch that is not known to be on chain; 0 when there is none.
    pub fn prepare(&mut self, fee: Balance) {
        self.prepared = fee;
    }

    /// Parks the lane, or ends that.
    pub fn set_parked(&mut self, lane: LaneKey, parked: bool) {
        if parked {
            self.parked.insert(lane);
        } else {
            self.parked.remove(&lane);
        }
    }

    /// Whether the lane is parked.
    pub fn is_parked(&self, lane: LaneKey) -> bool {
        self.parked.contains(&lane)
    }

    /// Sets the lanes whose vouchers have all lapsed, each with the last sequence that was looked at:
    /// a receipt that came since counts.
    pub fn set_lapsed(&mut self, lanes: impl Iterator<Item = (LaneKey, Sequence)>) {
        self.lapsed = lanes
            .filter(|(key, seen)| self.lanes.get(key).is_some_and(|lane| lane.last <= *seen))
            .map(|(key, _)| key)
            .collect();
    }
}
