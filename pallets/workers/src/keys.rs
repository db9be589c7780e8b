//! Service keys: accounts of their own that sign receipts and submit for a worker.

use crate::{Config, Error, Event, KeyOwner, Keys, Pallet, ServiceKey, Workers};
use frame_support::{dispatch::DispatchResult, ensure};
use openledger_primitives::{BlockNumber, KeyIndex};
use openledger_traits::Parameters;

impl<T: Config> Pallet<T> {
    /// Refuses a key that is the worker's own account, another worker, or in any worker's history.
    pub(crate) fn ensure_fresh_key(worker: &T::AccountId, key: &T::AccountId) -> DispatchResult {
        ensure!(key != worker, Error::<T>::KeyIsOwnAccount);
        ensure!(
            !Workers::<T>::contains_key(key) && !KeyOwner::<T>::contains_key(key),
            Error::<T>::KeyInUse
        );
        Ok(())
    }

    pub(crate) fn do_set_service_key(worker: &T::AccountId, key: &T::AccountId) -> DispatchResult {
        Self::ensure_fresh_key(worker, key)?;
        let mut record = Workers::<T>::get(worker).ok_or(Error::<T>::NotWorker)?;
        let index = record.next_key;
        record.next_key = index.checked_add(1).ok_or(Error::<T>::TooManyKeys)?;
        let now = Self::now();
        let overlap_ends = now.saturating_add(T::Parameters::settlement().voucher_grace);

        let mut keys = Keys::<T>::get(worker);
        Self::forget_old_keys(&mut keys, now);
        for key in keys.iter_mut().filter(|key| key.until.is_none()) {
            key.until = Some(overlap_ends);
        }
        keys.try_push(ServiceKey {
            index,
            account: key.clone(),
            from: now,
            until: None,
        })
        .map_err(|_| Error::<T>::TooManyKeys)?;

        Keys::<T>::insert(worker, keys);
        KeyOwner::<T>::insert(key, (worker, index));
        Workers::<T>::insert(worker, record);
        Self::deposit_event(Event::ServiceKeySet {
            worker: worker.clone(),
            index,
            key: key.clone(),
            previous_valid_until: overlap_ends,
        });
        Ok(())
    }

    /// Drops keys whose receipts can be neither claimed nor challenged any more.
    fn forget_old_keys(keys: &mut crate::ServiceKeys<T::AccountId>, now: BlockNumber) {
        let windows = T::Parameters::settlement();
        let kept_for = windows
            .voucher_grace
            .saturating_add(windows.challenge_window)
            .saturating_add(windows.evidence_window);
        keys.retain(|key| {
            let keep = key
                .until
                .is_none_or(|until| now < until.saturating_add(kept_for));
            if !keep {
                KeyOwner::<T>::remove(&key.account);
            }
            keep
        });
    }

    pub(crate) fn remove_all_keys(worker: &T::AccountId) {
        for key in Keys::<T>::take(worker) {
            KeyOwner::<T>::remove(key.account);
        }
    }

    /// The worker whose current key `key` is, and the key's index.
    ///
    /// A key that was replaced still vouches for the receipts that it signed, but acts no more: it may
    /// have been replaced because it was stolen, and the new one can submit all that it signed.
    pub(crate) fn key_in_force(key: &T::AccountId) -> Option<(T::AccountId, KeyIndex)> {
        let (worker, index) = KeyOwner::<T>::get(key)?;
        Keys::<T>::get(&worker)
            .iter()
            .any(|entry| entry.index == index && entry.until.is_none())
            .then_some((worker, index))
    }
}
