//! What must always hold; the numbers are those of the README.

use crate::{Config, KeyOwner, Keys, Pallet, Providers, Serving, Standing, Workers};
use frame_support::ensure;
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// Checks every invariant of the pallet; the error names the one that is broken.
    pub fn do_try_state() -> Result<(), DispatchError> {
        let mut keys_seen = 0usize;
        for (worker, record) in Workers::<T>::iter() {
            let keys = Keys::<T>::get(&worker);
            ensure!(
                keys.last().is_some_and(|key| key.until.is_none())
                    && keys.iter().filter(|key| key.until.is_none()).count() == 1,
                "1: the last key of a worker, and no other, is open-ended"
            );
            ensure!(
                keys.iter()
                    .zip(keys.iter().skip(1))
                    .all(|(older, newer)| older.index < newer.index)
                    && keys.iter().all(|key| key.index < record.next_key),
                "2: indices of keys rise and are below the next"
            );
            ensure!(
                keys.iter().all(|key| key.account != worker
                    && KeyOwner::<T>::get(&key.account) == Some((worker.clone(), key.index))),
                "3: each key is of one worker, and not the worker itself"
            );
            keys_seen = keys_seen.saturating_add(keys.len());
            let served = Serving::<T>::get(&worker);
            ensure!(
                served.is_empty() || record.standing == Standing::Active,
                "4: only active workers serve"
            );
        }
        ensure!(
            Keys::<T>::iter_keys().all(Workers::<T>::contains_key)
                && KeyOwner::<T>::iter_keys().count() == keys_seen,
            "5: no key outlives its worker"
        );
        let mut announced = 0usize;
        for (worker, served) in Serving::<T>::iter() {
            ensure!(
                !served.is_empty()
                    && Workers::<T>::contains_key(&worker)
                    && served
                        .iter()
                        .zip(served.iter().skip(1))
                        .all(|(lower, higher)| lower < higher),
                "6: what a worker serves is ascending, and no list is empty or of no worker"
            );
            ensure!(
                served
                    .iter()
                    .all(|revision| Providers::<T>::contains_key(revision, &worker)),
                "7: the index by revision has exactly what the workers announce"
            );
            announced = announced.saturating_add(served.len());
        }
        ensure!(
            Providers::<T>::iter_keys().count() == announced,
            "7: the index by revision has exactly what the workers announce"
        );
        Ok(())
    }
}
