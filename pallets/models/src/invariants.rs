//! What must always hold; the numbers are those of the README.

use crate::{
    Adapters, Bases, Config, Deposits, NextAdapter, NextBase, NextRevision, Pallet,
    RevisionDeposits, Revisions, TermsCount, TermsList,
};
use frame_support::ensure;
use openledger_primitives::revision::{ModelRef, RevisionStatus};
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// Checks every invariant of the pallet; the error names the one that is broken.
    pub fn do_try_state() -> Result<(), DispatchError> {
        Self::check_models()?;
        Self::check_revisions()?;
        Self::check_terms()
    }

    fn check_models() -> Result<(), DispatchError> {
        for (id, base) in Bases::<T>::iter() {
            ensure!(
                id < NextBase::<T>::get() && Deposits::<T>::contains_key(ModelRef::Base(id)),
                "1: every model has an identifier given out and a deposit"
            );
            ensure!(
                Revisions::<T>::get(base.revision)
                    .is_some_and(|revision| revision.model == ModelRef::Base(id)),
                "2: a base has a revision of its own"
            );
            ensure!(
                TermsCount::<T>::get(ModelRef::Base(id)) > 0,
                "3: a base has terms"
            );
        }
        for (id, adapter) in Adapters::<T>::iter() {
            ensure!(
                id < NextAdapter::<T>::get()
                    && Deposits::<T>::contains_key(ModelRef::Adapter(id))
                    && Bases::<T>::contains_key(adapter.base),
                "1: every model has an identifier given out and a deposit"
            );
            ensure!(
                adapter.live.iter().all(|live| {
                    Revisions::<T>::get(live).is_some_and(|revision| {
                        revision.model == ModelRef::Adapter(id)
                            && revision.status == RevisionStatus::Live
                    })
                }),
                "4: an adapter lists exactly its live revisions"
            );
        }
        Ok(())
    }

    fn check_revisions() -> Result<(), DispatchError> {
        for (id, revision) in Revisions::<T>::iter() {
            ensure!(
                id < NextRevision::<T>::get(),
                "5: every revision has an identifier given out"
            );
            let Some(base) = Bases::<T>::get(revision.base) else {
                return Err("6: a revision's licence is within that of its base".into());
            };
            ensure!(
                base.licence.permits(revision.licence),
                "6: a revision's licence is within that of its base"
            );
            let live = revision.status == RevisionStatus::Live;
            match revision.model {
                ModelRef::Base(base) => ensure!(
                    base == revision.base && revision.versions.is_empty(),
                    "2: a base has a revision of its own"
                ),
                ModelRef::Adapter(adapter) => {
                    let listed = Adapters::<T>::get(adapter)
                        .is_some_and(|adapter| adapter.live.contains(&id));
                    ensure!(
                        listed == live && RevisionDeposits::<T>::contains_key(id),
                        "4: an adapter lists exactly its live revisions"
                    );
                }
            }
            if live {
                for terms in Self::standing_terms(revision.model, Self::now()) {
                    ensure!(
                        Self::ensure_price(&revision, &terms).is_ok(),
                        "7: what live revisions cost is allowed by licence and royalty"
                    );
                }
            }
        }
        Ok(())
    }

    fn check_terms() -> Result<(), DispatchError> {
        let mut entries = 0usize;
        for (model, count) in TermsCount::<T>::iter() {
            ensure!(
                count > 0 && Self::developer(model).is_some(),
                "8: terms are of a model and contiguous from 0"
            );
            let mut before = 0;
            for index in 0..count {
                let Some(terms) = Self::terms_at(model, index) else {
                    return Err("8: terms are of a model and contiguous from 0".into());
                };
                ensure!(
                    terms.split.sums_to_whole(),
                    "9: every split sums to the whole"
                );
                ensure!(
                    terms.effective_from >= before,
                    "10: terms take effect in their order"
                );
                before = terms.effective_from;
                entries = entries.saturating_add(1);
            }
        }
        ensure!(
            TermsList::<T>::iter_keys().count() == entries,
            "8: terms are of a model and contiguous from 0"
        );
        Ok(())
    }
}
