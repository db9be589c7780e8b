//! Which delivered receipts go into the next batch.
//!
//! The chain takes a batch whole or not at all, so a single line that it would refuse costs the
//! worker all the others. Here every bound of the chain is held against the receipts first, and what
//! does not pass waits. The lanes that would lapse first go first; those that pay nothing take the
//! places that are left, so that no number of them holds up one that pays.

use crate::record::DeliveredReceipt;
use openledger_primitives::{
    batch::{MAX_CLAIMS, MAX_CREDITS, MAX_USAGE},
    receipt::CreditReason,
    voucher::Voucher,
    Balance, BatchSequence, BlockNumber, ChannelId, ContributionId, Digest, LaneIndex, PublicKey,
    RevisionId, Sequence, TermsIndex,
};
use std::collections::{BTreeMap, BTreeSet};

/// Blocks between choosing a batch's receipts and the block that takes it. A voucher that lapses
/// within them is not risked: with it, the batch would be refused.
const INCLUSION: BlockNumber = 3;

/// What the chain says of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLane {
    /// The first sequence not yet settled.
    pub next_sequence: Sequence,
    /// Cumulative charge settled, planck.
    pub cumulative: Balance,
    /// What claims can still take from the channel, planck.
    pub deposit: Balance,
    /// The lane's signer.
    pub signer: PublicKey,
    /// What claims can still take on this signer's vouchers, planck.
    pub signer_room: Balance,
    /// Last block at which the lane can be claimed: the channel closes after it, or the signer's
    /// vouchers count no longer.
    pub claim_until: BlockNumber,
    /// Block at which a cut of the deposit can be paid out.
    pub cut_from: Option<BlockNumber>,
}

/// What the chain allows the next batch to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Position of the batch.
    pub sequence: BatchSequence,
    /// Hash of the batch before it.
    pub parent: Digest,
    /// Epoch of the chain.
    pub epoch: u64,
    /// Best block.
    pub now: BlockNumber,
    /// Blocks after its expiry in which a voucher can be claimed.
    pub voucher_grace: BlockNumber,
    /// Most fees that the bond covers, planck.
    pub room: Balance,
    /// Most claims; never more than the protocol's bound.
    pub max_claims: u32,
}

impl BatchLimits {
    /// Last block at which a claim can rest on `voucher`.
    fn claimable_until(&self, voucher: &Voucher) -> BlockNumber {
        voucher.expiry.saturating_add(self.voucher_grace)
    }

    /// Whether something that ends with block `until` will still hold when the batch is included.
    fn in_time(&self, until: BlockNumber) -> bool {
        self.now.saturating_add(INCLUSION) <= until
    }
}

/// Revision and terms of a usage line.
pub(crate) type UsageKey = (RevisionId, TermsIndex);
/// Revision, contribution and reason of a credit.
pub(crate) type CreditKey = (RevisionId, ContributionId, CreditReason);

/// Receipts of one lane that its next claim covers: contiguous from the first unsettled.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub settled: ChainLane,
    pub receipts: Vec<&'a DeliveredReceipt>,
}

/// Chooses from `receipts`, sorted by (channel, lane, sequence). The runs come sorted by (channel,
/// lane).
///
/// A claim rests on the voucher of its last receipt alone: earlier ones may have lapsed. Terms are held
/// against every receipt: `accepted_until` gives the last block at which usage at them is accepted.
pub(crate) fn select<'a>(
    limits: &BatchLimits,
    lane_on_chain: impl Fn(ChannelId, LaneIndex) -> Option<ChainLane>,
    accepted_until: impl Fn(RevisionId, TermsIndex) -> BlockNumber,
    receipts: impl Iterator<Item = &'a DeliveredReceipt>,
) -> Vec<Run<'a>> {
    let mut lanes: BTreeMap<(ChannelId, LaneIndex), Vec<&DeliveredReceipt>> = BTreeMap::new();
    for receipt in receipts {
        let voucher = &receipt.voucher.voucher;
        lanes
            .entry((voucher.channel, voucher.lane))
            .or_default()
            .push(receipt);
    }
    let mut candidates: Vec<_> = lanes
        .into_iter()
        .filter_map(|(lane, receipts)| {
            let settled = lane_on_chain(lane.0, lane.1)?;
            let run = claimable(limits, &settled, &accepted_until, receipts)?;
            Some((deadline(limits, &accepted_until, &run), lane, run))
        })
        .collect();
    candidates.sort_by_key(|(deadline, lane, _)| (*deadline, *lane));

    let most = limits.max_claims.min(MAX_CLAIMS) as usize;
    let mut taken = BTreeMap::new();
    let mut budget = Budget::new(limits.room);
    let mut free = Vec::new();
    for (_, lane, run) in candidates {
        if taken.len() == most {
            break;
        }
        match budget.fit(limits, lane.0, &run) {
            Some(part) if part.fee > 0 => {
                taken.insert(lane, budget.take(lane.0, run, part));
            }
            Some(_) => free.push((lane, run)),
            None => {}
        }
    }
    for (lane, run) in free {
        if taken.len() == most {
            break;
        }
        // What was taken since may leave it less.
        if let Some(part) = budget.fit(limits, lane.0, &run) {
            taken.insert(lane, budget.take(lane.0, run, part));
        }
    }
    taken.into_values().collect()
}

