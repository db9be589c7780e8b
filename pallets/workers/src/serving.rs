//! Which worker serves which revision.

use crate::{Config, Error, Event, Pallet, Providers, Served, Serving, Standing, Workers};
use alloc::vec::Vec;
use frame_support::ensure;
use openledger_primitives::RevisionId;
use openledger_traits::ModelRegistry;

impl<T: Config> Pallet<T> {
    /// Replaces what the worker announces. Returns how many revisions it announced before.
    pub(crate) fn do_serve(worker: &T::AccountId, revisions: Served) -> Result<u32, Error<T>> {
        let record = Workers::<T>::get(worker).ok_or(Error::<T>::NotWorker)?;
        ensure!(
            record.standing == Standing::Active,
            Error::<T>::AlreadyDraining
        );
        let mut sorted: Vec<RevisionId> = revisions.into_inner();
        sorted.sort_unstable();
        sorted.dedup();
        ensure!(
            sorted.iter().all(|revision| T::Models::is_live(*revision)),
            Error::<T>::UnknownRevision
        );
        let served = Served::truncate_from(sorted);
        let count = served.len() as u32;

        let before = Self::stop_serving(worker);
        for revision in &served {
            Providers::<T>::insert(revision, worker, ());
        }
        if !served.is_empty() {
            Serving::<T>::insert(worker, served);
        }
        Self::deposit_event(Event::Serving {
            worker: worker.clone(),
            revisions: count,
        });
        Ok(before)
    }

    /// Takes everything the worker announces off offer. Returns how many revisions that were.
    pub(crate) fn stop_serving(worker: &T::AccountId) -> u32 {
        let served = Serving::<T>::take(worker);
        for revision in &served {
            Providers::<T>::remove(revision, worker);
        }
        served.len() as u32
    }
}
