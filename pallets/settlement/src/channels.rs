//! Opening channels, and what their consumers put in and take back.

use crate::{
    Channel, ChannelSigner, ChannelState, Channels, Config, Cut, Error, Event, Lane, Lanes,
    NextChannel, Pallet, MAX_LANES,
};
use frame_support::{dispatch::DispatchResult, ensure, BoundedVec};
use openledger_primitives::{voucher::EvidenceClass, Balance, ChannelId, LaneIndex, PublicKey};
use openledger_traits::{Parameters, WorkerRegistry};
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    pub(crate) fn do_open_channel(
        consumer: T::AccountId,
        worker: T::AccountId,
        deposit: Balance,
        lanes: LaneIndex,
        signer: ChannelSigner,
        evidence: EvidenceClass,
    ) -> DispatchResult {
        let offered = T::Workers::evidence(&worker).ok_or(Error::<T>::WorkerInactive)?;
        ensure!(evidence <= offered, Error::<T>::EvidenceAboveOffered);
        ensure!(
            deposit >= T::Parameters::settlement().min_channel_deposit,
            Error::<T>::DepositBelowMinimum
        );
        ensure!(signer.valid_until >= Self::now(), Error::<T>::AlreadyOver);
        let lane_deposits = Self::lane_deposits(0, lanes)?;
        let id = NextChannel::<T>::get();
        NextChannel::<T>::put(id.checked_add(1).ok_or(Error::<T>::Overflow)?);
        let channel = Channel {
            consumer,
            worker,
            deposit,
            escrowed: 0,
            lanes,
            lane_deposits,
            signers: BoundedVec::truncate_from(alloc::vec![signer]),
            evidence,
            cut: None,
            state: ChannelState::Open,
        };
        let held = deposit
            .checked_add(lane_deposits)
            .ok_or(Error::<T>::Overflow)?;
        Self::hold(&channel.consumer, held)?;
        Self::create_lanes(id, 0, lanes, signer.key);
        Self::deposit_event(Event::ChannelOpened {
            channel: id,
            consumer: channel.consumer.clone(),
            worker: channel.worker.clone(),
            deposit,
        });
        Channels::<T>::insert(id, channel);
        Ok(())
    }

    pub(crate) fn do_deposit(
        consumer: &T::AccountId,
        id: ChannelId,
        amount: Balance,
    ) -> DispatchResult {
        Self::change_open(consumer, id, |channel| {
            ensure!(amount > 0, Error::<T>::ZeroAmount);
            channel.deposit = channel
                .deposit
                .checked_add(amount)
                .ok_or(Error::<T>::Overflow)?;
            Self::hold(consumer, amount)?;
            Self::deposit_event(Event::Deposited {
                channel: id,
                amount,
            });
            Ok(())
        })
    }

    pub(crate) fn do_add_lanes(
        consumer: &T::AccountId,
        id: ChannelId,
        lanes: LaneIndex,
    ) -> DispatchResult {
        // Not one that was revoked, or is about to run out: lanes keep their signer.
        let lasting = Self::now().saturating_add(T::Parameters::settlement().revoke_delay);
        Self::change_open(consumer, id, |channel| {
            let added = Self::lane_deposits(channel.lanes, lanes)?;
            let signer = channel
                .signers
                .iter()
                .rev()
                .find(|signer| signer.valid_until > lasting)
                .ok_or(Error::<T>::NoValidSigner)?
                .key;
            Self::hold(consumer, added)?;
            Self::create_lanes(id, channel.lanes, lanes, signer);
            channel.lanes = channel.lanes.saturating_add(lanes);
            channel.lane_deposits = channel
                .lane_deposits
                .checked_add(added)
                .ok_or(Error::<T>::Overflow)?;
            Self::deposit_event(Event::LanesAdded {
                channel: id,
                lanes: channel.lanes,
                signer,
            });
            Ok(())
        })
    }

    pub(crate) fn do_cut_deposit(
        consumer: &T::AccountId,
        id: ChannelId,
        amount: Balance,
    ) -> DispatchResult {
        let effective = Self::now().saturating_add(T::Parameters::settlement().revoke_delay);
        Self::change_open(consumer, id, |channel| {
            ensure!(amount > 0, Error::<T>::ZeroAmount);
            ensure!(channel.cut.is_none(), Error::<T>::CutPending);
            ensure!(amount <= channel.deposit, Error::<T>::CutAboveDeposit);
            channel.cut = Some(Cut { amount, effective });
            Self::deposit_event(Event::DepositCut {
                channel: id,
                amount,
                effective,
            });
            Ok(())
        })
    }

    pub(crate) fn do_finish_cut(id: ChannelId) -> DispatchResult {
        let now = Self::now();
        Channels::<T>::try_mutate(id, |slot| {
            let channel = slot.as_mut().ok_or(Error::<T>::UnknownChannel)?;
            let cut = channel.cut.take().ok_or(Error::<T>::NoCut)?;
            ensure!(now >= cut.effective, Error::<T>::CutNotEffective);
            let amount = cut.amount.min(channel.deposit);
            channel.deposit = channel.deposit.saturating_sub(amount);
            Self::free(&channel.consumer, amount)?;
            Self::deposit_event(Event::CutPaid {
                channel: id,
                amount,
            });
            Ok(())
        })
    }

    /// Changes a channel that `consumer` may change, if `change` succeeds.
    pub(crate) fn change_own(
        consumer: &T::AccountId,
        id: ChannelId,
        change: impl FnOnce(&mut Channel<T::AccountId>) -> DispatchResult,
    ) -> DispatchResult {
        Channels::<T>::try_mutate(id, |slot| {
            let channel = slot.as_mut().ok_or(Error::<T>::UnknownChannel)?;
            ensure!(channel.consumer == *consumer, Error::<T>::NotConsumer);
            change(channel)
        })
    }

    /// [`change_own`](Self::change_own) for what a closing channel refuses.
    pub(crate) fn change_open(
        consumer: &T::AccountId,
        id: ChannelId,
        change: impl FnOnce(&mut Channel<T::AccountId>) -> DispatchResult,
    ) -> DispatchResult {
        Self::change_own(consumer, id, |channel| {
            ensure!(
                channel.state == ChannelState::Open,
                Error::<T>::ChannelIsClosing
            );
            change(channel)
        })
    }

    /// Deposit for `added` lanes on top of `present`.
    fn lane_deposits(present: LaneIndex, added: LaneIndex) -> Result<Balance, DispatchError> {
        let all = present.checked_add(added).unwrap_or(LaneIndex::MAX);
        ensure!(added > 0 && all <= MAX_LANES, Error::<T>::LaneCount);
        Ok(T::Parameters::settlement()
            .lane_deposit
            .checked_mul(added.into())
            .ok_or(Error::<T>::Overflow)?)
    }

    fn create_lanes(channel: ChannelId, first: LaneIndex, count: LaneIndex, signer: PublicKey) {
        for lane in first..first.saturating_add(count) {
            Lanes::<T>::insert(
                channel,
                lane,
                Lane {
                    signer,
                    next_sequence: 1,
                    cumulative: 0,
                },
            );
        }
    }
}
