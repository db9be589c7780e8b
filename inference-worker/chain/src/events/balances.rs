//! Transfers of OPEN.

use super::events;
use crate::AccountId;

events! { "Balances":
    /// OPEN moved.
    Transfer {
        /// Who paid.
        from: AccountId,
        /// Who received.
        to: AccountId,
        /// Planck.
        amount: u128,
    }
}
