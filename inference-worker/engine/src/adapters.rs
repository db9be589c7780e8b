//! The adapters in memory, by digest, and the names that point at them.
//!
//! An adapter is known by the digest of its bytes, so one id never means two adapters. A name is an
//! alias, moved by compare-and-swap. A request holds a lease from the moment it is accepted: whatever
//! is unloaded or renamed meanwhile, it ends with the adapter it began with.

use crate::error::AdapterError;
use crate::lora::LoraAdapter;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Digest of an adapter's configuration and weights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub [u8; 32]);

impl fmt::Display for AdapterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AdapterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Adapters in memory within a budget of bytes.
pub struct AdapterPool {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: HashMap<AdapterId, Arc<LoraAdapter>>,
    aliases: HashMap<String, AdapterId>,
    bytes: usize,
}

impl AdapterPool {
    /// An empty pool for at most `capacity` bytes of weights.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
        }
    }

    /// A panic elsewhere leaves the maps whole: each change is one insertion or removal.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an adapter in. Loading the same adapter again changes nothing.
    ///
    /// # Errors
    /// [`AdapterError::PoolFull`] when its bytes do not fit.
    pub fn insert(&self, adapter: LoraAdapter) -> Result<AdapterId, AdapterError> {
        let id = adapter.id();
        let mut state = self.state();
        if !state.loaded.contains_key(&id) {
            let free = self.capacity - state.bytes;
            if adapter.bytes() > free {
                return Err(AdapterError::PoolFull {
                    needed: adapter.bytes(),
                    free,
                });
            }
            state.bytes += adapter.bytes();
            state.loaded.insert(id, Arc::new(adapter));
        }
        Ok(id)
    }

    /// Takes an adapter out; new requests for it are refused, running ones keep their lease. Its
    /// aliases go with it. `false` when it was not there.
    pub fn remove(&self, id: AdapterId) -> bool {
        let mut state = self.state();
        let Some(adapter) = state.loaded.remove(&id) else {
            return false;
        };
        state.bytes -= adapter.bytes();
        state.aliases.retain(|_, target| *target != id);
        true
    }

    /// Points a name at `new`, if it now points at `expected` (`None`: if there is no such name).
    ///
    /// # Errors
    /// [`AdapterError::AliasChanged`] when it points elsewhere, [`AdapterError::Unknown`] when `new` is
    /// not loaded; the name stays as it was.
    pub fn swap_alias(
        &self,
        name: &str,
        expected: Option<AdapterId>,
        new: AdapterId,
    ) -> Result<(), AdapterError> {
        let mut state = self.state();
        if !state.loaded.contains_key(&new) {
            return Err(AdapterError::Unknown(new));
        }
        let current = state.aliases.get(name).copied();
        if current != expected {
            return Err(AdapterError::AliasChanged { current });
        }
        state.aliases.insert(name.to_owned(), new);
        Ok(())
    }

    /// Removes a name; the adapter stays. Answers what it pointed at.
    pub fn remove_alias(&self, name: &str) -> Option<AdapterId> {
        self.state().aliases.remove(name)
    }

    /// What a name points at.
    pub fn resolve(&self, name: &str) -> Option<AdapterId> {
        self.state().aliases.get(name).copied()
    }

    /// All names with what they point at, by name.
    pub fn aliases(&self) -> Vec<(String, AdapterId)> {
        let state = self.state();
        let mut all: Vec<_> = state
            .aliases
            .iter()
            .map(|(n, id)| (n.clone(), *id))
            .collect();
        all.sort();
        all
    }

    /// The adapter, kept in memory while the lease lives.
    pub fn lease(&self, id: AdapterId) -> Option<Arc<LoraAdapter>> {
        self.state().loaded.get(&id).cloned()
    }

    /// Number of adapters and bytes of their weights.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state();
        (state.loaded.len(), state.bytes)
    }
}
