//! Stake in and out: the ledger's transitions with their holds and events.

use crate::{Config, Error, Event, HoldReason, Ledger, Ledgers, Pallet};
use frame_support::{
    dispatch::DispatchResult,
    traits::{fungible::MutateHold, tokens::Precision, Get},
};
use openledger_primitives::{Balance, BlockNumber};
use sp_runtime::SaturatedConversion;

impl<T: Config<I>, I: 'static> Pallet<T, I> {
    /// The current block.
    pub(crate) fn now() -> BlockNumber {
        frame_system::Pallet::<T>::block_number().saturated_into()
    }

    pub(crate) fn do_bond(who: &T::AccountId, amount: Balance) -> DispatchResult {
        let mut ledger = Ledgers::<T, I>::get(who).unwrap_or_default();
        ledger.bond(amount).map_err(Error::<T, I>::from)?;
        T::Currency::hold(&HoldReason::<I>::Stake.into(), who, amount)?;
        let own = ledger.own;
        Ledgers::<T, I>::insert(who, ledger);
        Self::deposit_event(Event::Bonded {
            who: who.clone(),
            amount,
            own,
        });
        Ok(())
    }

    pub(crate) fn do_thaw(who: &T::AccountId, amount: Balance) -> DispatchResult {
        let now = Self::now();
        Self::change(who, |ledger| {
            ledger.thaw(amount, now).map_err(Error::<T, I>::from)
        })?;
        Self::deposit_event(Event::ThawBegun {
            who: who.clone(),
            amount,
            ends: now.saturating_add(T::Thaw::get()),
        });
        Ok(())
    }

    pub(crate) fn do_withdraw(who: &T::AccountId) -> DispatchResult {
        let amount = Self::change(who, |ledger| {
            ledger
                .withdraw(Self::now(), T::Thaw::get())
                .map_err(Error::<T, I>::from)
        })?;
        let reason = HoldReason::<I>::Stake.into();
        T::Currency::release(&reason, who, amount, Precision::Exact)?;
        Self::deposit_event(Event::Withdrawn {
            who: who.clone(),
            amount,
        });
        Ok(())
    }

    /// Changes a ledger that exists; removes it when nothing is left in it; keeps it as it was when
    /// the change is refused.
    pub(crate) fn change<R>(
        who: &T::AccountId,
        change: impl FnOnce(&mut Ledger) -> Result<R, Error<T, I>>,
    ) -> Result<R, Error<T, I>> {
        let mut ledger = Ledgers::<T, I>::get(who).ok_or(Error::<T, I>::NotBonded)?;
        let result = change(&mut ledger)?;
        if ledger.is_empty() {
            Ledgers::<T, I>::remove(who);
        } else {
            Ledgers::<T, I>::insert(who, ledger);
        }
        Ok(result)
    }
}
