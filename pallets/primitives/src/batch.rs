//! Batches: what a worker submits once a settlement period.
//!
//! Claims, usage and credits are lines of three Merkle-sum index trees over the same receipts. Each
//! line has the subroot over the receipts it stands for; the chain builds the three roots from the
//! lines ([`claims_root`], [`usage_root`], [`credits_root`]), so a line that no receipt supports, or
//! a receipt that no line counts, can be proven by paths.

use crate::{
    crypto::Signature,
    hash::{tagged, tagged_encoded, Digest, Tag},
    ids::*,
    receipt::CreditReason,
    sum_tree::{self, SumNode},
    voucher::Voucher,
};
use alloc::vec::Vec;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Claims that one batch may hold.
pub const MAX_CLAIMS: u32 = 512;
/// Usage lines that one batch may hold.
pub const MAX_USAGE: u32 = 256;
/// Credits that one batch may hold.
pub const MAX_CREDITS: u32 = 2_048;
/// Lines that one finalization step settles at most.
pub const PAGE: u32 = 64;

/// What one lane owes: the latest voucher and the cumulative charge of the receipt under it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Claim {
    /// Channel.
    pub channel: ChannelId,
    /// Lane.
    pub lane: LaneIndex,
    /// Last sequence claimed. The first is the one after the last settled.
    pub sequence_to: Sequence,
    /// Cumulative charge on the lane after it, planck.
    pub cumulative: Balance,
    /// The voucher at `sequence_to`.
    pub voucher: Voucher,
    /// Signature of the lane's signer over the voucher's hash.
    pub signature: Signature,
    /// Hash of the sum tree over the lane's receipts in this batch.
    pub subroot: Digest,
    /// Receipts claimed.
    pub count: u32,
}

/// What one revision earned at one entry of its terms.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Usage {
    /// Revision.
    pub revision: RevisionId,
    /// Terms.
    pub terms: TermsIndex,
    /// Sum of the fees, planck.
    pub fee: Balance,
    /// Prompt tokens charged.
    pub tokens_in: u64,
    /// Output tokens charged.
    pub tokens_out: u64,
    /// Receipts.
    pub count: u32,
    /// Hash of the sum tree over the receipts.
    pub subroot: Digest,
}

/// What one contribution is credited with through one revision.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Credit {
    /// Revision that answered.
    pub revision: RevisionId,
    /// Contribution that shaped the answers.
    pub contribution: ContributionId,
    /// Sum of the credits, planck.
    pub amount: Balance,
    /// Why.
    pub reason: CreditReason,
    /// Hash of the sum tree over the receipts, each with what it credits.
    pub subroot: Digest,
    /// Receipts that credit the contribution.
    pub count: u32,
}

/// The head of a batch.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct BatchHeader {
    /// [`FORMAT_VERSION`](crate::FORMAT_VERSION).
    pub version: u8,
    /// Position among the worker's batches, from 1.
    pub sequence: BatchSequence,
    /// Hash of the batch before it; zero for the first.
    pub parent: Digest,
    /// Epoch of the chain in which it is submitted.
    pub epoch: u64,
    /// Sum of all fees, planck.
    pub fee: Balance,
    /// Receipts.
    pub count: u32,
}

/// The three roots that the chain stores.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct BatchRoots {
    /// Root of the claims tree.
    pub claims: SumNode,
    /// Root of the usage tree.
    pub usage: SumNode,
    /// Root of the credits tree; its count is of (receipt, contribution) pairs.
    pub credits: SumNode,
}

/// Hash of a batch: what the next one names as its parent.
pub fn batch_hash(worker: &[u8; 32], header: &BatchHeader, roots: &BatchRoots) -> Digest {
    tagged_encoded(Tag::Batch, &(worker, header, roots))
}

impl Claim {
    /// Order of the line in its tree.
    pub fn key(&self) -> (ChannelId, LaneIndex) {
        (self.channel, self.lane)
    }

    /// The line as a node, `amount` being what it adds to the lane's settled charge.
    pub fn node(&self, amount: Balance) -> SumNode {
        line(
            Tag::ClaimLine,
            &self.key().encode(),
            &self.subroot,
            amount,
            self.count,
        )
    }
}

impl Usage {
    /// Order of the line in its tree.
    pub fn key(&self) -> (RevisionId, TermsIndex) {
        (self.revision, self.terms)
    }

    /// The line as a node.
    pub fn node(&self) -> SumNode {
        let key = (self.key(), self.tokens_in, self.tokens_out).encode();
        line(Tag::UsageLine, &key, &self.subroot, self.fee, self.count)
    }
}

impl Credit {
    /// Order of the line in its tree.
    pub fn key(&self) -> (RevisionId, ContributionId, CreditReason) {
        (self.revision, self.contribution, self.reason)
    }

    /// The line as a node.
    pub fn node(&self) -> SumNode {
        line(
            Tag::CreditLine,
            &self.key().encode(),
            &self.subroot,
            self.amount,
            self.count,
        )
    }
}

fn line(tag: Tag, key: &[u8], subroot: &Digest, amount: Balance, count: u32) -> SumNode {
    let count = u64::from(count);
    SumNode {
        hash: tagged(
            tag,
            &[subroot, &amount.to_le_bytes(), &count.to_le_bytes(), key],
        ),
        sum: amount,
        count,
    }
}

/// Root of the claims tree over (claim, amount it adds), sorted by key; `None` on overflow.
pub fn claims_root<'a>(claims: impl Iterator<Item = (&'a Claim, Balance)>) -> Option<SumNode> {
    sum_tree::root(
        &claims
            .map(|(claim, amount)| claim.node(amount))
            .collect::<Vec<_>>(),
    )
}

/// Root of the usage tree over lines sorted by key; `None` on overflow.
pub fn usage_root<'a>(usage: impl Iterator<Item = &'a Usage>) -> Option<SumNode> {
    sum_tree::root(&usage.map(Usage::node).collect::<Vec<_>>())
}

/// Root of the credits tree over lines sorted by key; `None` on overflow.
pub fn credits_root<'a>(credits: impl Iterator<Item = &'a Credit>) -> Option<SumNode> {
    sum_tree::root(&credits.map(Credit::node).collect::<Vec<_>>())
}
