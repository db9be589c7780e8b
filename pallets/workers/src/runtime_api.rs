//! What programs outside the chain ask about workers.

use crate::{Capability, Endpoint, Served, ServiceKeys, Standing};
use alloc::vec::Vec;
use openledger_primitives::{Balance, BlockNumber, RevisionId};
use parity_scale_codec::{Codec, Decode, Encode};
use scale_info::TypeInfo;

/// A worker as consumers see it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct WorkerInfo<AccountId> {
    /// Its account.
    pub worker: AccountId,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// What it can do.
    pub capability: Capability,
    /// Whether it takes on new work.
    pub standing: Standing,
    /// Keys that sign its receipts, the oldest first, with the blocks at which each is valid.
    pub service_keys: ServiceKeys<AccountId>,
    /// Own bond that does not thaw, planck.
    pub own_bond: Balance,
    /// Block at which it joined.
    pub joined: BlockNumber,
    /// Block of its last sign of life.
    pub last_heartbeat: BlockNumber,
}

sp_api::decl_runtime_apis! {
    /// Finds workers.
    #[api_version(1)]
    pub trait WorkersApi<AccountId> where AccountId: Codec {
        /// Workers that can be asked for the revision now, the largest own bond first.
        fn find(revision: RevisionId) -> Vec<WorkerInfo<AccountId>>;
        /// What is known of a worker; `None` for one that is not registered.
        fn worker(worker: AccountId) -> Option<WorkerInfo<AccountId>>;
        /// Revisions that the worker announces.
        fn served_by(worker: AccountId) -> Served;
    }
}
