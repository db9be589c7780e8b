//! Earnings and claims.

use super::events;
use crate::AccountId;
use openledger_primitives::Balance;

events! { "Payouts":
    /// An account claimed.
    Claimed {
        /// Who.
        account: AccountId,
        /// Planck.
        amount: Balance,
    }
}
