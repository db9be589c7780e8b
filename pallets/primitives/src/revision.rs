//! Revisions: what exactly answers, and how its answers are attributed.

use crate::{hash::Digest, ids::*, terms::PPM};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

/// Versions that a revision may be trained on.
pub const MAX_VERSIONS: u32 = 16;

/// A model that has terms: an adapter, or a base served without one.
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
pub enum ModelRef {
    /// A base model without an adapter.
    #[codec(index = 0)]
    Base(BaseId),
    /// An adapter.
    #[codec(index = 1)]
    Adapter(AdapterId),
}

/// A sealed Datanet version that a revision was trained on, and the grant that allowed it.
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
pub struct VersionUse {
    /// Datanet.
    pub datanet: DatanetId,
    /// Version.
    pub version: VersionIndex,
    /// Access grant; `None` where the Datanet is open to all.
    pub grant: Option<u64>,
}

/// LoRA target modules, one bit a linear of the layer.
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
pub struct Targets(pub u8);

impl Targets {
    /// `q_proj`.
    pub const Q: u8 = 1;
    /// `k_proj`.
    pub const K: u8 = 1 << 1;
    /// `v_proj`.
    pub const V: u8 = 1 << 2;
    /// `o_proj`.
    pub const O: u8 = 1 << 3;
    /// `gate_proj`.
    pub const GATE: u8 = 1 << 4;
    /// `up_proj`.
    pub const UP: u8 = 1 << 5;
    /// `down_proj`.
    pub const DOWN: u8 = 1 << 6;
    /// Every linear.
    pub const ALL_LINEAR: Targets = Targets((1 << 7) - 1);
}

/// Constants of the payout rule for one revision. Bits are in thousandths ("millibits").
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
pub struct AttributionParams {
    /// α: weight of spans against influence, parts per million.
    pub alpha_ppm: u32,
    /// Least unigram information of a span that counts, millibits.
    pub min_millibits: u32,
    /// z₀: standard scores of influence below this (thousandths) count as noise.
    pub z0_milli: u32,
    /// Reference information per output token at which the whole data share is paid, millibits.
    pub reference_millibits: u32,
    /// Most that one span may count of the reference, parts per million.
    pub clip_ppm: u32,
    /// Contributions credited per answer at most.
    pub top: u16,
    /// ρ: fraction of answers that influence is computed on, parts per million.
    pub sample_ppm: u32,
    /// k: dimensions of the influence projection.
    pub projection: u16,
    /// λ: damping of the influence Hessian relative to its mean diagonal, thousandths.
    pub damping_milli: u32,
}

impl Default for AttributionParams {
    /// Spans only, 48 bits a span, the whole data share at 2 bits per output token.
    fn default() -> Self {
        AttributionParams {
            alpha_ppm: PPM,
            min_millibits: 48_000,
            z0_milli: 3_000,
            reference_millibits: 2_000,
            clip_ppm: PPM,
            top: 32,
            sample_ppm: 20_000,
            projection: 512,
            damping_milli: 3_000,
        }
    }
}

/// Where a revision stands.
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
pub enum RevisionStatus {
    /// May be served.
    #[codec(index = 0)]
    Live,
    /// Withdrawn by its developer: no new vouchers; what was served settles.
    #[codec(index = 1)]
    Retired,
}

/// Digests and lineage that a developer publishes as a revision.
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
pub struct RevisionFacts {
    /// Digest of the adapter's manifest in the store: config and weights; zero for a base.
    pub adapter_digest: Digest,
    /// LoRA rank.
    pub rank: u16,
    /// Modules that the adapter changes.
    pub targets: Targets,
    /// Digest of the training manifest.
    pub manifest: Digest,
    /// Digest of the span index over the versions.
    pub index: Digest,
    /// Digest of the out-of-domain null model; zero where influence is not used.
    pub null: Digest,
    /// Digest of the evaluation.
    pub evaluation: Digest,
    /// Constants of the payout rule.
    pub attribution: AttributionParams,
}
