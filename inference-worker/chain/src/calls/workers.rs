//! Workers.

use super::calls;
use crate::AccountId;
use openledger_primitives::{receipt::BackendClass, voucher::EvidenceClass, Balance, RevisionId};
use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;

/// Revisions that a worker can announce at once: the bound of the pallet's `Served`.
pub const MAX_SERVED: usize = 256;

/// What a worker can do, as it declares.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Capability {
    /// Hardware and arithmetic.
    pub backend: BackendClass,
    /// Memory for models and caches, MiB.
    pub memory_mib: u32,
    /// Sequences in one batch.
    pub max_batch: u16,
    /// Name and version of the engine, UTF-8, at most 32 bytes.
    pub engine: Vec<u8>,
    /// How its answers may be audited.
    pub evidence: EvidenceClass,
}

calls! { "Workers":
    /// Registers the caller as a worker with a bond.
    Join = "join" {
        /// Own bond, planck.
        bond: Balance,
        /// Key that signs receipts and submits batches.
        service_key: AccountId,
        /// Where consumers reach it: a URL, at most 128 bytes.
        endpoint: Vec<u8>,
        /// What it can do.
        capability: Capability,
    }
    /// Appends a service key.
    SetServiceKey = "set_service_key" {
        /// The key.
        key: AccountId,
    }
    /// Announces the revisions that the worker serves.
    Serve = "serve" {
        /// All of them, at most [`MAX_SERVED`].
        revisions: Vec<RevisionId>,
    }
    /// Says that the worker is alive.
    Heartbeat = "heartbeat" {}
    /// Takes no new channels.
    Drain = "drain" {}
    /// Stops being a worker; the bond thaws.
    Leave = "leave" {}
    /// Changes the caller's endpoint and capability.
    Update = "update" {
        /// Where consumers reach it: a URL, at most 128 bytes.
        endpoint: Vec<u8>,
        /// What it can do.
        capability: Capability,
    }
}
