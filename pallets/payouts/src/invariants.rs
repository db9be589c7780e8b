//! What must always hold; the numbers are those of the README.

use crate::{Config, Earnings, Pallet, Pools, Sums};
use frame_support::{ensure, traits::fungible::Inspect};
use openledger_primitives::Balance;
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// Checks every invariant of the pallet; the error names the one that is broken.
    pub fn do_try_state() -> Result<(), DispatchError> {
        let sums = Sums::<T>::get();
        let mut owed: Balance = 0;
        for ((_, _, key), entry) in Earnings::<T>::iter() {
            ensure!(entry.amount > 0, "4: no earning is zero");
            ensure!(
                key == entry.key(),
                "5: each earning stands under the key that its fields give"
            );
            owed = owed.saturating_add(entry.amount);
        }
        ensure!(
            sums.earned.checked_sub(sums.claimed) == Some(owed),
            "1: the sum of all earnings is what was earned less what was claimed"
        );
        let mut pooled: Balance = 0;
        for (_, pool) in Pools::<T>::iter() {
            ensure!(pool > 0, "4: no pool is zero");
            pooled = pooled.saturating_add(pool);
        }
        ensure!(
            sums.pooled == pooled,
            "2: the sum of all pools is what was pooled"
        );
        let needed = T::Currency::minimum_balance()
            .saturating_add(owed)
            .saturating_add(pooled);
        ensure!(
            T::Currency::balance(&Self::pot()) >= needed,
            "3: the pot holds the least balance, every earning and every pool"
        );
        Ok(())
    }
}
