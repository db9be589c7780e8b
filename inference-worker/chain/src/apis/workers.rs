//! Workers.

use super::queries;
use crate::{calls::workers::Capability, AccountId};
use openledger_primitives::{Balance, BlockNumber, KeyIndex, RevisionId};
use parity_scale_codec::Decode;
use scale_info::TypeInfo;

/// Whether a worker takes on new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
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

/// A key that signs receipts and submits for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct ServiceKey {
    /// Index by which receipts name the key.
    pub index: KeyIndex,
    /// The key.
    pub account: AccountId,
    /// First block at which it is valid.
    pub from: BlockNumber,
    /// First block at which it is not valid any more; `None` for the current key.
    pub until: Option<BlockNumber>,
}

/// A worker as consumers see it.
#[derive(Clone, Debug, PartialEq, Eq, Decode, TypeInfo)]
pub struct WorkerInfo {
    /// Its account.
    pub worker: AccountId,
    /// Where it is reached: a URL in UTF-8.
    pub endpoint: Vec<u8>,
    /// What it can do.
    pub capability: Capability,
    /// Whether it takes on new work.
    pub standing: Standing,
    /// Keys that sign its receipts, the oldest first, with the blocks at which each is valid.
    pub service_keys: Vec<ServiceKey>,
    /// Own bond that does not thaw, planck.
    pub own_bond: Balance,
    /// Block at which it joined.
    pub joined: BlockNumber,
    /// Block of its last heartbeat.
    pub last_heartbeat: BlockNumber,
}

queries! { "WorkersApi":
    /// Workers that can be asked for the revision now, the largest own bond first.
    Find = "find" {
        /// Which.
        revision: RevisionId,
    } -> Vec<WorkerInfo>;
    /// What is known of a worker; `None` for one that is not registered.
    GetWorker = "worker" {
        /// Which.
        worker: AccountId,
    } -> Option<WorkerInfo>;
    /// Revisions that the worker announces.
    ServedBy = "served_by" {
        /// Which.
        worker: AccountId,
    } -> Vec<RevisionId>;
}

impl WorkerInfo {
    /// The endpoint as text, without a slash at its end.
    pub fn url(&self) -> String {
        String::from_utf8_lossy(&self.endpoint)
            .trim_end_matches('/')
            .to_owned()
    }

    /// The key that receipts name by `index`, if it is valid at block `now`.
    pub fn service_key(&self, index: KeyIndex, now: BlockNumber) -> Option<AccountId> {
        self.service_keys
            .iter()
            .find(|key| key.index == index)
            .filter(|key| key.from <= now && key.until.is_none_or(|until| now < until))
            .map(|key| key.account)
    }
}
