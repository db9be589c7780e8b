//! Settling batches page by page once their window is over, and releasing what was reserved for
//! them once their liability is.

use crate::{
    Accounts, Batch, BatchState, Batches, Config, Error, Event, Line, Pages, Pallet, MAX_RELEASED,
};
use alloc::vec::Vec;
use frame_support::{dispatch::DispatchResult, ensure};
use openledger_economics::Parts;
use openledger_primitives::{
    receipt::CreditReason, revision::VersionUse, Balance, BatchSequence, BlockNumber,
    ContributionId, RevisionId, TermsIndex,
};
use openledger_traits::{
    BondLedger, DatanetRegistry, Earning, Earnings, ModelRegistry, Parameters, Role,
};
use sp_runtime::{traits::SaturatedConversion, DispatchError};

/// A page being settled.
struct Settling<T: Config> {
    worker: T::AccountId,
    sequence: BatchSequence,
    now: BlockNumber,
    /// When the parts of worker, developer and holders vest.
    liable_vests: BlockNumber,
    /// When the contributors' parts vest.
    contributor_vests: BlockNumber,
    escrow: T::AccountId,
    /// Versions of the revision credited last: credits of one revision follow one another.
    versions: Option<(RevisionId, Vec<VersionUse>)>,
}

impl<T: Config> Pallet<T> {
    /// Settles the next page. Returns how many lines it had.
    pub(crate) fn do_settle_page(
        worker: &T::AccountId,
        sequence: BatchSequence,
    ) -> Result<u32, DispatchError> {
        let now = Self::now();
        let mut batch = Batches::<T>::get(worker, sequence).ok_or(Error::<T>::UnknownBatch)?;
        ensure!(
            !matches!(batch.state, BatchState::Settled | BatchState::Reversed),
            Error::<T>::AlreadySettled
        );
        ensure!(now > batch.window_end, Error::<T>::WindowOpen);
        ensure!(batch.open_disputes == 0, Error::<T>::Disputed);

        let page = batch.cursor;
        let lines = Pages::<T>::take((worker, sequence, page)).unwrap_or_default();
        let vesting = T::Parameters::payouts().contributor_vesting;
        let mut settling = Settling::<T> {
            worker: worker.clone(),
            sequence,
            now,
            liable_vests: batch.liability_end.saturating_add(1),
            contributor_vests: now.saturating_add(vesting),
            escrow: Self::escrow(),
            versions: None,
        };
        let mut amount: Balance = 0;
        for line in &lines {
            settling.settle(line)?;
            amount = amount.saturating_add(line.amount());
        }
        batch.escrowed = batch
            .escrowed
            .checked_sub(amount)
            .ok_or(Error::<T>::Overflow)?;
        batch.cursor = page.saturating_add(1);
        batch.state = BatchState::Finalizable;
        Self::deposit_event(Event::BatchPageSettled {
            worker: worker.clone(),
            sequence,
            page,
            amount,
        });
        if batch.cursor >= batch.pages {
            Self::finalize(worker, sequence, &mut batch);
        }
        Batches::<T>::insert(worker, sequence, batch);
        Ok(lines.len().saturated_into())
    }

    fn finalize(worker: &T::AccountId, sequence: BatchSequence, batch: &mut Batch) {
        batch.state = BatchState::Settled;
        Self::strike(worker, sequence, batch);
        batch.due = batch.liability_end.saturating_add(1);
        Self::enter(worker, sequence, batch);
        Accounts::<T>::mutate(worker, |account| {
            account.window_fees = account.window_fees.saturating_sub(batch.fee);
        });
        Self::deposit_event(Event::BatchFinalized {
            worker: worker.clone(),
            sequence,
            fee: batch.fee,
        });
    }

    /// Releases the oldest batches that can be. Returns how many.
    pub(crate) fn do_release_liability(worker: &T::AccountId) -> Result<u32, DispatchError> {
        let oldest: Vec<_> = Accounts::<T>::get(worker)
            .open
            .into_iter()
            .take(MAX_RELEASED as usize)
            .collect();
        let mut released = 0u32;
        for sequence in oldest {
            if Self::release(worker, sequence).is_err() {
                break;
            }
            released = released.saturating_add(1);
        }
        ensure!(released > 0, Error::<T>::NothingToRelease);
        Ok(released)
    }

