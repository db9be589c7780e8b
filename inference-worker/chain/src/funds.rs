//! Whether an account has what a call takes, asked before the call is signed.

use crate::{amount::in_open, AccountId, ChainClient, ChainError};
use openledger_primitives::Balance;

/// An account that cannot pay.
#[derive(Debug, thiserror::Error)]
pub enum FundsError {
    /// It has too little.
    #[error(
        "{account} has {} OPEN free, and this takes {} OPEN and the transaction's fee: send it at least {} OPEN more",
        in_open(*free),
        in_open(*needed),
        in_open(needed.saturating_sub(*free))
    )]
    TooLittle {
        /// The account.
        account: AccountId,
        /// Planck that it has free.
        free: Balance,
        /// Planck that are needed, without the fee.
        needed: Balance,
    },
    /// What it has cannot be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl ChainClient {
    /// Whether `account` has `needed` planck free. The fee comes on top, and is the node's to judge.
    ///
    /// # Errors
    /// [`FundsError::TooLittle`] says what it has and what it lacks.
    pub async fn funds(&self, account: AccountId, needed: Balance) -> Result<(), FundsError> {
        let free = self.balance(account).await?.free;
        if free < needed {
            return Err(FundsError::TooLittle {
                account,
                free,
                needed,
            });
        }
        Ok(())
    }
}
