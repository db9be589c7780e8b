//! Founding a Datanet.

use crate::{
    Admission, Config, DataKind, Datanet, Datanets, Deposits, Error, Event, NextDatanet, Pallet,
};
use frame_support::{
    dispatch::DispatchResult,
    ensure,
    traits::{Consideration, Footprint},
};
use openledger_primitives::{licence::Licence, Balance, Digest};
use openledger_traits::Parameters;

/// What the founder chooses.
pub(crate) struct Charter {
    pub kind: DataKind,
    pub licence: Licence,
    pub schema: Digest,
    pub admission: Admission,
    pub access_price: Balance,
    pub min_royalty: Balance,
    pub contribution_bond: Balance,
    pub private: bool,
}

impl<T: Config> Pallet<T> {
    pub(crate) fn do_create(owner: T::AccountId, charter: Charter) -> DispatchResult {
        Self::ensure_charter(&charter)?;
        let datanet = NextDatanet::<T>::get();
        let next = datanet.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;
        let ticket = T::Consideration::new(&owner, Self::footprint())?;

        NextDatanet::<T>::put(next);
        Deposits::<T>::insert(datanet, ticket);
        Datanets::<T>::insert(
            datanet,
            Datanet {
                owner: owner.clone(),
                kind: charter.kind,
                licence: charter.licence,
                schema: charter.schema,
                admission: charter.admission,
                access_price: charter.access_price,
                min_royalty: charter.min_royalty,
                contribution_bond: charter.contribution_bond,
                private: charter.private,
                created_at: Self::now(),
                versions: 0,
                queue_from: 0,
                queue_to: 0,
            },
        );
        Self::deposit_event(Event::Created { datanet, owner });
        Ok(())
    }

    /// What a Datanet takes of the chain's storage, for which its founder leaves a deposit.
    pub fn footprint() -> Footprint {
        Footprint::from_mel::<(Datanet<T::AccountId>, openledger_primitives::merkle::Range)>()
    }

    fn ensure_charter(charter: &Charter) -> DispatchResult {
        ensure!(charter.licence.is_valid(), Error::<T>::UnknownPermission);
        ensure!(
            charter.contribution_bond >= T::Parameters::datanets().min_contribution_bond,
            Error::<T>::BondTooLow
        );
        ensure!(!charter.private, Error::<T>::PrivateUnavailable);
        ensure!(charter.access_price == 0, Error::<T>::PricedUnavailable);
        ensure!(
            charter.admission == Admission::Open,
            Error::<T>::AdmissionUnavailable
        );
        Ok(())
    }
}
