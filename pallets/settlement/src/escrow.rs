//! Money: holds on consumers' accounts, and the escrow account.

use crate::{Config, HoldReason, Pallet};
use frame_support::{
    dispatch::DispatchResult,
    traits::{
        fungible::{Inspect, Mutate, MutateHold},
        tokens::{Fortitude, Precision, Restriction},
        Get,
    },
};
use openledger_primitives::{Balance, BlockNumber};
use sp_runtime::traits::{AccountIdConversion, SaturatedConversion};

impl<T: Config> Pallet<T> {
    /// The keyless account that holds the fees of batches not yet settled.
    pub fn escrow() -> T::AccountId {
        T::PalletId::get().into_account_truncating()
    }

    /// Issues the least balance to the escrow account if it has none, so that a fee of any size
    /// can enter.
    pub(crate) fn found_escrow() {
        let least = T::Currency::minimum_balance();
        if T::Currency::balance(&Self::escrow()) < least {
            T::Currency::set_balance(&Self::escrow(), least);
        }
    }

    /// Number of the block being executed.
    pub(crate) fn now() -> BlockNumber {
        frame_system::Pallet::<T>::block_number().saturated_into()
    }

    pub(crate) fn hold(consumer: &T::AccountId, amount: Balance) -> DispatchResult {
        T::Currency::hold(&HoldReason::Channel.into(), consumer, amount)
    }

    pub(crate) fn free(consumer: &T::AccountId, amount: Balance) -> DispatchResult {
        T::Currency::release(
            &HoldReason::Channel.into(),
            consumer,
            amount,
            Precision::Exact,
        )
        .map(|_| ())
    }

    /// Moves what is on hold into escrow.
    pub(crate) fn escrow_from(consumer: &T::AccountId, amount: Balance) -> DispatchResult {
        if amount == 0 {
            return Ok(());
        }
        T::Currency::transfer_on_hold(
            &HoldReason::Channel.into(),
            consumer,
            &Self::escrow(),
            amount,
            Precision::Exact,
            Restriction::Free,
            Fortitude::Force,
        )
        .map(|_| ())
    }
}
