//! The keyless accounts.

use crate::{Config, Pallet};
use frame_support::traits::{
    fungible::{Inspect, Mutate},
    Get,
};
use sp_runtime::traits::AccountIdConversion;

impl<T: Config> Pallet<T> {
    /// The account that holds every earning and every pool.
    pub fn pot() -> T::AccountId {
        T::PalletId::get().into_account_truncating()
    }

    /// The account that holds what of the protocol's part is not burned.
    pub fn protocol_pot() -> T::AccountId {
        T::PalletId::get().into_sub_account_truncating(b"protocol")
    }

    /// Issues the least balance to each pot that has none, so that a part of any size can enter.
    pub(crate) fn found_pots() {
        let least = T::Currency::minimum_balance();
        for pot in [Self::pot(), Self::protocol_pot()] {
            if T::Currency::balance(&pot) < least {
                T::Currency::set_balance(&pot, least);
            }
        }
    }
}
