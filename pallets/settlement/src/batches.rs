//! Submitting batches.

use crate::{
    Accounts, Batch, BatchState, Batches, Config, Error, Event, Line, Page, Pages, Pallet,
    WeightInfo,
};
use alloc::vec::Vec;
use frame_support::{dispatch::DispatchResult, ensure, traits::Get, weights::Weight};
use openledger_primitives::{
    batch::{
        batch_hash, claims_root, credits_root, usage_root, BatchHeader, BatchRoots, Claim, Credit,
        Usage, PAGE,
    },
    hash::blake2_256,
    Balance, BatchSequence, FORMAT_VERSION,
};
use openledger_traits::WorkerRegistry;
use parity_scale_codec::Encode;
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// Weight of `submit_batch` with so many claims, usage lines and credits. A measured weight
    /// counts accesses in whole numbers per line; of one write for a page of lines it counts none.
    pub(crate) fn batch_weight(claims: u32, usage: u32, credits: u32) -> Weight {
        let pages = usage.saturating_add(credits).div_ceil(PAGE);
        T::WeightInfo::submit_batch(claims, usage, credits)
            .saturating_add(T::DbWeight::get().writes(pages.into()))
    }

    pub(crate) fn ensure_acts_for(caller: &T::AccountId, worker: &T::AccountId) -> DispatchResult {
        let acts = caller == worker
            || T::Workers::worker_of_key(caller).is_some_and(|(owner, _)| owner == *worker);
        ensure!(acts, Error::<T>::NotWorker);
        Ok(())
    }

    pub(crate) fn do_submit_batch(
        worker: &T::AccountId,
        header: &BatchHeader,
        claims: &[Claim],
        usage: &[Usage],
        credits: &[Credit],
    ) -> DispatchResult {
        let mut account = Accounts::<T>::get(worker);
        Self::check_header(header, &account)?;
        // What pays nobody has no claim on the space and the idle time that settling takes.
        ensure!(!claims.is_empty() && header.fee > 0, Error::<T>::EmptyBatch);
        let lines = Self::lines(usage, credits)?;
        let amounts = Self::apply_claims(worker, claims, usage)?;
        let roots = Self::roots(header, claims, &amounts, usage, credits)?;

        let (window_end, liability_end) = Self::ends((account.window_end, account.liability_end));
        let reserved = Self::reserve(worker, header.fee, liability_end)?;
        let hash = batch_hash(&account_bytes(worker), header, &roots);
        let pages = Self::store_lines(worker, header.sequence, lines);
        let batch = Batch {
            hash,
            epoch: header.epoch,
            fee: header.fee,
            count: header.count,
            roots,
            influence_root: None,
            draw: None,
            reserved,
            window_end,
            liability_end,
            open_disputes: 0,
            pages,
            cursor: 0,
            escrowed: header.fee,
            due: window_end.saturating_add(1),
            state: BatchState::Submitted,
        };
        Self::enter(worker, header.sequence, &batch);
        Batches::<T>::insert(worker, header.sequence, batch);

        account.next_sequence = header.sequence.checked_add(1).ok_or(Error::<T>::Overflow)?;
        account.parent = hash;
        account.window_fees = add::<T>(account.window_fees, header.fee)?;
        account.liability_fees = add::<T>(account.liability_fees, header.fee)?;
        account.window_end = window_end;
        account.liability_end = liability_end;
        account
            .open
            .try_push(header.sequence)
            .map_err(|_| Error::<T>::TooManyBatches)?;
        Accounts::<T>::insert(worker, account);
        Self::deposit_event(Event::BatchSubmitted {
            worker: worker.clone(),
            sequence: header.sequence,
            fee: header.fee,
            count: header.count,
            window_end,
        });
        Ok(())
    }

    fn check_header(header: &BatchHeader, account: &crate::Account) -> DispatchResult {
        let epoch = T::CurrentEpoch::get();
        ensure!(header.version == FORMAT_VERSION, Error::<T>::HeaderVersion);
        ensure!(
            header.sequence == account.next_sequence,
            Error::<T>::BatchSequence
        );
        ensure!(header.parent == account.parent, Error::<T>::BatchParent);
        // A batch made at the end of an epoch may enter the chain in the next.
        ensure!(
            header.epoch == epoch || header.epoch.checked_add(1) == Some(epoch),
            Error::<T>::BatchEpoch
        );
        ensure!(!account.open.is_full(), Error::<T>::TooManyBatches);
        Ok(())
    }

    /// Builds the three trees and holds their sums against the header.
    fn roots(
        header: &BatchHeader,
        claims: &[Claim],
        amounts: &[Balance],
        usage: &[Usage],
        credits: &[Credit],
    ) -> Result<BatchRoots, DispatchError> {
        let overflow = Error::<T>::Overflow;
        let roots = BatchRoots {
            claims: claims_root(claims.iter().zip(amounts.iter().copied())).ok_or(overflow)?,
            usage: usage_root(usage.iter()).ok_or(Error::<T>::Overflow)?,
            credits: credits_root(credits.iter()).ok_or(Error::<T>::Overflow)?,
        };
        ensure!(
            roots.claims.sum == header.fee,
            Error::<T>::ClaimsDifferFromFee
        );
        ensure!(
            roots.usage.sum == header.fee,
            Error::<T>::UsageDiffersFromFee
        );
        let count = u64::from(header.count);
        ensure!(
            roots.claims.count == count && roots.usage.count == count,
            Error::<T>::CountsDiffer
        );
        Ok(roots)
    }

    /// Stores lines in pages. Returns how many.
    fn store_lines(
        worker: &T::AccountId,
        sequence: BatchSequence,
        lines: Vec<Line<T::AccountId>>,
    ) -> u32 {
        let mut pages = 0u32;
        for chunk in lines.chunks(PAGE as usize) {
            let page = Page::truncate_from(chunk.to_vec());
            Pages::<T>::insert((worker, sequence, pages), page);
            pages = pages.saturating_add(1);
        }
        pages
    }

    /// The next batch that `worker` may submit, and the hash that it names as its parent.
    pub fn next_batch(worker: &T::AccountId) -> (BatchSequence, openledger_primitives::Digest) {
        let account = Accounts::<T>::get(worker);
        (account.next_sequence, account.parent)
    }
}

/// The account as the 32 bytes that hashes of batches cover; hashed where it is not of 32 bytes.
fn account_bytes<AccountId: Encode>(who: &AccountId) -> [u8; 32] {
    who.using_encoded(|bytes| bytes.try_into().unwrap_or_else(|_| blake2_256(bytes)))
}

fn add<T: Config>(a: Balance, b: Balance) -> Result<Balance, Error<T>> {
    a.checked_add(b).ok_or(Error::Overflow)
}
