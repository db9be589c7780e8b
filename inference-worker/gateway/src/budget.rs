//! What the channel and its signer may still spend.

use crate::GatewayError;
use openledger_primitives::Balance;
use std::sync::{Arc, Mutex, PoisonError};

/// What the chain says, and what it does not know yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Funds {
    /// Deposit that no batch has taken, planck.
    pub deposit: Balance,
    /// What the signer may still spend, planck.
    pub signer: Balance,
    /// Charges of accepted receipts that no batch has taken, planck.
    pub unclaimed: Balance,
}

/// Sum of `max_fee` of the vouchers out at the moment.
#[derive(Clone, Default)]
pub struct Budget {
    out: Arc<Mutex<Balance>>,
}

/// A reservation of one voucher's `max_fee`, given back when dropped.
pub struct Reservation {
    out: Arc<Mutex<Balance>>,
    amount: Balance,
}

impl Budget {
    /// Reserves `amount` for a voucher.
    ///
    /// # Errors
    /// [`GatewayError::OverBudget`] when deposit or signer's limit do not cover it besides what is
    /// out and unclaimed.
    pub fn reserve(&self, funds: &Funds, amount: Balance) -> Result<Reservation, GatewayError> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let spoken_for = out.saturating_add(funds.unclaimed);
        for (whole, of, advice) in [
            (
                funds.deposit,
                "the channel's deposit",
                "add to it with `openledger-gateway deposit`, or ask for fewer tokens",
            ),
            (
                funds.signer,
                "the signer's limit",
                "add a signer with a higher limit to the channel, or ask for fewer tokens",
            ),
        ] {
            let left = whole.saturating_sub(spoken_for);
            if left < amount {
                return Err(GatewayError::OverBudget {
                    needed: amount,
                    left,
                    of,
                    advice,
                });
            }
        }
        *out = out.saturating_add(amount);
        Ok(Reservation {
            out: self.out.clone(),
            amount,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        *out = out.saturating_sub(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vouchers_out_together_stay_within_deposit_and_limit() {
        let budget = Budget::default();
        let funds = Funds {
            deposit: 100,
            signer: 90,
            unclaimed: 20,
        };
        let first = budget.reserve(&funds, 50).unwrap();
        assert!(matches!(
            budget.reserve(&funds, 21),
            Err(GatewayError::OverBudget {
                left: 20,
                of: "the signer's limit",
                ..
            })
        ));
        let second = budget.reserve(&funds, 20).unwrap();
        assert!(budget.reserve(&funds, 1).is_err());
        drop(first);
        assert!(budget.reserve(&funds, 50).is_ok());
        drop(second);
    }
}