    /// Gives back what is reserved for a batch and forgets it.
    pub(crate) fn release(worker: &T::AccountId, sequence: BatchSequence) -> DispatchResult {
        let batch = Batches::<T>::get(worker, sequence).ok_or(Error::<T>::UnknownBatch)?;
        ensure!(
            batch.state == BatchState::Settled && Self::now() > batch.liability_end,
            Error::<T>::NothingToRelease
        );
        Self::strike(worker, sequence, &batch);
        Batches::<T>::remove(worker, sequence);
        Accounts::<T>::mutate(worker, |account| {
            account.liability_fees = account.liability_fees.saturating_sub(batch.fee);
            account.open.retain(|open| *open != sequence);
        });
        T::Bonds::unreserve(worker, batch.reserved);
        Self::deposit_event(Event::LiabilityReleased {
            worker: worker.clone(),
            sequence,
            reserved: batch.reserved,
        });
        Ok(())
    }
}

impl<T: Config> Settling<T> {
    fn settle(&mut self, line: &Line<T::AccountId>) -> DispatchResult {
        match line {
            Line::Usage {
                revision,
                developer,
                parts,
            } => self.settle_usage(*revision, developer, parts),
            Line::Credit {
                revision,
                terms,
                contribution,
                amount,
                reason,
            } => self.settle_credit(*revision, *terms, *contribution, *amount, *reason),
        }
    }

    fn settle_usage(
        &self,
        revision: RevisionId,
        developer: &T::AccountId,
        parts: &Parts,
    ) -> DispatchResult {
        let liable = self.liable_vests;
        self.earn(&self.worker, Role::Worker, parts.worker, revision, liable)?;
        self.earn(
            developer,
            Role::Developer,
            parts.developer,
            revision,
            liable,
        )?;
        self.earn(developer, Role::Holder, parts.holders, revision, liable)?;
        T::Earnings::pool(&self.escrow, revision, parts.contributors)?;
        T::Earnings::protocol(&self.escrow, parts.protocol)
    }

    /// Credits the contribution's owner; the pool, when there is none any more.
    fn settle_credit(
        &mut self,
        revision: RevisionId,
        terms: TermsIndex,
        contribution: ContributionId,
        amount: Balance,
        reason: CreditReason,
    ) -> DispatchResult {
        let owner = T::Datanets::credited_owner(contribution, self.versions(revision, terms));
        match owner {
            Some(owner) => {
                let role = Role::Contributor {
                    contribution,
                    reason,
                };
                self.earn(&owner, role, amount, revision, self.contributor_vests)
            }
            None => {
                T::Earnings::pool(&self.escrow, revision, amount)?;
                Pallet::<T>::deposit_event(Event::CreditPooled {
                    revision,
                    contribution,
                    amount,
                });
                Ok(())
            }
        }
    }

    fn versions(&mut self, revision: RevisionId, terms: TermsIndex) -> &[VersionUse] {
        if self.versions.as_ref().map(|(known, _)| *known) != Some(revision) {
            let found = T::Models::priced(revision, terms, self.now)
                .map(|priced| priced.versions.into_inner())
                .unwrap_or_default();
            self.versions = Some((revision, found));
        }
        self.versions
            .as_ref()
            .map_or(&[], |(_, versions)| versions.as_slice())
    }

    fn earn(
        &self,
        account: &T::AccountId,
        role: Role,
        amount: Balance,
        revision: RevisionId,
        vests_at: BlockNumber,
    ) -> DispatchResult {
        T::Earnings::earn(
            &self.escrow,
            Earning {
                account: account.clone(),
                role,
                amount,
                worker: self.worker.clone(),
                batch: self.sequence,
                revision,
                vests_at,
            },
        )
    }
}
