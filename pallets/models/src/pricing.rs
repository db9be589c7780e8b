//! Terms: prices and split, appended and never changed.

use crate::{
    Adapters, Bases, Config, Error, Event, Pallet, Revision, Revisions, TermsCount, TermsList,
    MAX_PRICE,
};
use alloc::vec::Vec;
use frame_support::{dispatch::DispatchResult, ensure};
use openledger_economics::split_fee;
use openledger_primitives::{
    licence::Licence,
    revision::ModelRef,
    terms::{Split, Terms},
    Balance, BlockNumber, TermsIndex,
};
use openledger_traits::Parameters;

impl<T: Config> Pallet<T> {
    pub(crate) fn do_set_terms(
        who: &T::AccountId,
        model: ModelRef,
        (price_in, price_out): (Balance, Balance),
        split: Split,
    ) -> DispatchResult {
        let owner = Self::developer(model).ok_or(Error::<T>::UnknownModel)?;
        ensure!(owner == *who, Error::<T>::NotOwner);
        Self::ensure_split(&split)?;
        ensure!(
            price_in <= MAX_PRICE && price_out <= MAX_PRICE,
            Error::<T>::PriceTooHigh
        );
        let now = Self::now();
        let index = TermsCount::<T>::get(model);
        let effective_from = if index == 0 {
            now
        } else {
            let latest = index.checked_sub(1).ok_or(Error::<T>::NoMoreIds)?;
            ensure!(
                Self::terms_at(model, latest).is_some_and(|terms| terms.effective_from <= now),
                Error::<T>::TermsPending
            );
            now.saturating_add(T::Parameters::models().terms_notice)
        };
        let terms = Terms {
            price_in,
            price_out,
            split,
            effective_from,
        };
        for revision in Self::live_revisions(model) {
            Self::ensure_price(&revision, &terms)?;
        }

        TermsList::<T>::insert(model, index, terms);
        TermsCount::<T>::insert(model, index.checked_add(1).ok_or(Error::<T>::NoMoreIds)?);
        Self::deposit_event(Event::TermsSet {
            model,
            terms: index,
            effective_from,
        });
        Ok(())
    }

    /// Whether the licence and the royalties behind a revision allow the prices.
    pub(crate) fn ensure_price(revision: &Revision, terms: &Terms<BlockNumber>) -> DispatchResult {
        let free = terms.price_in == 0 && terms.price_out == 0;
        ensure!(
            free || revision.licence.permits(Licence::COMMERCIAL),
            Error::<T>::CommerceForbidden
        );
        // The royalty is for the contributors: their part of the lower price must reach it.
        let royalty = split_fee(terms.price_in.min(terms.price_out), &terms.split).contributors;
        ensure!(royalty >= revision.royalty, Error::<T>::BelowRoyalty);
        Ok(())
    }

    /// The terms that a new voucher names at block `now`.
    pub fn current_terms(
        model: ModelRef,
        now: BlockNumber,
    ) -> Option<(TermsIndex, Terms<BlockNumber>)> {
        let latest = TermsCount::<T>::get(model).checked_sub(1)?;
        // Only the latest entry can be pending.
        [Some(latest), latest.checked_sub(1)]
            .into_iter()
            .flatten()
            .find_map(|index| {
                let terms = Self::terms_at(model, index)?;
                (terms.effective_from <= now).then_some((index, terms))
            })
    }

    /// The terms in effect at block `now`, and those that follow.
    pub(crate) fn standing_terms(model: ModelRef, now: BlockNumber) -> Vec<Terms<BlockNumber>> {
        let Some((current, _)) = Self::current_terms(model, now) else {
            return Vec::new();
        };
        (current..TermsCount::<T>::get(model))
            .filter_map(|index| Self::terms_at(model, index))
            .collect()
    }

    /// An entry of a model's terms.
    pub fn terms_at(model: ModelRef, index: TermsIndex) -> Option<Terms<BlockNumber>> {
        TermsList::<T>::get(model, index)
    }

    /// The account that earns the developer's part.
    pub fn developer(model: ModelRef) -> Option<T::AccountId> {
        match model {
            ModelRef::Base(base) => Bases::<T>::get(base).map(|base| base.owner),
            ModelRef::Adapter(adapter) => Adapters::<T>::get(adapter).map(|adapter| adapter.owner),
        }
    }

    fn live_revisions(model: ModelRef) -> Vec<Revision> {
        let ids = match model {
            ModelRef::Base(base) => Bases::<T>::get(base)
                .map(|base| alloc::vec![base.revision])
                .unwrap_or_default(),
            ModelRef::Adapter(adapter) => Adapters::<T>::get(adapter)
                .map(|adapter| adapter.live.into_inner())
                .unwrap_or_default(),
        };
        ids.into_iter().filter_map(Revisions::<T>::get).collect()
    }

    fn ensure_split(split: &Split) -> DispatchResult {
        let least = T::Parameters::models();
        ensure!(split.sums_to_whole(), Error::<T>::SplitNotWhole);
        ensure!(
            split.worker >= least.min_worker_ppm,
            Error::<T>::WorkerShareTooLow
        );
        ensure!(
            split.protocol >= least.min_protocol_ppm,
            Error::<T>::ProtocolShareTooLow
        );
        Ok(())
    }
}
