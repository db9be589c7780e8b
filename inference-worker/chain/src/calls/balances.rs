//! Transfers of OPEN.

use super::calls;
use crate::AccountId;
use parity_scale_codec::{Compact, Encode};
use scale_info::TypeInfo;

/// Where a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
pub enum Address {
    /// An account.
    #[codec(index = 0)]
    Id(AccountId),
}

calls! { "Balances":
    /// Moves `value` to `dest`; the sender's account stays above the existential deposit.
    TransferKeepAlive = "transfer_keep_alive" {
        /// Who receives.
        dest: Address,
        /// Planck.
        value: Compact<u128>,
    }
}

impl TransferKeepAlive {
    /// A transfer of `value` planck to `account`.
    pub fn new(account: AccountId, value: u128) -> Self {
        TransferKeepAlive {
            dest: Address::Id(account),
            value: Compact(value),
        }
    }
}
