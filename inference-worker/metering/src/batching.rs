//! Turning delivered receipts into the next batch. Pure: what chain and journal say comes in, lines
//! and their trees come out.

use crate::{
    record::DeliveredReceipt,
    selection::{select, BatchLimits, ChainLane, CreditKey, Run, UsageKey},
};
use openledger_primitives::{
    batch::{
        batch_hash, claims_root, credits_root, usage_root, BatchHeader, BatchRoots, Claim, Credit,
        Usage,
    },
    sum_tree::{self, SumNode},
    BlockNumber, ChannelId, Digest, LaneIndex, RevisionId, Sequence, TermsIndex, FORMAT_VERSION,
};
use parity_scale_codec::{Decode, Encode};
use std::collections::BTreeMap;

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

#[derive(Default)]
struct UsageLine {
    tokens_in: u64,
    tokens_out: u64,
    nodes: Vec<SumNode>,
}

/// Builds the next batch from `receipts`, sorted by (channel, lane, sequence); `None` when nothing
/// can be claimed now. `accepted_until` gives the last block at which usage of a revision at terms is
/// accepted. What the selection leaves out waits for a later batch.
pub fn prepare<'a>(
    worker: &[u8; 32],
    limits: &BatchLimits,
    lane_on_chain: impl Fn(ChannelId, LaneIndex) -> Option<ChainLane>,
    accepted_until: impl Fn(RevisionId, TermsIndex) -> BlockNumber,
    receipts: impl Iterator<Item = &'a DeliveredReceipt>,
) -> Option<PreparedBatch> {
    let taken = select(limits, lane_on_chain, accepted_until, receipts);
    if taken.is_empty() {
        return None;
    }
    // The chain takes no batch that pays nobody; its answers wait for one that does.
    build(worker, limits, &taken).filter(|batch| batch.header.fee > 0)
}

fn build(worker: &[u8; 32], limits: &BatchLimits, taken: &[Run<'_>]) -> Option<PreparedBatch> {
    let mut claims = Vec::with_capacity(taken.len());
    let mut usage: BTreeMap<UsageKey, UsageLine> = BTreeMap::new();
    let mut credits: BTreeMap<CreditKey, Vec<SumNode>> = BTreeMap::new();
    let mut leaves = Vec::new();
    for Run { settled, receipts } in taken {
        let nodes: Vec<SumNode> = receipts
            .iter()
            .map(|receipt| receipt.leaf().node())
            .collect();
        let root = sum_tree::root(&nodes)?;
        let last = receipts.last()?;
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
                count: u32::try_from(receipts.len()).ok()?,
            },
            last.receipt.receipt.cum.checked_sub(settled.cumulative)?,
        ));
        for receipt in receipts {
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
