//! Contributing, and taking a contribution back.

use crate::{
    Config, ContentRoots, Contribution, Contributions, Datanets, Error, Event, HoldReason,
    NextContribution, Pallet, Stage, Status,
};
use frame_support::{
    dispatch::DispatchResult,
    ensure,
    traits::{fungible::MutateHold, tokens::Precision},
};
use openledger_primitives::{
    contribution::{Provenance, Submission},
    licence::Licence,
    merkle,
    row::MAX_ROW_BYTES,
    sketch, Balance, ContributionId, DatanetId,
};
use openledger_traits::Parameters;

impl<T: Config> Pallet<T> {
    pub(crate) fn do_contribute(
        owner: T::AccountId,
        datanet: DatanetId,
        submission: Submission,
    ) -> DispatchResult {
        let record = Datanets::<T>::get(datanet).ok_or(Error::<T>::UnknownDatanet)?;
        Self::ensure_submission(&submission, record.licence)?;
        let content_root = submission.content_root;
        ensure!(
            !ContentRoots::<T>::contains_key(datanet, content_root),
            Error::<T>::AlreadyContributed
        );
        let contribution = NextContribution::<T>::get();
        let next = contribution.checked_add(1).ok_or(Error::<T>::NoMoreIds)?;
        // The least bond may have risen since the Datanet was founded.
        let bond = record
            .contribution_bond
            .max(T::Parameters::datanets().min_contribution_bond);
        T::Currency::hold(&HoldReason::ContributionBond.into(), &owner, bond)?;

        let now = Self::now();
        NextContribution::<T>::put(next);
        ContentRoots::<T>::insert(datanet, content_root, contribution);
        Contributions::<T>::insert(
            contribution,
            Contribution {
                datanet,
                owner: owner.clone(),
                submission,
                committed_at: now,
                revealed_at: now,
                bond,
                stage: Stage::Pending,
                status: Status::Live,
            },
        );
        Self::deposit_event(Event::Contributed {
            datanet,
            contribution,
            owner,
            content_root,
            rows: submission.rows,
        });
        Ok(())
    }

    pub(crate) fn do_withdraw(who: &T::AccountId, contribution: ContributionId) -> DispatchResult {
        let mut record =
            Contributions::<T>::get(contribution).ok_or(Error::<T>::UnknownContribution)?;
        ensure!(record.owner == *who, Error::<T>::NotContributor);
        let datanet = record.datanet;
        match record.stage {
            Stage::Sealed { .. } => {
                ensure!(
                    record.status != Status::Withdrawn,
                    Error::<T>::AlreadyWithdrawn
                );
                // The root keeps the leaf; the overlay says that it stands no more. The content root
                // stays taken, so that nobody else can contribute what was withdrawn.
                record.status = Status::Withdrawn;
                Contributions::<T>::insert(contribution, record);
            }
            Stage::Pending => {
                Self::release_bond(who, record.bond)?;
                ContentRoots::<T>::remove(datanet, record.submission.content_root);
                Contributions::<T>::remove(contribution);
            }
            Stage::Admitted { position } => {
                Self::unqueue(datanet, position)?;
                ContentRoots::<T>::remove(datanet, record.submission.content_root);
                Contributions::<T>::remove(contribution);
            }
            Stage::Rejected { .. } => Contributions::<T>::remove(contribution),
        }
        Self::deposit_event(Event::Withdrawn {
            datanet,
            contribution,
        });
        Ok(())
    }

    pub(crate) fn release_bond(who: &T::AccountId, bond: Balance) -> DispatchResult {
        if bond > 0 {
            let reason = HoldReason::ContributionBond.into();
            T::Currency::release(&reason, who, bond, Precision::Exact)?;
        }
        Ok(())
    }

    fn ensure_submission(submission: &Submission, promised: Licence) -> DispatchResult {
        let most = u64::from(submission.rows).saturating_mul(MAX_ROW_BYTES as u64);
        ensure!(
            submission.content_root != merkle::EMPTY && submission.rows > 0,
            Error::<T>::Empty
        );
        ensure!(
            submission.bytes > 0 && submission.bytes <= most,
            Error::<T>::BadSize
        );
        ensure!(
            submission.sketch_scheme == sketch::SCHEME,
            Error::<T>::UnknownSketchScheme
        );
        ensure!(submission.locator != [0; 32], Error::<T>::LocatorMissing);
        ensure!(
            submission.provenance != Provenance::Licensed || submission.rights != [0; 32],
            Error::<T>::RightsMissing
        );
        ensure!(submission.licence.is_valid(), Error::<T>::UnknownPermission);
        ensure!(
            submission.licence.permits(promised),
            Error::<T>::LicenceTooNarrow
        );
        Ok(())
    }
}
