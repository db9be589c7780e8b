//! The adapters that can be asked for, by digest, and the names that point at them.
//!
//! A name is an alias, moved by compare-and-swap. A request holds a lease from the moment it is
//! accepted: whatever is unloaded or renamed meanwhile, it ends with the adapter it began with.

use super::source::Origin;
use super::AdapterId;
use crate::error::AdapterError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An adapter that can be asked for.
pub struct Registered {
    /// Digest of its configuration and weights.
    pub id: AdapterId,
    /// Where it can be had.
    pub origin: Origin,
}

impl Registered {
    /// Bytes that it takes in host memory for good.
    fn held_bytes(&self) -> usize {
        match &self.origin {
            Origin::Held(image) => image.table().bytes(),
            Origin::Source(_) => 0,
        }
    }
}

/// All adapters that can be asked for.
pub struct Registry {
    /// Bytes for adapters that are held in host memory.
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<AdapterId, Arc<Registered>>,
    aliases: HashMap<String, AdapterId>,
    held: usize,
}

impl Registry {
    /// An empty registry that holds at most `capacity` bytes of adapters without a source.
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

    /// Makes an adapter known. The same adapter again changes nothing.
    ///
    /// # Errors
    /// [`AdapterError::PoolFull`] when it is to be held and its bytes do not fit.
    pub fn insert(&self, id: AdapterId, origin: Origin) -> Result<(), AdapterError> {
        let entry = Registered { id, origin };
        let mut state = self.state();
        if state.entries.contains_key(&id) {
            return Ok(());
        }
        let (needed, free) = (entry.held_bytes(), self.capacity - state.held);
        if needed > free {
            return Err(AdapterError::PoolFull { needed, free });
        }
        state.held += needed;
        state.entries.insert(id, Arc::new(entry));
        Ok(())
    }

    /// Forgets an adapter; new requests for it are refused, accepted ones keep their lease. Its aliases
    /// go with it. `false` when it was not there.
    pub(crate) fn remove(&self, id: AdapterId) -> bool {
        let mut state = self.state();
        let Some(entry) = state.entries.remove(&id) else {
            return false;
        };
        state.held -= entry.held_bytes();
        state.aliases.retain(|_, target| *target != id);
        true
    }

    /// Points a name at `new`, if it now points at `expected` (`None`: if there is no such name).
    ///
    /// # Errors
    /// [`AdapterError::AliasChanged`] when it points elsewhere, [`AdapterError::Unknown`] when `new` is
    /// not registered; the name stays as it was.
    pub fn swap_alias(
        &self,
        name: &str,
        expected: Option<AdapterId>,
        new: AdapterId,
    ) -> Result<(), AdapterError> {
        let mut state = self.state();
        if !state.entries.contains_key(&new) {
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

    /// The adapter, which can be had while the lease lives.
    pub fn lease(&self, id: AdapterId) -> Option<Arc<Registered>> {
        self.state().entries.get(&id).cloned()
    }

    /// Number of adapters, and bytes of those held.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state();
        (state.entries.len(), state.held)
    }
}
