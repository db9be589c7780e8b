//! The owner's decision over contributions, and the queue of what awaits a version.

use crate::{
    Config, ContentRoots, Contribution, Contributions, Datanet, Datanets, Error, Event, Pallet,
    Queue, RejectReason, Stage,
};
use frame_support::{dispatch::DispatchResult, ensure};
use openledger_primitives::{ContributionId, DatanetId};

impl<T: Config> Pallet<T> {
    pub(crate) fn do_admit(
        who: &T::AccountId,
        datanet: DatanetId,
        contributions: &[ContributionId],
    ) -> DispatchResult {
        ensure!(!contributions.is_empty(), Error::<T>::NothingNamed);
        let mut net = Self::owned(who, datanet)?;
        for contribution in contributions {
            let mut record = Self::pending(datanet, *contribution)?;
            let position = net.queue_to;
            net.queue_to = position.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;
            Self::release_bond(&record.owner, record.bond)?;
            record.bond = 0;
            record.stage = Stage::Admitted { position };
            Queue::<T>::insert(datanet, position, contribution);
            Contributions::<T>::insert(contribution, record);
            Self::deposit_event(Event::Admitted {
                datanet,
                contribution: *contribution,
            });
        }
        Datanets::<T>::insert(datanet, net);
        Ok(())
    }

    pub(crate) fn do_reject(
        who: &T::AccountId,
        datanet: DatanetId,
        contribution: ContributionId,
        reason: RejectReason,
    ) -> DispatchResult {
        Self::owned(who, datanet)?;
        let mut record = Self::pending(datanet, contribution)?;
        Self::release_bond(&record.owner, record.bond)?;
        record.bond = 0;
        record.stage = Stage::Rejected { reason };
        // The contributor may repair what was wrong and contribute it again.
        ContentRoots::<T>::remove(datanet, record.submission.content_root);
        Contributions::<T>::insert(contribution, record);
        Self::deposit_event(Event::Rejected {
            datanet,
            contribution,
            reason,
        });
        Ok(())
    }

    /// Takes a contribution out of the queue; the head of the queue takes its place, so that the
    /// queue has no holes.
    pub(crate) fn unqueue(datanet: DatanetId, position: u32) -> Result<(), Error<T>> {
        let mut net = Datanets::<T>::get(datanet).ok_or(Error::<T>::UnknownDatanet)?;
        let head = net.queue_from;
        let Some(moved) = Queue::<T>::take(datanet, head) else {
            return Ok(());
        };
        if head != position {
            Queue::<T>::insert(datanet, position, moved);
            Contributions::<T>::mutate_extant(moved, |record| {
                record.stage = Stage::Admitted { position };
            });
        }
        net.queue_from = head.saturating_add(1);
        Datanets::<T>::insert(datanet, net);
        Ok(())
    }

    pub(crate) fn owned(
        who: &T::AccountId,
        datanet: DatanetId,
    ) -> Result<Datanet<T::AccountId>, Error<T>> {
        let net = Datanets::<T>::get(datanet).ok_or(Error::<T>::UnknownDatanet)?;
        ensure!(net.owner == *who, Error::<T>::NotOwner);
        Ok(net)
    }

    fn pending(
        datanet: DatanetId,
        contribution: ContributionId,
    ) -> Result<Contribution<T::AccountId>, Error<T>> {
        let record =
            Contributions::<T>::get(contribution).ok_or(Error::<T>::UnknownContribution)?;
        ensure!(record.datanet == datanet, Error::<T>::OtherDatanet);
        ensure!(record.stage == Stage::Pending, Error::<T>::NotPending);
        Ok(record)
    }
}
