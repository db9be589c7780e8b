//! Closing channels: with a delay in which work already done is claimed.

use crate::{ChannelState, Channels, Config, Error, Event, Lanes, Pallet};
use frame_support::{dispatch::DispatchResult, ensure};
use openledger_primitives::{ChannelId, LaneIndex};
use openledger_traits::Parameters;
use sp_runtime::DispatchError;

impl<T: Config> Pallet<T> {
    pub(crate) fn do_close_channel(consumer: &T::AccountId, id: ChannelId) -> DispatchResult {
        let claim_until = Self::now().saturating_add(T::Parameters::settlement().close_delay);
        Self::change_open(consumer, id, |channel| {
            channel.state = ChannelState::Closing { claim_until };
            Self::deposit_event(Event::ChannelClosing {
                channel: id,
                claim_until,
            });
            Ok(())
        })
    }

    /// Removes the channel and its lanes. Returns how many lanes there were.
    pub(crate) fn do_finish_close(id: ChannelId) -> Result<LaneIndex, DispatchError> {
        let channel = Channels::<T>::take(id).ok_or(Error::<T>::UnknownChannel)?;
        let ChannelState::Closing { claim_until } = channel.state else {
            return Err(Error::<T>::ChannelIsOpen.into());
        };
        ensure!(Self::now() > claim_until, Error::<T>::ClaimsOpen);
        for lane in 0..channel.lanes {
            Lanes::<T>::remove(id, lane);
        }
        Self::free(&channel.consumer, channel.held())?;
        Self::deposit_event(Event::ChannelClosed {
            channel: id,
            returned: channel.held(),
        });
        Ok(channel.lanes)
    }
}
