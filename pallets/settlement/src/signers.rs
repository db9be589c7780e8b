//! Keys that sign a channel's vouchers.

use crate::{ChannelSigner, Config, Error, Event, Pallet};
use frame_support::{dispatch::DispatchResult, ensure};
use openledger_primitives::{ChannelId, PublicKey};
use openledger_traits::Parameters;

impl<T: Config> Pallet<T> {
    pub(crate) fn do_add_signer(
        consumer: &T::AccountId,
        id: ChannelId,
        signer: ChannelSigner,
    ) -> DispatchResult {
        let now = Self::now();
        Self::change_open(consumer, id, |channel| {
            ensure!(signer.valid_until >= now, Error::<T>::AlreadyOver);
            ensure!(
                channel.signers.iter().all(|known| known.key != signer.key),
                Error::<T>::SignerExists
            );
            if channel.signers.is_full() {
                channel.signers.retain(|known| known.valid_until >= now);
            }
            channel
                .signers
                .try_push(signer)
                .map_err(|_| Error::<T>::TooManySigners)?;
            Self::deposit_event(Event::SignerAdded {
                channel: id,
                key: signer.key,
                limit: signer.limit,
                valid_until: signer.valid_until,
            });
            Ok(())
        })
    }

    pub(crate) fn do_revoke_signer(
        consumer: &T::AccountId,
        id: ChannelId,
        key: &PublicKey,
    ) -> DispatchResult {
        let revoked_from = Self::now().saturating_add(T::Parameters::settlement().revoke_delay);
        Self::change_own(consumer, id, |channel| {
            let signer = channel
                .signers
                .iter_mut()
                .find(|signer| signer.key == *key)
                .ok_or(Error::<T>::UnknownSigner)?;
            signer.valid_until = signer.valid_until.min(revoked_from);
            Self::deposit_event(Event::SignerRevoked {
                channel: id,
                key: signer.key,
                valid_until: signer.valid_until,
            });
            Ok(())
        })
    }
}
