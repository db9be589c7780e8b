//! What consumers and other pallets ask about workers.

use crate::{
    runtime_api::WorkerInfo, Config, Keys, Pallet, Providers, Served, Serving, Standing, Workers,
};
use alloc::vec::Vec;
use core::cmp::Reverse;
use openledger_primitives::{voucher::EvidenceClass, KeyIndex, RevisionId};
use openledger_traits::{BondLedger, ModelRegistry, Parameters, WorkerRegistry};

impl<T: Config> Pallet<T> {
    /// Workers that can be asked for the revision now: active, bonded, heard of lately. The largest
    /// own bond first. None for a revision that is not live.
    pub fn find(revision: RevisionId) -> Vec<WorkerInfo<T::AccountId>> {
        if !T::Models::is_live(revision) {
            return Vec::new();
        }
        let mut found: Vec<_> = Providers::<T>::iter_key_prefix(revision)
            .filter(|worker| Self::is_active(worker) && Self::is_fresh(worker))
            .filter_map(Self::info)
            .collect();
        found.sort_by_key(|worker| Reverse(worker.own_bond));
        found
    }

    /// What is known of a worker.
    pub fn info(worker: T::AccountId) -> Option<WorkerInfo<T::AccountId>> {
        let record = Workers::<T>::get(&worker)?;
        Some(WorkerInfo {
            endpoint: record.endpoint,
            capability: record.capability,
            standing: record.standing,
            service_keys: Keys::<T>::get(&worker),
            own_bond: T::Bonds::own(&worker),
            joined: record.joined,
            last_heartbeat: record.last_heartbeat,
            worker,
        })
    }

    /// Revisions that a worker announces.
    pub fn served_by(worker: &T::AccountId) -> Served {
        Serving::<T>::get(worker)
    }

    fn is_fresh(worker: &T::AccountId) -> bool {
        let grace = T::Parameters::bonds().heartbeat_grace;
        Workers::<T>::get(worker)
            .is_some_and(|record| Self::now() <= record.last_heartbeat.saturating_add(grace))
    }
}

impl<T: Config> WorkerRegistry<T::AccountId> for Pallet<T> {
    fn worker_of_key(key: &T::AccountId) -> Option<(T::AccountId, KeyIndex)> {
        Self::key_in_force(key)
    }

    fn evidence(worker: &T::AccountId) -> Option<EvidenceClass> {
        Workers::<T>::get(worker)
            .filter(|record| record.standing == Standing::Active && Self::is_bonded_enough(worker))
            .map(|record| record.capability.evidence)
    }
}
