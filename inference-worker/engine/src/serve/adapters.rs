//! Bringing adapters to the device for those who are next, and keeping the pinned ones there.

use super::{Core, LOOKAHEAD};
use crate::adapters::registry::Registered;
use crate::adapters::residency::{Room, Wanted};
use crate::adapters::AdapterId;
use crate::error::AdapterError;
use crate::scheduler::SequenceId;
use std::collections::HashSet;
use std::sync::Arc;

impl Core {
    /// Brings the adapters of those who are next, in their order; then those that are to be pinned.
    pub(super) fn bring_adapters(&mut self) {
        let upcoming = self.scheduler.upcoming(LOOKAHEAD);
        let mut wanted: Vec<(Option<SequenceId>, Arc<Registered>)> = Vec::new();
        for (id, _) in upcoming {
            let live = self.live.get(&id);
            if let Some(adapter) = live.and_then(|l| l.submission.adapter.as_ref()) {
                wanted.push((Some(id), Arc::clone(adapter)));
            }
        }
        for pinning in &self.pinnings {
            wanted.push((None, Arc::clone(&pinning.adapter)));
        }
        let prefetches = self.prefetches.iter().take(LOOKAHEAD);
        let all = wanted.iter().map(|(_, a)| a).chain(prefetches);
        let ids: HashSet<AdapterId> = all.map(|a| a.id).collect();
        self.residency.begin_round(&ids);
        let mut ahead = None;
        // Once somebody waits for room nobody behind takes it; adapters are still read ahead.
        let mut full = false;
        for (id, adapter) in wanted {
            if id.is_none() && self.refuse_large_pin(&adapter) {
                continue;
            }
            let room = if full {
                Room::None
            } else {
                Room::Make { ahead }
            };
            let here = self.residency.get(adapter.id).is_some();
            let (scheduler, backend) = (&mut self.scheduler, &mut *self.backend);
            let found = self.residency.want(&adapter, room, scheduler, backend);
            if let (false, Some(live)) = (here, id.and_then(|id| self.live.get_mut(&id))) {
                live.waited = true;
            }
            match found {
                Ok(Wanted::Present) => {
                    ahead = ahead.or(Some(adapter.id));
                    if let Some(id) = id {
                        self.scheduler.hold_adapter(id);
                    }
                }
                Ok(Wanted::Coming) => {}
                Ok(Wanted::NoRoom) => full = true,
                Ok(Wanted::Never(error)) => self.fail_adapter(adapter.id, &error, false),
                Err(error) => {
                    tracing::error!(%error, "pages could not be moved");
                    self.scheduler.forget_prefixes();
                    self.fail_all(&error);
                    return;
                }
            }
        }
        if !full {
            self.prefetch();
        }
        self.settle_pinnings();
    }

    /// Refuses to pin what is larger than pinned adapters may be, before anything makes room for it.
    fn refuse_large_pin(&mut self, adapter: &Registered) -> bool {
        let Some(pages) = self.residency.pages(adapter) else {
            return false;
        };
        let needed = self.scheduler.memory().pinned_pages() + pages;
        let (id, page_bytes) = (adapter.id, self.backend.page_bytes());
        let large = needed > self.most_pinned && !self.scheduler.memory().is_pinned(id);
        if large {
            let error = AdapterError::PinnedFull {
                needed: needed * page_bytes,
                most: self.most_pinned * page_bytes,
            };
            self.refuse_pinnings(|a| a.id == id, &error);
        }
        large
    }

    /// Brings the first of the adapters that were asked for ahead of any request, as long as there is
    /// room that nobody else has.
    fn prefetch(&mut self) {
        let ahead: Vec<_> = self.prefetches.iter().take(LOOKAHEAD).cloned().collect();
        let mut done = HashSet::new();
        for adapter in ahead {
            let (scheduler, backend) = (&mut self.scheduler, &mut *self.backend);
            let wanted = self
                .residency
                .want(&adapter, Room::Free, scheduler, backend);
            if !matches!(wanted, Ok(Wanted::Coming)) {
                done.insert(adapter.id);
            }
        }
        self.prefetches.retain(|a| !done.contains(&a.id));
    }

    /// Pins the adapters that have arrived.
    fn settle_pinnings(&mut self) {
        for pinning in std::mem::take(&mut self.pinnings) {
            let id = pinning.adapter.id;
            let arrived = self
                .residency
                .get(id)
                .is_some_and(|d| d.layers_arrived() == d.table.layers());
            if !arrived {
                self.pinnings.push(pinning);
                continue;
            }
            let memory = self.scheduler.memory_mut();
            while !memory.may_pin(id, self.context_pages) && memory.drop_largest_idle(id) {}
            if memory.may_pin(id, self.context_pages) {
                memory.pin(id, true);
                // An error means that nobody waits for the answer.
                let _ = pinning.done.send(Ok(()));
            } else {
                // Beside something large that is in use now.
                self.pinnings.push(pinning);
            }
        }
        self.residency.forget_evicted(&mut self.scheduler);
    }
}
