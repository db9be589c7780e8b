//! Accounts.

use super::queries;
use crate::AccountId;

queries! { "AccountNonceApi":
    /// Transactions that the account has had included.
    AccountNonce = "account_nonce" {
        /// Whose.
        account: AccountId,
    } -> u32;
}
