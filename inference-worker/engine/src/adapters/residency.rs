//! Which adapters are on the device, and what is done to bring the next ones.
//!
//! Lives on the engine's thread. Requests near the head of the queue have their adapters read and copied
//! ahead of their turn; room is made by [`crate::memory`].

use super::host::HostCache;
use super::image::AdapterImage;
use super::loader::{Copied, Fetched, Loader, Near};
use super::registry::Registered;
use super::slab::DeviceAdapter;
use super::source::Origin;
use super::AdapterId;
use crate::backend::Backend;
use crate::error::StepError;
use crate::scheduler::{Gate, Scheduler};
use crate::stats::TierCounts;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What became of asking for an adapter.
pub(crate) enum Wanted {
    /// It has a slab.
    Present,
    /// It is being read, or waits for its turn to be.
    Coming,
    /// It waits for room on the device.
    NoRoom,
    /// It cannot be served.
    Never(StepError),
}

/// What may be done to make room for an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Others give way, but for `ahead`: the first adapter that is here of those needed sooner.
    Make { ahead: Option<AdapterId> },
    /// Only what is free is taken.
    Free,
    /// None is taken: the adapter is only read.
    None,
}

/// Adapters on their way to the device and on it.
pub(crate) struct Residency {
    host: Arc<HostCache>,
    loader: Loader,
    page_bytes: usize,
    /// Pages that an adapter may take: what one full context leaves.
    most_pages: usize,
    /// Adapters that are read at a time.
    most_reads: usize,
    device: HashMap<AdapterId, Arc<DeviceAdapter>>,
    /// Their files are on their way; no thread waits for them.
    coming: HashSet<AdapterId>,
    /// Their files can be read, and took so long to come.
    near: HashMap<AdapterId, Duration>,
    reading: HashSet<AdapterId>,
    /// Read, with the time it took, and not yet on the device.
    read: HashMap<AdapterId, (Arc<AdapterImage>, u64)>,
    /// Waits for room, as of the latest round.
    no_room: HashSet<AdapterId>,
    /// Nanoseconds to copy a byte, as last seen.
    copy_cost: f64,
    counts: TierCounts,
}

impl Residency {
    pub fn new(
        host: Arc<HostCache>,
        loader: Loader,
        page_bytes: usize,
        most_pages: usize,
        most_reads: usize,
    ) -> Self {
        Self {
            host,
            loader,
            page_bytes,
            most_pages,
            most_reads,
            device: HashMap::new(),
            coming: HashSet::new(),
            near: HashMap::new(),
            reading: HashSet::new(),
            read: HashMap::new(),
            no_room: HashSet::new(),
            copy_cost: 0.1,
            counts: TierCounts::default(),
        }
    }

    /// The adapter on the device.
    pub fn get(&self, id: AdapterId) -> Option<&Arc<DeviceAdapter>> {
        self.device.get(&id)
    }

    /// Whether a request with this adapter may begin.
    pub fn gate(&self, id: AdapterId) -> Gate {
        match self.device.get(&id) {
            Some(adapter) if adapter.may_begin() => Gate::Open,
            None if self.no_room.contains(&id) => Gate::Full,
            _ => Gate::Loading,
        }
    }

    /// Begins a round of [`Self::want`]: what was read for nobody any more is let go.
    pub fn begin_round(&mut self, upcoming: &HashSet<AdapterId>) {
        self.no_room.clear();
        self.read.retain(|id, _| upcoming.contains(id));
        self.near.retain(|id, _| upcoming.contains(id));
    }

    /// Brings an adapter to the device, or a step nearer to it.
    pub fn want(
        &mut self,
        adapter: &Arc<Registered>,
        room: Room,
        scheduler: &mut Scheduler,
        backend: &mut dyn Backend,
    ) -> Result<Wanted, StepError> {
        let id = adapter.id;
        if self.device.contains_key(&id) {
            return Ok(Wanted::Present);
        }
        let Some((image, cost)) = self.image(adapter) else {
            self.approach(adapter);
            return Ok(Wanted::Coming);
        };
        let bytes = image.table().bytes();
        let pages = bytes.div_ceil(self.page_bytes).max(1);
        let most = self.most_pages - scheduler.memory().pinned_pages().min(self.most_pages);
        if pages > most {
            return Ok(Wanted::Never(StepError::Adapter(format!(
                "it takes {bytes} bytes on the device, which has {} for it beside what is pinned",
                most * self.page_bytes
            ))));
        }
        let cost = cost + (self.copy_cost * bytes as f64) as u64;
        let pages = pages as u32;
        let reserved = match room {
            Room::None => return Ok(Wanted::Coming),
            Room::Free => scheduler.reserve_free(id, pages, cost),
            Room::Make { ahead } => scheduler.reserve(id, pages, cost, ahead),
        };
        let Some(reserved) = reserved else {
            self.no_room.insert(id);
            return Ok(Wanted::NoRoom);
        };
        self.forget_evicted(scheduler);
        for (from, to) in reserved.moves {
            if let Err(error) = backend.move_page(from, to) {
                scheduler.memory_mut().copied(id);
                scheduler.memory_mut().drop_slab(id);
                return Err(error);
            }
        }
        let device = Arc::new(DeviceAdapter::new(
            Arc::clone(image.table()),
            reserved.pages,
        ));
        self.device.insert(id, Arc::clone(&device));
        self.read.remove(&id);
        self.loader.copy(image, device);
        Ok(Wanted::Present)
    }

