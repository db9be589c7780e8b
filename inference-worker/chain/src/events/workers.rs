//! Workers.

use super::events;
use crate::AccountId;

events! { "Workers":
    /// A worker registered.
    Joined {
        /// Which.
        worker: AccountId,
        /// Its first service key.
        service_key: AccountId,
    }
}
