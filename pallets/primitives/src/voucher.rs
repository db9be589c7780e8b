//! Vouchers: what a consumer signs before the work.

use crate::{
    hash::{tagged, tagged_encoded, Digest, Tag},
    ids::*,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

/// How the evidence of an answer may be inspected in an audit, what is easier to provide first.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
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
pub enum EvidenceClass {
    /// Any auditor may see it.
    #[default]
    #[codec(index = 0)]
    Open,
    /// Sealed to the keys of the drawn auditors.
    #[codec(index = 1)]
    Sealed,
    /// Inside a trusted execution environment.
    #[codec(index = 2)]
    Tee,
    /// Never re-executed; canaries only.
    #[codec(index = 3)]
    Private,
}

/// "After the receipt I last accepted, this worker may charge up to `max_fee` more, for this
/// request, at this revision and these terms."
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
pub struct Voucher {
    /// [`FORMAT_VERSION`](crate::FORMAT_VERSION).
    pub version: u8,
    /// [`domain`](crate::domain::domain) of the chain.
    pub domain: Digest,
    /// The channel that pays.
    pub channel: ChannelId,
    /// The lane of the channel.
    pub lane: LaneIndex,
    /// Position on the lane, from 1, contiguous.
    pub sequence: Sequence,
    /// Hash of the last receipt accepted on this lane, zero before the first. Signing it
    /// acknowledges delivery.
    pub prev_receipt: Digest,
    /// Cumulative charge on the lane after that receipt, planck.
    pub prev_cum: Balance,
    /// The most this request may cost, planck.
    pub max_fee: Balance,
    /// The revision that must answer.
    pub revision: RevisionId,
    /// The terms that price it.
    pub terms: TermsIndex,
    /// The agent through which the request came.
    pub agent: Option<AgentId>,
    /// [`request_commit`].
    pub request_commit: Digest,
    /// Output tokens covered by this voucher before the next one is needed.
    pub chunk: u32,
    /// The most prompt tokens that may be charged.
    pub max_in: u32,
    /// The most output tokens that may be charged.
    pub max_out: u32,
    /// How the answer may be audited.
    pub evidence: EvidenceClass,
    /// Last block at which work may start; a claim is possible for a while longer.
    pub expiry: BlockNumber,
}

impl Voucher {
    /// The hash that is signed and by which a receipt names its voucher.
    pub fn hash(&self) -> Digest {
        tagged_encoded(Tag::Voucher, self)
    }

    /// The sampler seed of a request that brings none: fixed by the voucher, so the worker cannot
    /// choose it.
    pub fn seed(&self) -> Digest {
        tagged(Tag::Seed, &[&self.hash()])
    }
}

/// Salted commitment to the bytes of a request: `H(tag ‖ salt ‖ body)`.
///
/// The salt keeps a short prompt from being guessed out of the commitment.
pub fn request_commit(salt: &[u8; 32], body: &[u8]) -> Digest {
    tagged(Tag::Request, &[salt, body])
}
