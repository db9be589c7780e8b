//! Turning delivered receipts into the next batch. Pure: what chain and journal say comes in, lines
//! and their trees come out.

use crate::record::DeliveredReceipt;
use openledger_primitives::{
    batch::{
        batch_hash, claims_root, credits_root, usage_root, BatchHeader, BatchRoots, Claim, Credit,
        Usage, MAX_CLAIMS, MAX_CREDITS, MAX_USAGE,
    },
    receipt::CreditReason,
    sum_tree::{self, SumNode},
    Balance, BatchSequence, ChannelId, ContributionId, Digest, LaneIndex, RevisionId, Sequence,
    TermsIndex, FORMAT_VERSION,
};
use parity_scale_codec::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// What the chain has settled of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLane {
    /// The first sequence not yet settled.
    pub next_sequence: Sequence,
    /// Cumulative charge settled, planck.
    pub cumulative: Balance,
    /// What the channel can still pay, planck.
    pub free_deposit: Balance,
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
    /// Most fees that the bond covers, planck.
    pub room: Balance,
}

/// A batch ready to submit, and which receipts are in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PreparedBatch {
    /// Head.
    pub header: BatchHeader,
    /// Claims, sorted.
    pub claims: Vec<Claim>,
    /// Usage, sorted.
    pub usage: Vec<Usage>,
    /// Credits, sorted.
    pub credits: Vec<Credit>,
    /// Its hash: the parent of the next.
    pub hash: Digest,
    /// The leaf table: (channel, lane, sequence) of its receipts, sorted.
    pub leaves: Vec<(ChannelId, LaneIndex, Sequence)>,
}

type UsageKey = (RevisionId, TermsIndex);
type CreditKey = (RevisionId, ContributionId, CreditReason);

#[derive(Default)]
struct UsageLine {
    tokens_in: u64,
    tokens_out: u64,
    nodes: Vec<SumNode>,
}

/// Builds the next batch from `receipts`, sorted by (channel, lane, sequence); `None` when nothing
/// fits.
///
/// Of each lane a contiguous run is taken that starts at the first unsettled sequence. What exceeds
/// a bound (lines, bond, deposit) waits for a later batch.
pub fn prepare<'a>(
    worker: &[u8; 32],
    limits: &BatchLimits,
    lane_on_chain: impl Fn(ChannelId, LaneIndex) -> Option<ChainLane>,
    receipts: impl Iterator<Item = &'a DeliveredReceipt>,
) -> Option<PreparedBatch> {
    let mut lanes: BTreeMap<(ChannelId, LaneIndex), Vec<&DeliveredReceipt>> = BTreeMap::new();
    for receipt in receipts {
        let voucher = &receipt.voucher.voucher;
        lanes
            .entry((voucher.channel, voucher.lane))
            .or_default()
            .push(receipt);
    }
    let mut taken: Vec<(ChainLane, Vec<&DeliveredReceipt>)> = Vec::new();
    let mut deposits: BTreeMap<ChannelId, Balance> = BTreeMap::new();
    let mut usage_keys: BTreeSet<UsageKey> = BTreeSet::new();
    let mut credit_keys: BTreeSet<CreditKey> = BTreeSet::new();
    let mut fee: Balance = 0;
    for ((channel, lane), receipts) in lanes {
        if taken.len() as u32 == MAX_CLAIMS {
            break;
        }
        let Some(settled) = lane_on_chain(channel, lane) else {
            continue;
        };
        let deposit = deposits.entry(channel).or_insert(settled.free_deposit);
        let mut run = Vec::new();
        let mut next = settled.next_sequence;
        for receipt in receipts {
            let voucher = &receipt.voucher.voucher;
            if voucher.sequence < next {
                continue;
            }
            let charge = receipt.receipt.receipt.fee;
            let grown = fee.saturating_add(charge);
            if voucher.sequence != next || grown > limits.room || charge > *deposit {
                break;
            }
            let usage_key = (voucher.revision, voucher.terms);
            let new_credits = receipt
                .credits
                .iter()
                .map(|line| (voucher.revision, line.contribution, line.reason))
                .filter(|key| !credit_keys.contains(key))
                .collect::<Vec<_>>();
            let usage_full =
                !usage_keys.contains(&usage_key) && usage_keys.len() as u32 == MAX_USAGE;
            if usage_full || credit_keys.len() + new_credits.len() > MAX_CREDITS as usize {
                break;
            }
            usage_keys.insert(usage_key);
            credit_keys.extend(new_credits);
            fee = grown;
            *deposit -= charge;
            next = next.saturating_add(1);
            run.push(receipt);
        }
        if !run.is_empty() {
            taken.push((settled, run));
        }
    }
    if taken.is_empty() {
        return None;
    }
    build(worker, limits, &taken)
}

