//! What other pallets and programs ask about models.

use crate::{
    runtime_api::{RevisionInfo, TermsInfo},
    Adapters, Bases, Config, Pallet, Revisions,
};
use openledger_primitives::{
    revision::{ModelRef, RevisionStatus},
    BlockNumber, RevisionId, TermsIndex,
};
use openledger_traits::{ModelRegistry, Parameters, PricedRevision};

impl<T: Config> ModelRegistry<T::AccountId> for Pallet<T> {
    fn priced(
        revision: RevisionId,
        terms: TermsIndex,
        now: BlockNumber,
    ) -> Option<PricedRevision<T::AccountId>> {
        let record = Revisions::<T>::get(revision)?;
        let terms =
            Self::terms_at(record.model, terms).filter(|terms| terms.effective_from <= now)?;
        // Terms and revisions are checked against each other when either appears, but not with terms
        // that were superseded before the revision was.
        Self::ensure_price(&record, &terms).ok()?;
        Some(PricedRevision {
            developer: Self::developer(record.model)?,
            model: record.model,
            terms,
            versions: record.versions,
        })
    }

    fn accepted_until(revision: RevisionId, terms: TermsIndex) -> BlockNumber {
        let Some(record) = Revisions::<T>::get(revision) else {
            return 0;
        };
        let superseded = terms
            .checked_add(1)
            .and_then(|next| Self::terms_at(record.model, next))
            .map(|next| next.effective_from);
        let over = superseded
            .unwrap_or(BlockNumber::MAX)
            .min(record.retired_at.unwrap_or(BlockNumber::MAX));
        over.saturating_add(T::Parameters::settlement().voucher_grace)
    }

    fn terms_in_force(revision: RevisionId, now: BlockNumber) -> Option<TermsIndex> {
        let model = Revisions::<T>::get(revision)?.model;
        Self::current_terms(model, now).map(|(index, _)| index)
    }

    fn is_live(revision: RevisionId) -> bool {
        Revisions::<T>::get(revision).is_some_and(|record| record.status == RevisionStatus::Live)
    }
}

impl<T: Config> Pallet<T> {
    /// What a worker or a gateway must know of a revision.
    pub fn revision_info(revision: RevisionId) -> Option<RevisionInfo<T::AccountId>> {
        let record = Revisions::<T>::get(revision)?;
        let base = Bases::<T>::get(record.base)?;
        let name = match record.model {
            ModelRef::Base(_) => base.name.clone(),
            ModelRef::Adapter(adapter) => Adapters::<T>::get(adapter)?.name,
        };
        Some(RevisionInfo {
            revision,
            model: record.model,
            name,
            developer: Self::developer(record.model)?,
            base: record.base,
            base_name: base.name,
            base_manifest: base.manifest,
            base_revision: base.revision,
            facts: record.facts,
            versions: record.versions,
            licence: record.licence,
            royalty: record.royalty,
            published_at: record.published_at,
            status: record.status,
            terms: Self::current_terms(record.model, Self::now()).map(|(index, _)| index),
        })
    }

    /// Terms by index, or those in effect now.
    pub fn terms_info(model: ModelRef, index: Option<TermsIndex>) -> Option<TermsInfo> {
        let (index, terms) = match index {
            Some(index) => (index, Self::terms_at(model, index)?),
            None => Self::current_terms(model, Self::now())?,
        };
        Some(TermsInfo { index, terms })
    }
}
