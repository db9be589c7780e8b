//! Fees that requests in flight may still charge.
//!
//! Deposit and bond are read from the chain, which knows of nothing before its batch. What was
//! promised and not yet journaled has to be kept back here, or two requests at once would spend the
//! same planck.

use openledger_primitives::{Balance, ChannelId, PublicKey};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Who promised: a channel, by one of its signers.
type Purse = (ChannelId, PublicKey);

/// Promised fees by channel and signer.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    promised: Arc<Mutex<HashMap<Purse, Balance>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is promised, planck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// On vouchers of one signer of the channel.
    pub signer: Balance,
    /// On the channel.
    pub channel: Balance,
    /// On all channels.
    pub all: Balance,
}

/// One request's promise; dropping it gives the amount free.
#[derive(Debug)]
pub struct Promise {
    promises: Promises,
    purse: Purse,
    amount: Balance,
}

impl Promises {
    /// Holds off everybody else who reads what is outstanding in order to promise.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// What is promised by a signer, on its channel, and in all.
    pub fn outstanding(&self, channel: ChannelId, signer: PublicKey) -> Outstanding {
        let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Outstanding::default();
        for (purse, amount) in promised.iter() {
            sum.all = sum.all.saturating_add(*amount);
            if purse.0 == channel {
                sum.channel = sum.channel.saturating_add(*amount);
            }
            if *purse == (channel, signer) {
                sum.signer = sum.signer.saturating_add(*amount);
            }
        }
        sum
    }

    /// Keeps `amount` back until the promise is dropped.
    pub fn make(&self, channel: ChannelId, signer: PublicKey, amount: Balance) -> Promise {
        let purse = (channel, signer);
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = promised.entry(purse).or_default();
        *entry = entry.saturating_add(amount);
        Promise {
            promises: self.clone(),
            purse,
            amount,
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut promised = self
            .promises
            .promised
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = promised.get_mut(&self.purse) {
            *entry = entry.saturating_sub(self.amount);
            if *entry == 0 {
                promised.remove(&self.purse);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_back_until_it_is_dropped() {
        const KEY: PublicKey = [1; 32];
        const OTHER: PublicKey = [2; 32];
        let promises = Promises::default();
        let outstanding = |channel, signer| {
            let Outstanding {
                signer,
                channel,
                all,
            } = promises.outstanding(channel, signer);
            (signer, channel, all)
        };
        let first = promises.make(7, KEY, 10);
        let same_channel = promises.make(7, OTHER, 3);
        let second = promises.make(8, KEY, 5);
        assert_eq!(outstanding(7, KEY), (10, 13, 18));
        drop(same_channel);
        drop(first);
        assert_eq!(outstanding(7, KEY), (0, 0, 5));
        drop(second);
        assert_eq!(outstanding(8, KEY), (0, 0, 0));
    }
}
