//! Sealing: what is admitted is appended to the Datanet's Merkle mountain range, whose root is the
//! new version.

use crate::{
    Config, Contributions, Datanets, Error, Event, Leaves, Pallet, Queue, Ranges, Stage, Status,
    Version, Versions, MAX_SEAL,
};
use alloc::vec::Vec;
use frame_support::{defensive, ensure};
use openledger_primitives::{
    contribution::VersionLeaf, inclusion::ContributionProof, merkle, ContributionId, DatanetId,
    Digest, VersionIndex,
};
use openledger_traits::Parameters;
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// Seals the oldest of what is admitted. Returns how many contributions the version adds.
    pub(crate) fn do_seal(who: &T::AccountId, datanet: DatanetId) -> Result<u32, DispatchError> {
        let mut net = Self::owned(who, datanet)?;
        let waiting = net.queue_to.saturating_sub(net.queue_from);
        let added = waiting.min(Self::seal_limit());
        ensure!(added > 0, Error::<T>::NothingToSeal);
        let version = net.versions.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;

        let mut range = Ranges::<T>::get(datanet);
        let from = net.queue_from;
        let to = from.saturating_add(added);
        for queued in from..to {
            let position = range.count();
            let (Some(contribution), Some(mut record)) = Queue::<T>::take(datanet, queued)
                .map(|id| (Some(id), Contributions::<T>::get(id)))
                .unwrap_or_default()
            else {
                defensive!("the queue has no holes");
                return Err(Error::<T>::UnknownContribution.into());
            };
            ensure!(
                range.push(record.leaf(contribution).hash()),
                Error::<T>::NoMoreIds
            );
            record.stage = Stage::Sealed { version, position };
            Contributions::<T>::insert(contribution, record);
            Leaves::<T>::insert(datanet, position, contribution);
        }
        net.queue_from = to;
        net.versions = version;
        let (root, count) = (range.root(), range.count());

        Ranges::<T>::insert(datanet, range);
        Datanets::<T>::insert(datanet, net);
        Versions::<T>::insert(
            datanet,
            version,
            Version {
                root,
                count,
                sealed_at: Self::now(),
                status: Status::Live,
            },
        );
        Self::deposit_event(Event::VersionSealed {
            datanet,
            version,
            root,
            count,
        });
        Ok(added)
    }

    /// Contributions that one version adds at most.
    pub fn seal_limit() -> u32 {
        T::Parameters::datanets()
            .max_contributions_per_version
            .clamp(1, MAX_SEAL)
    }

    /// The leaves of a version, in order; none for an unknown version.
    pub fn version_leaves(datanet: DatanetId, version: VersionIndex) -> Vec<VersionLeaf> {
        let count = Versions::<T>::get(datanet, version).map_or(0, |version| version.count);
        (0..count)
            .filter_map(|position| {
                let contribution = Leaves::<T>::get(datanet, position)?;
                Some(Contributions::<T>::get(contribution)?.leaf(contribution))
            })
            .collect()
    }

    /// The position of a contribution in a version and its siblings up to the root. `None` when it
    /// does not stand there.
    pub fn prove_contribution(
        datanet: DatanetId,
        version: VersionIndex,
        contribution: ContributionId,
    ) -> Option<(u32, Vec<Digest>)> {
        let hashes: Vec<Digest> = Self::version_leaves(datanet, version)
            .iter()
            .map(VersionLeaf::hash)
            .collect();
        let record = Contributions::<T>::get(contribution)?;
        match record.stage {
            Stage::Sealed { position, .. } if record.datanet == datanet => {
                Some((position, merkle::prove(&hashes, position as usize)?))
            }
            _ => None,
        }
    }

    /// Whether the row stands in the version.
    pub fn verify_row(
        datanet: DatanetId,
        version: VersionIndex,
        proof: &ContributionProof,
    ) -> bool {
        Versions::<T>::get(datanet, version)
            .is_some_and(|version| proof.verify(&version.root, version.count))
    }
}
