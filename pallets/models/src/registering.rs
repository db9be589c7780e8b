//! Registering bases and adapters.

use crate::{
    Adapter, Adapters, Base, Bases, Config, Deposits, Error, Event, Name, NextAdapter, NextBase,
    NextRevision, Pallet, Revision, Revisions,
};
use alloc::str;
use frame_support::{
    dispatch::DispatchResult,
    ensure,
    traits::{Consideration, Footprint},
};
use openledger_primitives::{
    licence::Licence,
    revision::{AttributionParams, ModelRef, RevisionFacts, RevisionStatus, Targets},
    terms::Split,
    Balance, BaseId, BlockNumber, Digest,
};
use sp_runtime::SaturatedConversion;

impl<T: Config> Pallet<T> {
    /// The current block.
    pub(crate) fn now() -> BlockNumber {
        frame_system::Pallet::<T>::block_number().saturated_into()
    }

    pub(crate) fn do_register_base(
        owner: T::AccountId,
        name: Name,
        manifest: Digest,
        licence: Licence,
        prices: (Balance, Balance),
        split: Split,
    ) -> DispatchResult {
        Self::ensure_name(&name)?;
        ensure!(manifest != [0; 32], Error::<T>::DigestMissing);
        ensure!(licence.is_valid(), Error::<T>::UnknownPermission);
        let base = NextBase::<T>::get();
        let next_base = base.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;
        let revision = NextRevision::<T>::get();
        let next_revision = revision.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;
        let model = ModelRef::Base(base);
        let ticket = T::Consideration::new(&owner, Self::base_footprint())?;

        NextBase::<T>::put(next_base);
        NextRevision::<T>::put(next_revision);
        Deposits::<T>::insert(model, ticket);
        Bases::<T>::insert(
            base,
            Base {
                owner: owner.clone(),
                name,
                manifest,
                licence,
                revision,
                registered_at: Self::now(),
            },
        );
        Revisions::<T>::insert(revision, Self::revision_of_base(base, manifest, licence));
        Self::deposit_event(Event::BaseRegistered {
            base,
            revision,
            owner: owner.clone(),
        });
        Self::do_set_terms(&owner, model, prices, split)
    }

    pub(crate) fn do_register_adapter(
        owner: T::AccountId,
        base: BaseId,
        name: Name,
    ) -> DispatchResult {
        Self::ensure_name(&name)?;
        let licence = Bases::<T>::get(base)
            .ok_or(Error::<T>::UnknownBase)?
            .licence;
        ensure!(
            licence.permits(Licence::DERIVATIVES),
            Error::<T>::DerivativesForbidden
        );
        let adapter = NextAdapter::<T>::get();
        let next = adapter.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;
        let ticket = T::Consideration::new(&owner, Self::adapter_footprint())?;

        NextAdapter::<T>::put(next);
        Deposits::<T>::insert(ModelRef::Adapter(adapter), ticket);
        Adapters::<T>::insert(
            adapter,
            Adapter {
                owner: owner.clone(),
                base,
                name,
                live: Default::default(),
                registered_at: Self::now(),
            },
        );
        Self::deposit_event(Event::AdapterRegistered {
            adapter,
            base,
            owner,
        });
        Ok(())
    }

    /// What a base and its revision take of the chain's storage.
    pub fn base_footprint() -> Footprint {
        Footprint::from_mel::<(Base<T::AccountId>, Revision)>()
    }

    /// What an adapter takes of the chain's storage.
    pub fn adapter_footprint() -> Footprint {
        Footprint::from_mel::<Adapter<T::AccountId>>()
    }

    /// What a revision takes of the chain's storage.
    pub fn revision_footprint() -> Footprint {
        Footprint::from_mel::<Revision>()
    }

    /// A base as a revision without adapter, index or evaluation.
    fn revision_of_base(base: BaseId, manifest: Digest, licence: Licence) -> Revision {
        Revision {
            model: ModelRef::Base(base),
            base,
            facts: RevisionFacts {
                adapter_digest: [0; 32],
                rank: 0,
                targets: Targets(0),
                manifest,
                index: [0; 32],
                null: [0; 32],
                evaluation: [0; 32],
                attribution: AttributionParams::default(),
            },
            versions: Default::default(),
            licence,
            royalty: 0,
            published_at: Self::now(),
            retired_at: None,
            status: RevisionStatus::Live,
        }
    }

    fn ensure_name(name: &Name) -> DispatchResult {
        let text = str::from_utf8(name).map_err(|_| Error::<T>::BadName)?;
        let printable = text.chars().all(|letter| !letter.is_control());
        ensure!(
            printable && !text.trim().is_empty() && text.trim() == text,
            Error::<T>::BadName
        );
        Ok(())
    }
}