/// The contiguous receipts from the first unsettled to the last on whose voucher a claim can rest. What
/// follows a receipt whose terms are over cannot be claimed, since it cannot be claimed without it.
fn claimable<'a>(
    limits: &BatchLimits,
    settled: &ChainLane,
    accepted_until: impl Fn(RevisionId, TermsIndex) -> BlockNumber,
    mut receipts: Vec<&'a DeliveredReceipt>,
) -> Option<Run<'a>> {
    if !limits.in_time(settled.claim_until) {
        return None;
    }
    let mut next = settled.next_sequence;
    receipts.retain(|receipt| {
        let voucher = &receipt.voucher.voucher;
        let follows = voucher.sequence == next
            && limits.in_time(accepted_until(voucher.revision, voucher.terms));
        if follows {
            next = next.saturating_add(1);
        }
        follows
    });
    let last = receipts
        .iter()
        .rposition(|receipt| limits.in_time(limits.claimable_until(&receipt.voucher.voucher)))?;
    receipts.truncate(last.saturating_add(1));
    Some(Run {
        settled: *settled,
        receipts,
    })
}

/// Last block at which the run, as it is, can surely be claimed.
fn deadline(
    limits: &BatchLimits,
    accepted_until: impl Fn(RevisionId, TermsIndex) -> BlockNumber,
    run: &Run<'_>,
) -> BlockNumber {
    let voucher = run.receipts.last().map_or(BlockNumber::MAX, |last| {
        limits.claimable_until(&last.voucher.voucher)
    });
    let terms = run
        .receipts
        .iter()
        .map(|receipt| &receipt.voucher.voucher)
        .map(|voucher| accepted_until(voucher.revision, voucher.terms))
        .min()
        .unwrap_or(BlockNumber::MAX);
    voucher
        .min(terms)
        .min(run.settled.claim_until)
        .min(run.settled.cut_from.unwrap_or(BlockNumber::MAX))
}

/// What lines and planck are left for the lanes still to come.
struct Budget {
    room: Balance,
    deposits: BTreeMap<ChannelId, Balance>,
    signers: BTreeMap<(ChannelId, PublicKey), Balance>,
    usage: BTreeSet<UsageKey>,
    credits: BTreeSet<CreditKey>,
}

/// As much of a run as fits, and what it adds.
struct Part {
    /// Position of its last receipt.
    last: usize,
    /// Planck.
    fee: Balance,
    usage: Vec<UsageKey>,
    credits: Vec<CreditKey>,
}

impl Budget {
    fn new(room: Balance) -> Self {
        Budget {
            room,
            deposits: BTreeMap::new(),
            signers: BTreeMap::new(),
            usage: BTreeSet::new(),
            credits: BTreeSet::new(),
        }
    }

    /// As much of the run as fits and can be claimed at its last receipt; `None` when that is nothing.
    fn fit(&self, limits: &BatchLimits, channel: ChannelId, run: &Run<'_>) -> Option<Part> {
        let signer = (channel, run.settled.signer);
        let deposit = self.deposits.get(&channel).copied();
        let signer_room = self.signers.get(&signer).copied();
        let money = self
            .room
            .min(deposit.unwrap_or(run.settled.deposit))
            .min(signer_room.unwrap_or(run.settled.signer_room));
        // Lines that the run adds, with the position of the receipt that brings each.
        let mut usage: BTreeMap<UsageKey, usize> = BTreeMap::new();
        let mut credits: BTreeMap<CreditKey, usize> = BTreeMap::new();
        let mut fee: Balance = 0;
        let mut fits = None;
        for (position, receipt) in run.receipts.iter().enumerate() {
            let voucher = &receipt.voucher.voucher;
            fee = fee.saturating_add(receipt.receipt.receipt.fee);
            let used: UsageKey = (voucher.revision, voucher.terms);
            if !self.usage.contains(&used) {
                usage.entry(used).or_insert(position);
            }
            for line in &receipt.credits {
                let credited = (voucher.revision, line.contribution, line.reason);
                if !self.credits.contains(&credited) {
                    credits.entry(credited).or_insert(position);
                }
            }
            if fee > money
                || self.usage.len() + usage.len() > MAX_USAGE as usize
                || self.credits.len() + credits.len() > MAX_CREDITS as usize
            {
                break;
            }
            if limits.in_time(limits.claimable_until(voucher)) {
                fits = Some((position, fee));
            }
        }
        let (last, fee) = fits?;
        Some(Part {
            last,
            fee,
            usage: within(usage, last),
            credits: within(credits, last),
        })
    }

    /// Takes that part of the run.
    fn take<'a>(&mut self, channel: ChannelId, mut run: Run<'a>, part: Part) -> Run<'a> {
        run.receipts.truncate(part.last.saturating_add(1));
        let signer = (channel, run.settled.signer);
        let deposit = self.deposits.entry(channel);
        let deposit = deposit.or_insert(run.settled.deposit);
        let signer_room = self.signers.entry(signer);
        let signer_room = signer_room.or_insert(run.settled.signer_room);
        for left in [&mut self.room, deposit, signer_room] {
            *left = left.saturating_sub(part.fee);
        }
        self.usage.extend(part.usage);
        self.credits.extend(part.credits);
        run
    }
}

/// The lines that a receipt up to position `last` brings.
fn within<K>(lines: BTreeMap<K, usize>, last: usize) -> Vec<K> {
    lines
        .into_iter()
        .filter(|(_, at)| *at <= last)
        .map(|(key, _)| key)
        .collect()
}
