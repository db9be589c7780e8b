//! What is to be done when: batches wait here for the end of their window, then of their liability,
//! and are worked off with what blocks leave over.

use crate::{Agenda, Batch, BatchState, Batches, Config, Due, Event, Pallet, WeightInfo};
use frame_support::{
    storage::with_storage_layer,
    weights::{Weight, WeightMeter},
};
use openledger_primitives::{batch::PAGE, BatchSequence, BlockNumber};
use sp_runtime::DispatchError;

/// Blocks until a step that failed is tried again.
const RETRY: BlockNumber = 100;

impl<T: Config> Pallet<T> {
    /// Enters a batch under its `due`.
    pub(crate) fn enter(worker: &T::AccountId, sequence: BatchSequence, batch: &Batch) {
        Agenda::<T>::insert(Due::from(batch.due), (worker, sequence), ());
    }

    /// Strikes a batch from under its `due`.
    pub(crate) fn strike(worker: &T::AccountId, sequence: BatchSequence, batch: &Batch) {
        Agenda::<T>::remove(Due::from(batch.due), (worker, sequence));
    }

    /// Takes steps that are due while `remaining` lasts. Returns what was used.
    pub(crate) fn work_off(remaining: Weight) -> Weight {
        let mut meter = WeightMeter::with_limit(remaining);
        while meter.try_consume(T::WeightInfo::next_due()).is_ok() {
            let Some((due, (worker, sequence))) = Self::next_due() else {
                break;
            };
            // Begun only with room for the most that a step can take; charged for what it took.
            let worst = T::WeightInfo::settle_page(PAGE).max(T::WeightInfo::release_liability(1));
            if !meter.can_consume(worst) {
                break;
            }
            match with_storage_layer(|| Self::step(&worker, sequence)) {
                Ok(used) => meter.consume(used),
                Err(error) => {
                    meter.consume(worst);
                    Self::postpone(due, &worker, sequence, error);
                }
            }
        }
        meter.consumed()
    }

    /// The first batch for which something is due: keys ascend by block, so it is the first key.
    pub(crate) fn next_due() -> Option<(Due, (T::AccountId, BatchSequence))> {
        Agenda::<T>::iter_keys()
            .next()
            .filter(|(due, _)| due.block() <= Self::now())
    }

    /// Takes the next step of a batch. Returns what it weighed.
    fn step(worker: &T::AccountId, sequence: BatchSequence) -> Result<Weight, DispatchError> {
        let settled = Batches::<T>::get(worker, sequence)
            .is_some_and(|batch| batch.state == BatchState::Settled);
        if settled {
            Self::release(worker, sequence)?;
            Ok(T::WeightInfo::release_liability(1))
        } else {
            let lines = Self::do_settle_page(worker, sequence)?;
            Ok(T::WeightInfo::settle_page(lines))
        }
    }

    /// Puts off a batch whose step fails, so that it does not hold up those behind it. An entry
    /// without a batch is struck.
    fn postpone(
        entered: Due,
        worker: &T::AccountId,
        sequence: BatchSequence,
        error: DispatchError,
    ) {
        Agenda::<T>::remove(entered, (worker, sequence));
        let Some(mut batch) = Batches::<T>::get(worker, sequence) else {
            return;
        };
        batch.due = Self::now().saturating_add(RETRY);
        Self::enter(worker, sequence, &batch);
        Self::deposit_event(Event::BatchPostponed {
            worker: worker.clone(),
            sequence,
            due: batch.due,
            error,
        });
        Batches::<T>::insert(worker, sequence, batch);
    }
}