    /// Has an adapter's files brought, and then read.
    fn approach(&mut self, adapter: &Arc<Registered>) {
        let id = adapter.id;
        if self.reading.contains(&id) || self.coming.contains(&id) {
            return;
        }
        match self.near.get(&id).copied() {
            Some(waited) if self.reading.len() < self.most_reads => {
                self.near.remove(&id);
                self.reading.insert(id);
                self.loader.fetch(Arc::clone(adapter), waited);
            }
            Some(_) => {}
            None => {
                self.coming.insert(id);
                self.loader.bring(adapter);
            }
        }
    }

    /// Takes note that an adapter's files are there. The error is for those who wait for it.
    pub fn brought(&mut self, near: Near) -> Result<(), (AdapterId, StepError)> {
        let Near { id, result } = near;
        self.coming.remove(&id);
        match result {
            Ok(waited) => {
                self.near.insert(id, waited);
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(adapter = %id, reason, "the adapter's files did not come");
                self.counts.failures += 1;
                Err((id, StepError::Adapter(reason)))
            }
        }
    }

    /// Pages that an adapter takes, if it is at hand.
    pub fn pages(&mut self, adapter: &Registered) -> Option<usize> {
        let bytes = match self.device.get(&adapter.id) {
            Some(device) => device.table.bytes(),
            None => self.image(adapter)?.0.table().bytes(),
        };
        Some(bytes.div_ceil(self.page_bytes).max(1))
    }

    /// The adapter in host memory, and the nanoseconds that it took to read, nothing for what is held.
    fn image(&mut self, adapter: &Registered) -> Option<(Arc<AdapterImage>, u64)> {
        if let Some((image, cost)) = self.read.get(&adapter.id) {
            return Some((Arc::clone(image), *cost));
        }
        if let Origin::Held(image) = &adapter.origin {
            return Some((Arc::clone(image), 0));
        }
        let image = self.host.get(adapter.id)?;
        self.counts.host_hits += 1;
        // Counted once: until it is on the device, or nobody asks for it, it is at hand.
        self.read.insert(adapter.id, (Arc::clone(&image), 0));
        Some((image, 0))
    }

    /// Takes note that an adapter was read. The error is for those who wait for it.
    pub fn fetched(&mut self, fetched: Fetched) -> Result<(), (AdapterId, StepError)> {
        let Fetched {
            id,
            image,
            tier,
            took,
        } = fetched;
        self.reading.remove(&id);
        match image {
            Ok(image) => {
                let nanoseconds = nanos(took);
                self.counts.record_read(tier, took);
                // What can never be served pushes nobody out.
                if image.table().bytes() <= self.most_pages * self.page_bytes {
                    self.host.insert(&image, nanoseconds);
                }
                self.read.insert(id, (image, nanoseconds));
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(adapter = %id, reason, "the adapter cannot be loaded");
                self.counts.failures += 1;
                Err((id, StepError::Adapter(reason)))
            }
        }
    }

    /// Takes note that an adapter was copied. The error is for those who use it or wait for it.
    pub fn copied(
        &mut self,
        copied: Copied,
        scheduler: &mut Scheduler,
    ) -> Result<(), (AdapterId, StepError)> {
        let Copied { id, result, took } = copied;
        scheduler.memory_mut().copied(id);
        if let Some(device) = self.device.get(&id) {
            let bytes = device.table.bytes().max(1);
            self.copy_cost = nanos(took) as f64 / bytes as f64;
        }
        self.counts.record_copy(took);
        result.map_err(|error| (id, error))
    }

    /// Drops an adapter that is registered no more, unless somebody still uses or awaits it.
    pub fn tidy(&mut self, id: AdapterId, scheduler: &mut Scheduler) {
        self.host.remove(id);
        self.read.remove(&id);
        if scheduler.memory_mut().drop_slab(id) {
            self.forget_evicted(scheduler);
        }
    }

    /// Forgets what gave way.
    pub fn forget_evicted(&mut self, scheduler: &mut Scheduler) {
        for id in scheduler.take_evicted() {
            self.device.remove(&id);
            self.counts.device_evictions += 1;
        }
    }

    /// Adapters on the device, and the bytes of their weights.
    pub fn usage(&self) -> (usize, usize) {
        let bytes = self.device.values().map(|d| d.table.bytes()).sum();
        (self.device.len(), bytes)
    }

    /// Adapters in host memory, the bytes of their weights, and how many gave way there.
    pub fn host_usage(&self) -> (usize, usize, u64) {
        self.host.usage()
    }

    /// What was read, copied and dropped so far.
    pub fn counts(&mut self) -> &mut TierCounts {
        &mut self.counts
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
