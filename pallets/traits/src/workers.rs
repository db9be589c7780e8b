//! Workers as other pallets see them.

use openledger_primitives::{voucher::EvidenceClass, KeyIndex};

/// Registered workers and the service keys that act for them.
pub trait WorkerRegistry<AccountId> {
    /// The worker for which `key` may submit now, and the index of the key.
    fn worker_of_key(key: &AccountId) -> Option<(AccountId, KeyIndex)>;
    /// The highest evidence class of channels that the worker takes on; `None` when it takes on
    /// none.
    fn evidence(worker: &AccountId) -> Option<EvidenceClass>;
    /// Whether the worker is registered and not leaving: may take on new channels.
    fn is_active(worker: &AccountId) -> bool {
        Self::evidence(worker).is_some()
    }
}
