//! What other pallets ask of the ledger: exposure, reservation and liability.

use crate::{Config, Error, Event, Ledgers, Pallet};
use frame_support::dispatch::DispatchResult;
use openledger_primitives::{Balance, BlockNumber};
use openledger_traits::BondLedger;

impl<T: Config<I>, I: 'static> BondLedger<T::AccountId> for Pallet<T, I> {
    fn bond(who: &T::AccountId, amount: Balance) -> DispatchResult {
        Self::do_bond(who, amount)
    }

    fn thaw_all(who: &T::AccountId) -> DispatchResult {
        match Self::own(who) {
            0 => Ok(()),
            own => Self::do_thaw(who, own),
        }
    }

    fn own(who: &T::AccountId) -> Balance {
        Ledgers::<T, I>::get(who).map_or(0, |ledger| ledger.own)
    }

    fn usable(who: &T::AccountId) -> Balance {
        Ledgers::<T, I>::get(who).map_or(0, |ledger| ledger.usable())
    }

    fn reserved(who: &T::AccountId) -> Balance {
        Ledgers::<T, I>::get(who).map_or(0, |ledger| ledger.reserved)
    }

    fn reserve(who: &T::AccountId, amount: Balance) -> DispatchResult {
        if amount == 0 {
            return Ok(());
        }
        Self::change(who, |ledger| {
            ledger.reserve(amount).map_err(Error::<T, I>::from)
        })?;
        Self::deposit_event(Event::Reserved {
            who: who.clone(),
            amount,
        });
        Ok(())
    }

    fn unreserve(who: &T::AccountId, amount: Balance) {
        let given = Self::change(who, |ledger| Ok(ledger.unreserve(amount))).unwrap_or_default();
        if given > 0 {
            Self::deposit_event(Event::Unreserved {
                who: who.clone(),
                amount: given,
            });
        }
    }

    fn liable_until(who: &T::AccountId, block: BlockNumber) {
        Ledgers::<T, I>::mutate_extant(who, |ledger| {
            ledger.last_liable = ledger.last_liable.max(block);
        });
    }

    fn last_liable(who: &T::AccountId) -> BlockNumber {
        Ledgers::<T, I>::get(who).map_or(0, |ledger| ledger.last_liable)
    }
}
