//! What is stored of a worker.

use frame_support::{traits::ConstU32, BoundedVec};
use openledger_primitives::{
    receipt::BackendClass, voucher::EvidenceClass, BlockNumber, KeyIndex, RevisionId,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Bytes of an endpoint at most.
pub const MAX_ENDPOINT: u32 = 128;
/// Bytes of the engine's name and version at most.
pub const MAX_ENGINE: u32 = 32;
/// Revisions that one worker announces at most.
pub const MAX_SERVED: u32 = 256;
/// Service keys of one worker that are remembered at most.
pub const MAX_KEYS: u32 = 16;

/// Where consumers reach a worker: an `http://` or `https://` address.
pub type Endpoint = BoundedVec<u8, ConstU32<MAX_ENDPOINT>>;
/// Revisions that a worker announces, ascending.
pub type Served = BoundedVec<RevisionId, ConstU32<MAX_SERVED>>;
/// Service keys of a worker, the oldest first.
pub type ServiceKeys<AccountId> = BoundedVec<ServiceKey<AccountId>, ConstU32<MAX_KEYS>>;

/// What a worker says it can do.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Capability {
    /// Hardware and arithmetic.
    pub backend: BackendClass,
    /// Memory for models and caches, MiB.
    pub memory_mib: u32,
    /// Requests that run in one batch at most.
    pub max_batch: u16,
    /// Name and version of the engine, printable ASCII.
    pub engine: BoundedVec<u8, ConstU32<MAX_ENGINE>>,
    /// How its answers may be audited: the highest class of channels that it takes on.
    pub evidence: EvidenceClass,
}

/// Whether a worker takes on new work.
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
pub enum Standing {
    /// It does.
    #[codec(index = 0)]
    Active,
    /// It finishes what it has, and then leaves.
    #[codec(index = 1)]
    Draining {
        /// Block at which it began to drain.
        since: BlockNumber,
    },
}

/// A registered worker.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Worker {
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// What it can do.
    pub capability: Capability,
    /// Whether it takes on new work.
    pub standing: Standing,
    /// Block at which it joined.
    pub joined: BlockNumber,
    /// Block of its last sign of life.
    pub last_heartbeat: BlockNumber,
    /// Index that its next service key gets.
    pub next_key: KeyIndex,
}

/// A key that signs receipts and submits for a worker.
#[derive(
    Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct ServiceKey<AccountId> {
    /// Index by which receipts name the key.
    pub index: KeyIndex,
    /// The key's account.
    pub account: AccountId,
    /// First block at which it is valid.
    pub from: BlockNumber,
    /// First block at which it is not valid any more; `None` for the current key.
    pub until: Option<BlockNumber>,
}

impl<AccountId> ServiceKey<AccountId> {
    /// Whether the key is valid at block `now`.
    pub fn is_valid(&self, now: BlockNumber) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }
}
