//! The host tier: adapters in memory, in the device's layout, within a budget of bytes.
//!
//! What is least worth gives way, worth being the time to read it again per byte, aged by what has given
//! way since it was last used, as on the device (see [`crate::memory`]). An adapter that somebody is
//! copying stays.

use super::image::AdapterImage;
use super::AdapterId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Adapters in host memory.
pub struct HostCache {
    state: Mutex<State>,
}

struct State {
    capacity: usize,
    bytes: usize,
    clock: f64,
    entries: HashMap<AdapterId, Entry>,
    evictions: u64,
}

struct Entry {
    image: Arc<AdapterImage>,
    /// Nanoseconds to read it again, per byte.
    cost: f64,
    worth: f64,
}

impl HostCache {
    /// An empty cache of at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                capacity,
                bytes: 0,
                clock: 0.0,
                entries: HashMap::new(),
                evictions: 0,
            }),
        }
    }

    /// A panic elsewhere leaves the state whole: nothing below can panic between two changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The adapter, if it is here.
    pub fn get(&self, id: AdapterId) -> Option<Arc<AdapterImage>> {
        let mut state = self.state();
        let clock = state.clock;
        let entry = state.entries.get_mut(&id)?;
        entry.worth = clock + entry.cost;
        Some(Arc::clone(&entry.image))
    }

    /// Takes an adapter in that took `nanoseconds` to read. `false` when there is no room for it, whoever
    /// gave way: then it is not kept, and nobody does.
    pub fn insert(&self, image: &Arc<AdapterImage>, nanoseconds: u64) -> bool {
        let (id, bytes) = (image.table().id(), image.table().bytes());
        let mut state = self.state();
        if state.entries.contains_key(&id) {
            return true;
        }
        let mut idle: Vec<(f64, AdapterId, usize)> = Vec::new();
        if state.bytes + bytes > state.capacity {
            let entries = state.entries.iter();
            let entries = entries.filter(|(_, e)| Arc::strong_count(&e.image) == 1);
            idle.extend(entries.map(|(id, e)| (e.worth, *id, e.image.table().bytes())));
            idle.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let spare: usize = idle.iter().map(|(_, _, bytes)| bytes).sum();
            if state.bytes - spare + bytes > state.capacity {
                return false;
            }
        }
        for (worth, id, freed) in idle {
            if state.bytes + bytes <= state.capacity {
                break;
            }
            state.clock = state.clock.max(worth);
            state.entries.remove(&id);
            state.bytes -= freed;
            state.evictions += 1;
        }
        let cost = nanoseconds as f64 / bytes.max(1) as f64;
        let entry = Entry {
            image: Arc::clone(image),
            cost,
            worth: state.clock + cost,
        };
        state.entries.insert(id, entry);
        state.bytes += bytes;
        true
    }

    /// Drops an adapter.
    pub fn remove(&self, id: AdapterId) {
        let mut state = self.state();
        if let Some(entry) = state.entries.remove(&id) {
            state.bytes -= entry.image.table().bytes();
        }
    }

    /// Number of adapters, their bytes, and how many gave way so far.
    pub fn usage(&self) -> (usize, usize, u64) {
        let state = self.state();
        (state.entries.len(), state.bytes, state.evictions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_model::ModelConfig;

    fn image(config: &ModelConfig, seed: u64) -> Arc<AdapterImage> {
        Arc::new(AdapterImage::random(config, 4, seed))
    }

    #[test]
    fn the_least_worth_should_give_way_and_what_is_in_use_stay() {
        let config = crate::testing::config();
        let images: Vec<_> = (0..5).map(|seed| image(&config, seed)).collect();
        let ids: Vec<_> = images.iter().map(|i| i.table().id()).collect();
        let bytes = images[0].table().bytes();
        let cache = HostCache::new(2 * bytes + bytes / 2);
        let mut images = images.into_iter();
        let mut next = || images.next().expect("five images");
        // Dear to read, used once; then cheap ones.
        assert!(cache.insert(&next(), 1_000 * bytes as u64));
        assert!(cache.insert(&next(), bytes as u64));
        assert!(cache.insert(&next(), bytes as u64));
        assert!(cache.get(ids[0]).is_some() && cache.get(ids[1]).is_none());
        let in_use = cache.get(ids[2]);
        assert!(cache.insert(&next(), bytes as u64));
        assert!(cache.get(ids[0]).is_none(), "the only one that nobody uses");
        assert_eq!(cache.usage(), (2, 2 * bytes, 2));
        let also = cache.get(ids[3]);
        let last = next();
        assert!(!cache.insert(&last, 1), "both are in use");
        assert_eq!(cache.usage(), (2, 2 * bytes, 2));
        drop((in_use, also));
        assert!(cache.insert(&last, 1));
        cache.remove(ids[4]);
        assert_eq!(cache.usage().1, bytes);
    }
}
