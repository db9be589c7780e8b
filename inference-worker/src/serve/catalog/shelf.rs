//! What is loaded when it is asked for, once however many ask, up to a bound of bytes.

use openledger_primitives::Digest;
use openledger_store::Ledger;
use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Things by digest. What somebody holds stays, and is all that may exceed the bound; of the rest what
/// was used longest ago gives way.
pub(super) struct Shelf<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    ledger: Ledger,
    slots: HashMap<Digest, Arc<Slot<T>>>,
}

/// Locked while its thing is loaded.
struct Slot<T>(Mutex<Option<Arc<T>>>);

/// A thing in use.
pub(super) struct Held<T> {
    shelf: Arc<Shelf<T>>,
    key: Digest,
    serial: u64,
    thing: Arc<T>,
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let mut state = self.shelf.state();
        state.ledger.release(&self.key, self.serial);
        let gone = state.trim();
        drop(state);
        drop(gone);
    }
}

impl<T> State<T> {
    /// Takes out what is too much, for the caller to drop when nobody waits for it.
    fn trim(&mut self) -> Vec<Arc<Slot<T>>> {
        let mut gone = Vec::new();
        while let Some(key) = self.ledger.excess() {
            self.ledger.forget(&key);
            gone.extend(self.slots.remove(&key));
        }
        if !gone.is_empty() {
            metrics::counter!("openledger_sources_evictions_total").increment(gone.len() as u64);
        }
        metrics::gauge!("openledger_sources_bytes").set(self.ledger.bytes() as f64);
        gone
    }
}

impl<T> Shelf<T> {
    /// An empty shelf of at most `bound` bytes beside what is in use.
    pub(super) fn new(bound: u64) -> Self {
        Shelf {
            state: Mutex::new(State {
                ledger: Ledger::new(bound),
                slots: HashMap::new(),
            }),
        }
    }

    /// The thing of a digest; `load` gives it and its bytes when it is not here.
    ///
    /// # Errors
    /// Those of `load`; the next who asks tries again.
    pub(super) fn get<E>(
        self: &Arc<Self>,
        key: &Digest,
        load: impl FnOnce() -> Result<(T, u64), E>,
    ) -> Result<Held<T>, E> {
        loop {
            let slot = {
                let mut state = self.state();
                let empty = || Arc::new(Slot(Mutex::new(None)));
                Arc::clone(state.slots.entry(*key).or_insert_with(empty))
            };
            let mut thing = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
            let held = |serial, thing: &Arc<T>| Held {
                shelf: Arc::clone(self),
                key: *key,
                serial,
                thing: Arc::clone(thing),
            };
            if let Some(thing) = &*thing {
                let serial = self.state().ledger.acquire(key);
                match serial {
                    Some(serial) => return Ok(held(serial, thing)),
                    // It gave way a moment ago, and this slot with it.
                    None => continue,
                }
            }
            let loaded = load();
            let mut state = self.state();
            let (fresh, bytes) = match loaded {
                Ok((fresh, bytes)) => (Arc::new(fresh), bytes),
                Err(error) => {
                    let ours = state
                        .slots
                        .get(key)
                        .is_some_and(|at| Arc::ptr_eq(at, &slot));
                    if ours {
                        state.slots.remove(key);
                    }
                    return Err(error);
                }
            };
            metrics::counter!("openledger_sources_loads_total").increment(1);
            *thing = Some(Arc::clone(&fresh));
            // A failure of another who waited here may have taken the slot away.
            state.slots.insert(*key, Arc::clone(&slot));
            state.ledger.found(*key, bytes);
            // It was entered just now, under the same lock.
            let serial = state.ledger.acquire(key).unwrap_or_default();
            let gone = state.trim();
            drop(state);
            drop(gone);
            return Ok(held(serial, &fresh));
        }
    }

    /// Bytes and number of all that is here.
    #[cfg(test)]
    pub(super) fn usage(&self) -> (u64, usize) {
        let state = self.state();
        (state.ledger.bytes(), state.ledger.objects())
    }

    /// No change below can panic half-way.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering},
    };

    type Never = std::convert::Infallible;

    fn key(name: u8) -> Digest {
        [name; 32]
    }

    #[test]
    fn however_many_ask_at_once_a_thing_should_be_loaded_once() {
        let (shelf, loads) = (Arc::new(Shelf::new(10)), AtomicUsize::new(0));
        let load = || -> Result<_, Never> {
            std::thread::yield_now();
            loads.fetch_add(1, Ordering::SeqCst);
            Ok(("thing", 3))
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(*shelf.get(&key(1), load).unwrap(), "thing"));
            }
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_load_that_fails_should_be_tried_again_by_the_next() {
        let shelf = Arc::new(Shelf::<u8>::new(10));
        assert_eq!(shelf.get(&key(1), || Err("no")).err(), Some("no"));
        assert_eq!(shelf.usage(), (0, 0));
        assert_eq!(*shelf.get(&key(1), || Ok::<_, &str>((5, 1))).unwrap(), 5);
    }

    proptest! {
        #[test]
        fn what_is_held_should_stay_and_the_rest_keep_the_bound(
            steps in prop::collection::vec((0u8..6, 0u64..8, any::<bool>()), 1..80),
        ) {
            const BOUND: u64 = 12;
            let shelf = Arc::new(Shelf::new(BOUND));
            let mut held: Vec<(u8, Held<u64>)> = Vec::new();
            for (name, bytes, hold) in steps {
                let loaded = Cell::new(false);
                let thing = shelf.get(&key(name), || {
                    loaded.set(true);
                    Ok::<_, Never>((bytes, bytes))
                }).unwrap();
                let known = held.iter().find(|(other, _)| *other == name);
                prop_assert!(known.is_none_or(|(_, other)| !loaded.get() && **other == *thing));
                if hold {
                    held.push((name, thing));
                } else {
                    drop(thing);
                    held.pop();
                }
                let mut names: Vec<_> = held.iter().map(|(name, thing)| (*name, **thing)).collect();
                names.sort_unstable();
                names.dedup();
                let in_use: u64 = names.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(shelf.usage().0 <= in_use.max(BOUND));
                prop_assert!(shelf.usage().0 >= in_use);
            }
            drop(held);
            prop_assert!(shelf.usage().0 <= BOUND);
        }
    }
}
