//! Taking parts of fees in.

use crate::{Config, Earnings as Ledger, Error, Event, Owed, Pallet, Pools, Sums, Totals, VestsAt};
use frame_support::{
    dispatch::DispatchResult,
    storage::with_storage_layer,
    traits::{
        fungible::Mutate,
        tokens::{Fortitude, Precision, Preservation},
    },
};
use openledger_economics::split_burn;
use openledger_primitives::{Balance, RevisionId};
use openledger_traits::{Earning, Earnings, Parameters};

impl<T: Config> Pallet<T> {
    /// Changes the sums since genesis.
    pub(crate) fn count(change: impl FnOnce(&mut Totals) -> Option<()>) -> Result<(), Error<T>> {
        Sums::<T>::try_mutate(|sums| change(sums).ok_or(Error::<T>::Overflow))
    }

    fn take(source: &T::AccountId, into: &T::AccountId, amount: Balance) -> DispatchResult {
        T::Currency::transfer(source, into, amount, Preservation::Preserve).map(|_| ())
    }
}

impl<T: Config> Earnings<T::AccountId> for Pallet<T> {
    fn earn(source: &T::AccountId, earning: Earning<T::AccountId>) -> DispatchResult {
        let (account, amount, vests_at) =
            (earning.account.clone(), earning.amount, earning.vests_at);
        if amount == 0 {
            return Ok(());
        }
        let owed = Owed::from(earning);
        with_storage_layer(|| {
            Self::take(source, &Self::pot(), amount)?;
            Self::count(|sums| {
                sums.earned = sums.earned.checked_add(amount)?;
                Some(())
            })?;
            let key = (&account, VestsAt::from(vests_at), owed.key());
            let before = Ledger::<T>::get(key).map_or(0, |owed| owed.amount);
            let total = before.checked_add(amount).ok_or(Error::<T>::Overflow)?;
            Ledger::<T>::insert(
                key,
                Owed {
                    amount: total,
                    ..owed.clone()
                },
            );
            Self::deposit_event(Event::Earned {
                account,
                role: owed.role,
                amount,
                worker: owed.worker,
                batch: owed.batch,
                revision: owed.revision,
                vests_at,
            });
            Ok(())
        })
    }

    fn pool(source: &T::AccountId, revision: RevisionId, amount: Balance) -> DispatchResult {
        if amount == 0 {
            return Ok(());
        }
        with_storage_layer(|| {
            Self::take(source, &Self::pot(), amount)?;
            Self::count(|sums| {
                sums.pooled = sums.pooled.checked_add(amount)?;
                Some(())
            })?;
            let pool = Pools::<T>::get(revision)
                .checked_add(amount)
                .ok_or(Error::<T>::Overflow)?;
            Pools::<T>::insert(revision, pool);
            Self::deposit_event(Event::Pooled { revision, amount });
            Ok(())
        })
    }

    fn protocol(source: &T::AccountId, amount: Balance) -> DispatchResult {
        if amount == 0 {
            return Ok(());
        }
        let (burned, kept) = split_burn(amount, T::Parameters::payouts().protocol_burn_ppm);
        with_storage_layer(|| {
            T::Currency::burn_from(
                source,
                burned,
                Preservation::Preserve,
                Precision::Exact,
                Fortitude::Polite,
            )?;
            Self::take(source, &Self::protocol_pot(), kept)?;
            Self::count(|sums| {
                sums.burned = sums.burned.checked_add(burned)?;
                sums.kept = sums.kept.checked_add(kept)?;
                Some(())
            })?;
            Self::deposit_event(Event::ProtocolPaid { burned, kept });
            Ok(())
        })
    }
}