fn build(
    worker: &[u8; 32],
    limits: &BatchLimits,
    taken: &[(ChainLane, Vec<&DeliveredReceipt>)],
) -> Option<PreparedBatch> {
    let mut claims = Vec::with_capacity(taken.len());
    let mut usage: BTreeMap<UsageKey, UsageLine> = BTreeMap::new();
    let mut credits: BTreeMap<CreditKey, Vec<SumNode>> = BTreeMap::new();
    let mut leaves = Vec::new();
    for (settled, run) in taken {
        let nodes: Vec<SumNode> = run.iter().map(|receipt| receipt.leaf().node()).collect();
        let root = sum_tree::root(&nodes)?;
        let last = run.last()?;
        let voucher = &last.voucher.voucher;
        claims.push((
            Claim {
                channel: voucher.channel,
                lane: voucher.lane,
                sequence_to: voucher.sequence,
                cumulative: last.receipt.receipt.cum,
                voucher: *voucher,
                signature: last.voucher.signature,
                subroot: root.hash,
                count: u32::try_from(run.len()).ok()?,
            },
            last.receipt.receipt.cum.checked_sub(settled.cumulative)?,
        ));
        for receipt in run {
            let leaf = receipt.leaf();
            let voucher = &receipt.voucher.voucher;
            let charged = &receipt.receipt.receipt;
            leaves.push((leaf.channel, leaf.lane, leaf.sequence));
            let line = usage.entry((voucher.revision, voucher.terms)).or_default();
            line.tokens_in += u64::from(charged.tokens_in);
            line.tokens_out += u64::from(charged.tokens_out);
            line.nodes.push(leaf.node());
            for credit in &receipt.credits {
                credits
                    .entry((voucher.revision, credit.contribution, credit.reason))
                    .or_default()
                    .push(leaf.credit_node(credit.amount));
            }
        }
    }
    let usage: Vec<Usage> = usage
        .into_iter()
        .map(|((revision, terms), line)| {
            let root = sum_tree::root(&line.nodes)?;
            Some(Usage {
                revision,
                terms,
                fee: root.sum,
                tokens_in: line.tokens_in,
                tokens_out: line.tokens_out,
                count: u32::try_from(root.count).ok()?,
                subroot: root.hash,
            })
        })
        .collect::<Option<_>>()?;
    let credits: Vec<Credit> = credits
        .into_iter()
        .map(|((revision, contribution, reason), nodes)| {
            let root = sum_tree::root(&nodes)?;
            Some(Credit {
                revision,
                contribution,
                amount: root.sum,
                reason,
                subroot: root.hash,
                count: u32::try_from(root.count).ok()?,
            })
        })
        .collect::<Option<_>>()?;
    let roots = BatchRoots {
        claims: claims_root(claims.iter().map(|(claim, amount)| (claim, *amount)))?,
        usage: usage_root(usage.iter())?,
        credits: credits_root(credits.iter())?,
    };
    let header = BatchHeader {
        version: FORMAT_VERSION,
        sequence: limits.sequence,
        parent: limits.parent,
        epoch: limits.epoch,
        fee: roots.claims.sum,
        count: u32::try_from(roots.claims.count).ok()?,
    };
    debug_assert_eq!(roots.claims.sum, roots.usage.sum);
    Some(PreparedBatch {
        hash: batch_hash(worker, &header, &roots),
        header,
        claims: claims.into_iter().map(|(claim, _)| claim).collect(),
        usage,
        credits,
        leaves,
    })
}
