//! Fees that requests in flight may still charge.
//!
//! Deposit and bond are read from the chain, which knows of nothing before its batch. What was
//! promised and not yet journaled has to be kept back here, or two requests at once would spend the
//! same planck.

use openledger_primitives::{Balance, ChannelId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Promised fees by channel.
#[derive(Clone, Debug, Default)]
pub struct Promises(Arc<Mutex<HashMap<ChannelId, Balance>>>);

/// One request's promise; dropping it gives the amount free.
#[derive(Debug)]
pub struct Promise {
    promises: Promises,
    channel: ChannelId,
    amount: Balance,
}

impl Promises {
    /// Promised on a channel and in all, planck.
    pub fn outstanding(&self, channel: ChannelId) -> (Balance, Balance) {
        let promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = promised
            .values()
            .fold(0, |sum: Balance, amount| sum.saturating_add(*amount));
        (promised.get(&channel).copied().unwrap_or(0), all)
    }

    /// Keeps `amount` back until the promise is dropped.
    pub fn make(&self, channel: ChannelId, amount: Balance) -> Promise {
        let mut promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = promised.entry(channel).or_default();
        *entry = entry.saturating_add(amount);
        Promise {
            promises: self.clone(),
            channel,
            amount,
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut promised = self
            .promises
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = promised.get_mut(&self.channel) {
            *entry = entry.saturating_sub(self.amount);
            if *entry == 0 {
                promised.remove(&self.channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_back_until_it_is_dropped() {
        let promises = Promises::default();
        let first = promises.make(7, 10);
        let second = promises.make(8, 5);
        assert_eq!(promises.outstanding(7), (10, 15));
        drop(first);
        assert_eq!(promises.outstanding(7), (0, 5));
        drop(second);
        assert_eq!(promises.outstanding(8), (0, 0));
    }
}
