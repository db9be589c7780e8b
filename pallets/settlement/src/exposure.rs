//! How much unsettled work a worker's bond answers for.

use crate::{Accounts, Config, Error, Pallet};
use openledger_economics::{Exposure, Limit};
use openledger_primitives::{Balance, BlockNumber};
use openledger_traits::{BondLedger, Parameters};
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// The worker's bond and what it answers for.
    pub fn exposure(worker: &T::AccountId) -> Exposure {
        let account = Accounts::<T>::get(worker);
        Exposure {
            own: T::Bonds::own(worker),
            usable: T::Bonds::usable(worker),
            reserved: T::Bonds::reserved(worker),
            window_fees: account.window_fees,
            liability_fees: account.liability_fees,
        }
    }

    /// Reserves bond for a batch of `fee` whose liability ends with block `until`. Returns planck
    /// reserved.
    pub(crate) fn reserve(
        worker: &T::AccountId,
        fee: Balance,
        until: BlockNumber,
    ) -> Result<Balance, DispatchError> {
        let reserve = Self::exposure(worker)
            .admit(fee)
            .map_err(|limit| match limit {
                Limit::Window => Error::<T>::WindowExposure,
                Limit::Liability => Error::<T>::LiabilityExposure,
                Limit::Reservation => Error::<T>::ReservationExposure,
            })?;
        T::Bonds::reserve(worker, reserve)?;
        T::Bonds::liable_until(worker, until.saturating_add(1));
        Ok(reserve)
    }

    /// Ends of window and liability of a batch submitted now: never before `previous`, so that
    /// batches of a worker end in their order whatever happens to the parameters.
    pub(crate) fn ends(previous: (BlockNumber, BlockNumber)) -> (BlockNumber, BlockNumber) {
        let windows = T::Parameters::settlement();
        let window = Self::now().saturating_add(windows.challenge_window);
        let window = window.max(previous.0);
        let liability = window.saturating_add(windows.evidence_window);
        (window, liability.max(previous.1))
    }
}
