//! Receipts: what a worker signs after the work, and the leaf a receipt is in a batch.

use crate::{
    hash::{tagged, tagged_encoded, Digest, Tag},
    ids::*,
    merkle,
    sum_tree::SumNode,
};
use alloc::vec::Vec;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

/// How a request ended.
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
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model ended its answer, or a stop sequence did.
    #[codec(index = 0)]
    Complete,
    /// The voucher's tokens were used up; the answer may go on under the next voucher.
    #[codec(index = 1)]
    Length,
    /// The client went away; what was delivered until then is charged.
    #[codec(index = 2)]
    Cancelled,
    /// Nothing usable was delivered: the fee is zero and the sequence goes on.
    #[codec(index = 3)]
    Failed,
}

/// Hardware and arithmetic on which an answer was computed: what an audit's tolerance depends on.
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
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BackendClass {
    /// CPU, f32.
    #[codec(index = 0)]
    CpuF32,
    /// CUDA, bf16.
    #[codec(index = 1)]
    CudaBf16,
}

/// Why a contribution is credited.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CreditReason {
    /// Passages of the answer stand in the contribution.
    #[codec(index = 0)]
    Span,
    /// Training on the contribution raised the likelihood of the answer.
    #[codec(index = 1)]
    Influence,
    /// The contribution was retrieved into the context and shaped the answer.
    #[codec(index = 2)]
    Retrieval,
    /// Paid from the revision's pool for measured usefulness.
    #[codec(index = 3)]
    Pool,
}

/// One line of an answer's attribution: the contribution's share of the data part of the fee.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
    Serialize,
    Deserialize,
)]
pub struct Attribution {
    /// The contribution.
    pub contribution: ContributionId,
    /// Share of the contributors' part of this answer's fee, parts per million.
    pub ppm: u32,
    /// Why.
    pub reason: CreditReason,
}

/// Merkle root over attributions, sorted by (contribution, reason); zero for none.
pub fn attribution_root(sorted: &[Attribution]) -> Digest {
    let leaves: Vec<Digest> = sorted
        .iter()
        .map(|line| merkle::leaf(&line.encode()))
        .collect();
    merkle::root(&leaves)
}

/// What a worker says it did for a voucher, and charges.
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
pub struct Receipt {
    /// [`FORMAT_VERSION`](crate::FORMAT_VERSION).
    pub version: u8,
    /// [`domain`](crate::domain::domain) of the chain.
    pub domain: Digest,
    /// Hash of the voucher under which the work was done.
    pub voucher: Digest,
    /// The worker's account.
    pub worker: [u8; 32],
    /// Which of the worker's service keys signs.
    pub key: KeyIndex,
    /// How it ended.
    pub outcome: Outcome,
    /// Prompt tokens charged.
    pub tokens_in: u32,
    /// Output tokens charged.
    pub tokens_out: u32,
    /// ⌊(in·price_in + out·price_out) / 1000⌋, at most the voucher's `max_fee`, planck.
    pub fee: Balance,
    /// The voucher's `prev_cum` + fee, planck.
    pub cum: Balance,
    /// [`output_commit`].
    pub output_commit: Digest,
    /// Root of the execution fingerprint: what re-execution is compared with.
    pub fingerprint_root: Digest,
    /// [`attribution_root`].
    pub attribution_root: Digest,
    /// Root over retrieved rows; zero when none were.
    pub retrieval_root: Digest,
    /// Best block the worker knew when the work began.
    pub start_block: BlockNumber,
    /// Milliseconds from the start to the first token.
    pub first_token_ms: u32,
    /// Milliseconds from the start to the end.
    pub total_ms: u32,
    /// On what it ran.
    pub backend: BackendClass,
}

impl Receipt {
    /// The hash that is signed and that the next voucher acknowledges.
    pub fn hash(&self) -> Digest {
        tagged_encoded(Tag::Receipt, self)
    }
}

/// Salted commitment to the bytes delivered: `H(tag ‖ salt ‖ output)`.
pub fn output_commit(salt: &[u8; 32], output: &[u8]) -> Digest {
    tagged(Tag::Output, &[salt, output])
}

/// A receipt as a leaf of a batch. Leaves are sorted by (channel, lane, sequence).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct ReceiptLeaf {
    /// Channel that pays.
    pub channel: ChannelId,
    /// Lane of the channel.
    pub lane: LaneIndex,
    /// Position on the lane.
    pub sequence: Sequence,
    /// Hash of the receipt.
    pub receipt: Digest,
    /// Fee of the receipt, planck.
    pub fee: Balance,
}

impl ReceiptLeaf {
    /// The leaf in the claims and usage trees, where it carries its fee.
    pub fn node(&self) -> SumNode {
        SumNode::leaf(&self.encode(), self.fee)
    }

    /// The leaf in the credits tree, where it carries what it credits one contribution with.
    pub fn credit_node(&self, amount: Balance) -> SumNode {
        SumNode::leaf(&self.encode(), amount)
    }
}
