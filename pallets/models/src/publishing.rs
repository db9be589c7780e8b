//! Publishing and retiring revisions.

use crate::{
    Adapter, Adapters, Bases, Config, Error, Event, NextRevision, Pallet, Revision,
    RevisionDeposits, Revisions, Versions, MAX_RANK,
};
use frame_support::{
    dispatch::DispatchResult,
    ensure,
    traits::{Consideration, Get},
};
use openledger_primitives::{
    licence::Licence,
    revision::{ModelRef, RevisionFacts, RevisionStatus, Targets},
    terms::PPM,
    AdapterId, Balance, RevisionId,
};
use openledger_traits::DatanetRegistry;
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    pub(crate) fn do_publish(
        who: &T::AccountId,
        adapter: AdapterId,
        facts: RevisionFacts,
        versions: Versions,
    ) -> DispatchResult {
        let mut record = Self::owned_adapter(who, adapter)?;
        Self::ensure_facts(&facts)?;
        let (licence, royalty) = Self::lineage(who, &record, &versions)?;
        let model = ModelRef::Adapter(adapter);
        let now = Self::now();
        let published = Revision {
            model,
            base: record.base,
            facts,
            versions,
            licence,
            royalty,
            published_at: now,
            retired_at: None,
            status: RevisionStatus::Live,
        };
        for terms in Self::standing_terms(model, now) {
            Self::ensure_price(&published, &terms)?;
        }
        let revision = NextRevision::<T>::get();
        let next = revision.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;
        record
            .live
            .try_push(revision)
            .map_err(|_| Error::<T>::TooManyLive)?;
        let ticket = T::Consideration::new(who, Self::revision_footprint())?;

        NextRevision::<T>::put(next);
        RevisionDeposits::<T>::insert(revision, ticket);
        Revisions::<T>::insert(revision, published);
        Adapters::<T>::insert(adapter, record);
        Self::deposit_event(Event::RevisionPublished {
            revision,
            adapter,
            adapter_digest: facts.adapter_digest,
        });
        Ok(())
    }

    pub(crate) fn do_retire(who: &T::AccountId, revision: RevisionId) -> DispatchResult {
        let mut record = Revisions::<T>::get(revision).ok_or(Error::<T>::UnknownRevision)?;
        let owner = Self::developer(record.model).ok_or(Error::<T>::UnknownModel)?;
        ensure!(owner == *who, Error::<T>::NotOwner);
        ensure!(
            record.status == RevisionStatus::Live,
            Error::<T>::AlreadyRetired
        );
        record.status = RevisionStatus::Retired;
        record.retired_at = Some(Self::now());
        if let ModelRef::Adapter(adapter) = record.model {
            Adapters::<T>::mutate_extant(adapter, |adapter| {
                adapter.live.retain(|live| *live != revision);
            });
        }
        Revisions::<T>::insert(revision, record);
        Self::deposit_event(Event::RevisionRetired { revision });
        Ok(())
    }

    /// The licence and the royalty that base and versions leave to a revision.
    fn lineage(
        who: &T::AccountId,
        adapter: &Adapter<T::AccountId>,
        versions: &Versions,
    ) -> Result<(Licence, Balance), DispatchError> {
        ensure!(!versions.is_empty(), Error::<T>::NoVersions);
        let mut licence = Bases::<T>::get(adapter.base)
            .ok_or(Error::<T>::UnknownBase)?
            .licence;
        let mut royalty = 0;
        for (position, named) in versions.iter().enumerate() {
            // A later version has all that an earlier one had.
            ensure!(
                !versions
                    .iter()
                    .skip(position.saturating_add(1))
                    .any(|other| other.datanet == named.datanet),
                Error::<T>::DatanetTwice
            );
            ensure!(
                T::Datanets::version_is_live(named),
                Error::<T>::VersionNotLive
            );
            ensure!(T::Datanets::may_use(who, named), Error::<T>::NoAccess);
            licence = licence
                .meet(T::Datanets::licence(named.datanet).ok_or(Error::<T>::VersionNotLive)?);
            royalty = T::Datanets::min_royalty(named.datanet).max(royalty);
        }
        ensure!(
            licence.permits(Licence::DERIVATIVES),
            Error::<T>::DerivativesForbidden
        );
        Ok((licence, royalty))
    }

    fn ensure_facts(facts: &RevisionFacts) -> DispatchResult {
        ensure!(
            [facts.adapter_digest, facts.manifest, facts.index]
                .iter()
                .all(|digest| *digest != [0; 32]),
            Error::<T>::DigestMissing
        );
        // Influence that counts is calibrated by the null model.
        ensure!(
            facts.attribution.alpha_ppm == PPM || facts.null != [0; 32],
            Error::<T>::DigestMissing
        );
        ensure!(
            (1..=MAX_RANK).contains(&facts.rank)
                && facts.targets.0 != 0
                && facts.targets.0 & !Targets::ALL_LINEAR.0 == 0,
            Error::<T>::BadShape
        );
        ensure!(
            T::AttributionBounds::get().allow(&facts.attribution),
            Error::<T>::AttributionOutOfBounds
        );
        Ok(())
    }

    fn owned_adapter(
        who: &T::AccountId,
        adapter: AdapterId,
    ) -> Result<Adapter<T::AccountId>, Error<T>> {
        let record = Adapters::<T>::get(adapter).ok_or(Error::<T>::UnknownModel)?;
        ensure!(record.owner == *who, Error::<T>::NotOwner);
        Ok(record)
    }
}
