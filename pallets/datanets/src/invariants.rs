//! What must always hold; the numbers are those of the README.

use crate::{
    Config, ContentRoots, Contributions, Datanets, Deposits, HoldReason, Leaves, NextContribution,
    NextDatanet, Pallet, Queue, Ranges, Stage, Status, Versions,
};
use alloc::{collections::BTreeMap, vec::Vec};
use frame_support::{ensure, traits::fungible::InspectHold};
use openledger_primitives::{contribution::VersionLeaf, merkle, Balance, Digest};
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// Checks every invariant of the pallet; the error names the one that is broken.
    pub fn do_try_state() -> Result<(), DispatchError> {
        Self::check_contributions()?;
        Self::check_versions()
    }

    fn check_contributions() -> Result<(), DispatchError> {
        let mut bonds: BTreeMap<T::AccountId, Balance> = BTreeMap::new();
        let mut roots = 0usize;
        let mut queued = 0usize;
        for (id, record) in Contributions::<T>::iter() {
            ensure!(
                id < NextContribution::<T>::get() && Datanets::<T>::contains_key(record.datanet),
                "1: every contribution has an identifier given out and a Datanet"
            );
            let pending = record.stage == Stage::Pending;
            ensure!(
                pending || record.bond == 0,
                "2: only pending contributions have a bond, exactly on hold on their owners"
            );
            let sum = bonds.entry(record.owner).or_default();
            *sum = sum.saturating_add(record.bond);
            let rejected = matches!(record.stage, Stage::Rejected { .. });
            let root = ContentRoots::<T>::get(record.datanet, record.submission.content_root);
            ensure!(
                rejected || root == Some(id),
                "3: a content root stands once in a Datanet, for what is not rejected"
            );
            if !rejected {
                roots = roots.saturating_add(1);
            }
            match record.stage {
                Stage::Admitted { position } => {
                    queued = queued.saturating_add(1);
                    ensure!(
                        Queue::<T>::get(record.datanet, position) == Some(id),
                        "4: the queue has exactly what is admitted, without holes"
                    );
                }
                Stage::Sealed { version, position } => ensure!(
                    Leaves::<T>::get(record.datanet, position) == Some(id)
                        && Versions::<T>::get(record.datanet, version)
                            .is_some_and(|version| position < version.count),
                    "5: what is sealed is a leaf of its version"
                ),
                _ => {}
            }
            ensure!(
                record.status == Status::Live || matches!(record.stage, Stage::Sealed { .. }),
                "6: only what is sealed has an overlay"
            );
        }
        let reason = HoldReason::ContributionBond.into();
        ensure!(
            bonds
                .iter()
                .all(|(who, bond)| T::Currency::balance_on_hold(&reason, who) == *bond),
            "2: only pending contributions have a bond, exactly on hold on their owners"
        );
        ensure!(
            ContentRoots::<T>::iter_keys().count() == roots,
            "3: a content root stands once in a Datanet, for what is not rejected"
        );
        let spans = Datanets::<T>::iter_values().fold(0usize, |sum, net| {
            sum.saturating_add(net.queue_to.saturating_sub(net.queue_from) as usize)
        });
        ensure!(
            Queue::<T>::iter_keys().count() == queued && spans == queued,
            "4: the queue has exactly what is admitted, without holes"
        );
        Ok(())
    }

    fn check_versions() -> Result<(), DispatchError> {
        let mut leaves_seen = 0usize;
        for (id, net) in Datanets::<T>::iter() {
            ensure!(
                id < NextDatanet::<T>::get() && Deposits::<T>::contains_key(id),
                "7: every Datanet has an identifier given out and a deposit"
            );
            let range = Ranges::<T>::get(id);
            let hashes: Vec<Digest> = Self::version_leaves(id, net.versions)
                .iter()
                .map(VersionLeaf::hash)
                .collect();
            ensure!(
                hashes.len() == range.count() as usize && merkle::root(&hashes) == range.root(),
                "8: the range is that of the leaves"
            );
            leaves_seen = leaves_seen.saturating_add(hashes.len());
            let mut before = 0;
            for index in 1..=net.versions {
                let Some(version) = Versions::<T>::get(id, index) else {
                    return Err("9: versions are contiguous from 1 and each adds leaves".into());
                };
                ensure!(
                    version.count > before,
                    "9: versions are contiguous from 1 and each adds leaves"
                );
                before = version.count;
                ensure!(
                    hashes
                        .get(..version.count as usize)
                        .is_some_and(|prefix| merkle::root(prefix) == version.root),
                    "10: a version's root is that of the leaves it had when it was sealed"
                );
            }
            ensure!(
                Versions::<T>::iter_key_prefix(id).count() == net.versions as usize,
                "9: versions are contiguous from 1 and each adds leaves"
            );
        }
        ensure!(
            Leaves::<T>::iter_keys().count() == leaves_seen,
            "8: the range is that of the leaves"
        );
        Ok(())
    }
}
