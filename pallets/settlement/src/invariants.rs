//! What must always hold; the numbers are those of the README.

use crate::{
    Accounts, Agenda, BatchState, Batches, Channels, Config, Due, HoldReason, Lanes, NextChannel,
    Pages, Pallet, MAX_LANES,
};
use alloc::{collections::BTreeMap, vec::Vec};
use frame_support::{
    ensure,
    traits::fungible::{Inspect, InspectHold},
};
use openledger_primitives::Balance;
use openledger_traits::BondLedger;
use parity_scale_codec::Encode;
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    /// Checks every invariant of the pallet; the error names the one that is broken.
    pub fn do_try_state() -> Result<(), DispatchError>
    where
        T::Currency: InspectHold<T::AccountId, Reason = T::RuntimeHoldReason>,
    {
        Self::try_channels()?;
        Self::try_lanes()?;
        Self::try_escrow()?;
        Self::try_accounts()?;
        Self::try_agenda()
    }

    fn try_channels() -> Result<(), DispatchError> {
        let mut held = BTreeMap::<Vec<u8>, (T::AccountId, Balance)>::new();
        for (id, channel) in Channels::<T>::iter() {
            ensure!(
                id < NextChannel::<T>::get(),
                "4: no channel has an identifier not yet given"
            );
            let sum = held
                .entry(channel.consumer.encode())
                .or_insert((channel.consumer.clone(), 0));
            sum.1 = sum.1.saturating_add(channel.held());
        }
        for (consumer, sum) in held.values() {
            ensure!(
                T::Currency::balance_on_hold(&HoldReason::Channel.into(), consumer) == *sum,
                "1: a consumer's hold is exactly what its channels hold"
            );
        }
        Ok(())
    }

    fn try_lanes() -> Result<(), DispatchError> {
        for (id, channel) in Channels::<T>::iter() {
            let (mut lanes, mut charged) = (0u32, 0u128);
            for (index, lane) in Lanes::<T>::iter_prefix(id) {
                ensure!(
                    index < channel.lanes && lane.next_sequence > 0,
                    "2: a channel has the lanes below its count and no others"
                );
                lanes = lanes.saturating_add(1);
                charged = charged.saturating_add(lane.cumulative);
            }
            ensure!(
                lanes == u32::from(channel.lanes) && (1..=MAX_LANES).contains(&channel.lanes),
                "2: a channel has the lanes below its count and no others"
            );
            ensure!(
                charged == channel.escrowed,
                "3: what a channel's lanes charged is what it paid"
            );
            for signer in &channel.signers {
                ensure!(
                    signer.spent <= signer.limit && signer.spent <= channel.escrowed,
                    "5: no signer spent more than its limit"
                );
            }
        }
        for (id, _) in Lanes::<T>::iter_keys() {
            ensure!(
                Channels::<T>::contains_key(id),
                "2: a channel has the lanes below its count and no others"
            );
        }
        Ok(())
    }

    fn try_escrow() -> Result<(), DispatchError> {
        let mut escrowed: Balance = 0;
        for (worker, sequence, batch) in Batches::<T>::iter() {
            let mut waiting: Balance = 0;
            for (page, lines) in Pages::<T>::iter_prefix((&worker, sequence)) {
                ensure!(
                    page >= batch.cursor && page < batch.pages,
                    "7: pages wait that are not settled, and no others"
                );
                waiting = lines
                    .iter()
                    .fold(waiting, |sum, line| sum.saturating_add(line.amount()));
            }
            ensure!(
                waiting == batch.escrowed,
                "6: a batch has in escrow what its waiting lines will pay"
            );
            ensure!(
                (batch.state == BatchState::Settled) == (batch.cursor == batch.pages),
                "7: pages wait that are not settled, and no others"
            );
            escrowed = escrowed.saturating_add(batch.escrowed);
        }
        for (worker, sequence, _) in Pages::<T>::iter_keys() {
            ensure!(
                Batches::<T>::contains_key(&worker, sequence),
                "7: pages wait that are not settled, and no others"
            );
        }
        let needed = escrowed.saturating_add(T::Currency::minimum_balance());
        ensure!(
            T::Currency::balance(&Self::escrow()) >= needed,
            "8: escrow holds the least balance and what every batch has in it"
        );
        Ok(())
    }

    fn try_accounts() -> Result<(), DispatchError> {
        for (worker, account) in Accounts::<T>::iter() {
            let (mut window, mut liability, mut reserved) = (0u128, 0u128, 0u128);
            let mut open = Vec::new();
            for (sequence, batch) in Batches::<T>::iter_prefix(&worker) {
                if batch.state != BatchState::Settled {
                    window = window.saturating_add(batch.fee);
                }
                liability = liability.saturating_add(batch.fee);
                reserved = reserved.saturating_add(batch.reserved);
                open.push(sequence);
            }
            open.sort_unstable();
            ensure!(
                account.window_fees == window && account.liability_fees == liability,
                "9: an account sums the fees of its batches"
            );
            ensure!(
                account.open.as_slice() == open.as_slice()
                    && open.iter().all(|open| *open < account.next_sequence),
                "10: an account lists its batches in their order"
            );
            ensure!(
                T::Bonds::reserved(&worker) >= reserved,
                "11: the bond has reserved what batches need"
            );
        }
        Ok(())
    }

    fn try_agenda() -> Result<(), DispatchError> {
        for (worker, sequence, batch) in Batches::<T>::iter() {
            ensure!(
                Accounts::<T>::contains_key(&worker)
                    && Agenda::<T>::contains_key(Due::from(batch.due), (worker, sequence)),
                "12: each batch stands in the agenda once"
            );
        }
        ensure!(
            Agenda::<T>::iter_keys().count() == Batches::<T>::iter_keys().count(),
            "12: each batch stands in the agenda once"
        );
        Ok(())
    }
}
