//! Workers as other pallets see them.

use openledger_primitives::KeyIndex;

/// Registered workers and the service keys that act for them.
pub trait WorkerRegistry<AccountId> {
    /// The worker for which `key` may submit now, and the index of the key.
    fn worker_of_key(key: &AccountId) -> Option<(AccountId, KeyIndex)>;
    /// Whether the worker is registered and not leaving: may take on new channels.
    fn is_active(worker: &AccountId) -> bool;
}
