//! Paying earnings out.

use crate::{Config, Earnings, Error, Event, Owed, Pallet, VestsAt, MAX_PAID};
use alloc::vec::Vec;
use frame_support::{
    ensure,
    traits::{
        fungible::{Inspect, Mutate},
        tokens::{DepositConsequence, Preservation, Provenance},
    },
};
use openledger_primitives::{Balance, BlockNumber, Digest};
use sp_runtime::{traits::SaturatedConversion, DispatchError};

type Entry<T> = (
    (VestsAt, Digest),
    Owed<<T as frame_system::Config>::AccountId>,
);

impl<T: Config> Pallet<T> {
    /// Number of the block being executed.
    pub(crate) fn now() -> BlockNumber {
        frame_system::Pallet::<T>::block_number().saturated_into()
    }

    /// Pays vested earnings. Returns how many.
    pub(crate) fn do_claim(who: &T::AccountId) -> Result<u32, DispatchError> {
        let vested = Self::vested(who)?;
        let amount = vested
            .iter()
            .try_fold(0, |sum: Balance, (_, owed)| sum.checked_add(owed.amount))
            .ok_or(Error::<T>::Overflow)?;
        ensure!(
            T::Currency::can_deposit(who, amount, Provenance::Extant)
                != DepositConsequence::BelowMinimum,
            Error::<T>::BelowMinimum
        );
        T::Currency::transfer(&Self::pot(), who, amount, Preservation::Preserve)?;
        Self::count(|sums| {
            sums.claimed = sums.claimed.checked_add(amount)?;
            Some(())
        })?;
        let paid = vested.len().saturated_into();
        for ((vests_at, key), owed) in vested {
            Earnings::<T>::remove((who, vests_at, key));
            Self::deposit_event(Event::Paid {
                account: who.clone(),
                role: owed.role,
                amount: owed.amount,
                worker: owed.worker,
                batch: owed.batch,
                revision: owed.revision,
            });
        }
        Self::deposit_event(Event::Claimed {
            account: who.clone(),
            amount,
        });
        Ok(paid)
    }

    /// The earliest earnings that have vested: keys ascend by block, so the first that has not ends
    /// the search.
    fn vested(who: &T::AccountId) -> Result<Vec<Entry<T>>, Error<T>> {
        let now = Self::now();
        let mut owed = Earnings::<T>::iter_prefix((who,)).peekable();
        ensure!(owed.peek().is_some(), Error::<T>::NothingToClaim);
        let vested: Vec<_> = owed
            .take_while(|((vests_at, _), _)| vests_at.block() <= now)
            .take(MAX_PAID as usize)
            .collect();
        ensure!(!vested.is_empty(), Error::<T>::NothingVested);
        Ok(vested)
    }
}
