//! What must always hold; the numbers are those of the README.

use crate::{Config, HoldReason, Ledgers, Pallet};
use frame_support::{ensure, traits::fungible::InspectHold};
use sp_runtime::DispatchError;

impl<T: Config<I>, I: 'static> Pallet<T, I> {
    /// Checks every invariant of the pallet; the error names the one that is broken.
    pub fn do_try_state() -> Result<(), DispatchError> {
        for (who, ledger) in Ledgers::<T, I>::iter() {
            let held = T::Currency::balance_on_hold(&HoldReason::<I>::Stake.into(), &who);
            ensure!(
                held == ledger.held(),
                "1: own and thawing stake is exactly what is on hold"
            );
            ensure!(
                ledger.reserved <= ledger.usable(),
                "2: what is reserved is covered by the usable bond"
            );
            ensure!(!ledger.is_empty(), "3: no empty ledger is kept");
            ensure!(
                ledger
                    .thawing
                    .iter()
                    .zip(ledger.thawing.iter().skip(1))
                    .all(|(older, newer)| older.start <= newer.start),
                "4: thaws stand in the order in which they began"
            );
            ensure!(
                ledger
                    .thawing
                    .iter()
                    .all(|thaw| (thaw.balance == 0) != (thaw.shares == 0)),
                "5: a thaw is of own stake or of shares of the pool"
            );
        }
        Ok(())
    }
}
