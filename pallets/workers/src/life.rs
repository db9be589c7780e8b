//! A worker's life: join, heartbeat, drain, leave.

use crate::{
    Capability, Config, Endpoint, Error, Event, KeyOwner, Keys, NextKey, Pallet, ServiceKey,
    Standing, Worker, Workers,
};
use frame_support::{dispatch::DispatchResult, ensure};
use openledger_primitives::{Balance, BlockNumber};
use openledger_traits::{BondLedger, Parameters};
use sp_runtime::SaturatedConversion;

impl<T: Config> Pallet<T> {
    /// The current block.
    pub(crate) fn now() -> BlockNumber {
        frame_system::Pallet::<T>::block_number().saturated_into()
    }

    /// The worker that `who` is, or for which it is a valid service key.
    pub(crate) fn acting_for(who: T::AccountId) -> Result<T::AccountId, Error<T>> {
        if Workers::<T>::contains_key(&who) {
            return Ok(who);
        }
        Self::key_in_force(&who)
            .map(|(worker, _)| worker)
            .ok_or(Error::<T>::NotWorker)
    }

    pub(crate) fn do_join(
        who: &T::AccountId,
        bond: Balance,
        service_key: &T::AccountId,
        endpoint: Endpoint,
        capability: Capability,
    ) -> DispatchResult {
        ensure!(!Workers::<T>::contains_key(who), Error::<T>::AlreadyJoined);
        Self::ensure_described(&endpoint, &capability)?;
        Self::ensure_fresh_key(who, service_key)?;
        // An account acts either for itself or for another.
        ensure!(!KeyOwner::<T>::contains_key(who), Error::<T>::KeyInUse);
        if bond > 0 {
            T::Bonds::bond(who, bond)?;
        }
        ensure!(Self::is_bonded_enough(who), Error::<T>::BondTooSmall);

        let now = Self::now();
        // Receipts that it signed before it left name their key by index: no index is given twice.
        let index = NextKey::<T>::get(who);
        let next_key = index.checked_add(1).ok_or(Error::<T>::TooManyKeys)?;
        let key = ServiceKey {
            index,
            account: service_key.clone(),
            from: now,
            until: None,
        };
        Keys::<T>::try_append(who, key).map_err(|()| Error::<T>::TooManyKeys)?;
        KeyOwner::<T>::insert(service_key, (who, index));
        Workers::<T>::insert(
            who,
            Worker {
                endpoint,
                capability,
                standing: Standing::Active,
                joined: now,
                last_heartbeat: now,
                next_key,
            },
        );
        Self::deposit_event(Event::Joined {
            worker: who.clone(),
            service_key: service_key.clone(),
        });
        Ok(())
    }

    pub(crate) fn do_update(
        who: &T::AccountId,
        endpoint: Endpoint,
        capability: Capability,
    ) -> DispatchResult {
        Self::ensure_described(&endpoint, &capability)?;
        Workers::<T>::try_mutate(who, |record| {
            let record = record.as_mut().ok_or(Error::<T>::NotWorker)?;
            record.endpoint = endpoint;
            record.capability = capability;
            Ok::<_, Error<T>>(())
        })?;
        Self::deposit_event(Event::Updated {
            worker: who.clone(),
        });
        Ok(())
    }

    pub(crate) fn do_heartbeat(worker: &T::AccountId) -> DispatchResult {
        let at = Self::now();
        Workers::<T>::try_mutate(worker, |record| {
            record.as_mut().ok_or(Error::<T>::NotWorker)?.last_heartbeat = at;
            Ok::<_, Error<T>>(())
        })?;
        Self::deposit_event(Event::Heartbeat {
            worker: worker.clone(),
        });
        Ok(())
    }

    /// Returns how many revisions were taken off offer.
    pub(crate) fn do_drain(worker: &T::AccountId) -> Result<u32, Error<T>> {
        Workers::<T>::try_mutate(worker, |record| {
            let record = record.as_mut().ok_or(Error::<T>::NotWorker)?;
            ensure!(
                record.standing == Standing::Active,
                Error::<T>::AlreadyDraining
            );
            record.standing = Standing::Draining { since: Self::now() };
            Ok::<_, Error<T>>(())
        })?;
        let withdrawn = Self::stop_serving(worker);
        Self::deposit_event(Event::Draining {
            worker: worker.clone(),
        });
        Ok(withdrawn)
    }

    pub(crate) fn do_leave(worker: &T::AccountId) -> DispatchResult {
        let record = Workers::<T>::get(worker).ok_or(Error::<T>::NotWorker)?;
        let Standing::Draining { since } = record.standing else {
            return Err(Error::<T>::NotDraining.into());
        };
        ensure!(
            T::Bonds::reserved(worker) == 0 && T::Bonds::last_liable(worker) <= Self::now(),
            Error::<T>::Liable
        );
        // What was delivered before it began to drain may still be claimed in the last of these
        // blocks, and then the bond must be there to answer for it.
        let claimed = since.saturating_add(T::Parameters::settlement().claim_within());
        ensure!(Self::now() > claimed, Error::<T>::MayBecomeLiable);
        T::Bonds::thaw_all(worker)?;
        Self::remove_all_keys(worker);
        NextKey::<T>::insert(worker, record.next_key);
        Workers::<T>::remove(worker);
        Self::deposit_event(Event::Left {
            worker: worker.clone(),
        });
        Ok(())
    }

    /// Whether the own bond is at least the least that a worker must have.
    pub(crate) fn is_bonded_enough(who: &T::AccountId) -> bool {
        T::Bonds::own(who) >= T::Parameters::bonds().min_worker_bond
    }

    fn ensure_described(endpoint: &Endpoint, capability: &Capability) -> DispatchResult {
        let printable = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_graphic);
        let host = endpoint
            .strip_prefix(b"http://")
            .or_else(|| endpoint.strip_prefix(b"https://"))
            .unwrap_or_default();
        ensure!(!host.is_empty() && printable(host), Error::<T>::BadEndpoint);
        ensure!(
            capability.max_batch > 0
                && capability.memory_mib > 0
                && !capability.engine.is_empty()
                && printable(&capability.engine),
            Error::<T>::BadCapability
        );
        Ok(())
    }
}
