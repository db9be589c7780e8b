//! Adapters in the arena: each a run of pages.

use super::worth::{worth, Reuse, Worth};
use super::{GiveWay, Memory, Page};
use crate::adapters::AdapterId;
use std::ops::Range;

/// An adapter's pages.
#[derive(Debug)]
pub(super) struct Slab {
    pub pages: Range<u32>,
    /// Requests that run with it.
    running: u32,
    /// Requests that wait for it.
    waiting: u32,
    pinned: bool,
    /// Whether the copy is under way.
    copying: bool,
    /// Nanoseconds to bring it back.
    pub cost: u64,
    /// Whether it was asked for since it came.
    pub asked: bool,
    /// Whether it was asked for more than once.
    pub asked_again: bool,
    /// The clock when it was last used.
    pub used: Worth,
    pub worth: Worth,
}

impl Slab {
    fn rank(&mut self, reuse: &Reuse<AdapterId>) {
        let cost = self.cost / (self.pages.len() as u64).max(1);
        self.worth = worth(self.used, cost, reuse.probability(self.asked_again));
    }

    pub fn may_give_way(&self, to: GiveWay) -> bool {
        let awaited = self.waiting > 0 && to == GiveWay::Unused;
        !(to == GiveWay::Nothing || self.pinned || self.copying || self.running > 0 || awaited)
    }
}

/// Room for an adapter, and what has to happen before it is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The slab.
    pub pages: Range<u32>,
    /// Blocks of keys and values that move, from page to page, in this order.
    pub moves: Vec<(u32, u32)>,
}

impl Memory {
    /// Pages of one adapter.
    pub fn pages_of(&self, id: AdapterId) -> usize {
        self.slabs.get(&id).map_or(0, |s| s.pages.len())
    }

    /// Pages of adapters.
    pub fn slab_pages(&self) -> usize {
        self.slab_pages
    }

    /// Makes room for an adapter of `pages` pages that takes `cost` nanoseconds to bring. Blocks in
    /// use move when the room is there but not in one piece. `None` when there is no room now.
    pub fn reserve(
        &mut self,
        id: AdapterId,
        pages: u32,
        cost: u64,
        way: GiveWay,
    ) -> Option<Reserved> {
        if pages == 0 || self.slabs.contains_key(&id) {
            return None;
        }
        self.rank();
        let (run, moves) = match self.free.take_run(pages) {
            Some(run) => (run, Vec::new()),
            None if way == GiveWay::Nothing || self.available(way) < pages as usize => return None,
            None => {
                let window = self.cheapest_window(pages, way)?;
                let moves = self.clear(window.clone())?;
                (window, moves)
            }
        };
        for page in run.clone() {
            self.pages[page as usize] = Page::Slab(id);
        }
        self.slabs.insert(
            id,
            Slab {
                pages: run.clone(),
                running: 0,
                waiting: 0,
                pinned: false,
                copying: true,
                cost,
                asked: false,
                asked_again: false,
                used: 0,
                worth: 0,
            },
        );
        self.list(id);
        self.touch(id);
        Some(Reserved { pages: run, moves })
    }

    /// Records that an adapter's copy is done.
    pub fn copied(&mut self, id: AdapterId) {
        self.change(id, |slab| slab.copying = false);
    }

    /// Records that a request began for the first time, with an adapter: the one that it was brought for,
    /// or another.
    pub fn ask_slab(&mut self, id: AdapterId) {
        let Some(slab) = self.slabs.get(&id) else {
            return;
        };
        let again = if slab.asked {
            self.slab_reuse.found(slab.pages.len(), slab.asked_again);
            true
        } else {
            self.slab_reuse.came(&id)
        };
        self.change(id, |slab| {
            slab.asked = true;
            slab.asked_again |= again;
        });
        self.touch(id);
    }

    /// Adds to the requests that wait for an adapter on the device.
    pub fn add_waiting(&mut self, id: AdapterId) {
        self.change(id, |slab| slab.waiting += 1);
        self.touch(id);
    }

    /// Takes from the requests that wait for an adapter on the device.
    pub fn remove_waiting(&mut self, id: AdapterId) {
        self.change(id, |slab| slab.waiting = slab.waiting.saturating_sub(1));
    }

    /// Adds to the requests that run with an adapter.
    pub fn add_running(&mut self, id: AdapterId) {
        self.change(id, |slab| slab.running += 1);
        self.touch(id);
    }

    /// Takes from the requests that run with an adapter.
    pub fn remove_running(&mut self, id: AdapterId) {
        self.change(id, |slab| slab.running = slab.running.saturating_sub(1));
        self.touch(id);
    }

    /// Keeps an adapter on the device whether or not it is used, or no longer.
    pub fn pin(&mut self, id: AdapterId, pinned: bool) {
        self.change(id, |slab| slab.pinned = pinned);
    }

    /// Whether an adapter may be pinned now: what is pinned, what is on its way, any other adapter here,
    /// and one context then still fit side by side.
    pub fn may_pin(&self, id: AdapterId, context_pages: usize) -> bool {
        let (mut coming, mut largest) = (0, 0);
        for (_, slab) in self.slabs.iter().filter(|(other, _)| **other != id) {
            let pages = slab.pages.len();
            if slab.copying && !slab.pinned {
                coming += pages;
            } else if !slab.pinned {
                largest = pages.max(largest);
            }
        }
        let unpinned = self.slabs.get(&id).filter(|s| !s.pinned);
        let pinned = self.pinned_pages + unpinned.map_or(0, |s| s.pages.len());
        pinned + coming + largest + context_pages <= self.total()
    }

    /// Lets go of the largest adapter that nobody uses or waits for, `but` for one; `false` when there is
    /// none.
    pub fn drop_largest_idle(&mut self, but: AdapterId) -> bool {
        let idle = self.idle.iter().filter(|(_, id)| *id != but);
        let largest = idle.max_by_key(|(_, id)| self.pages_of(*id)).copied();
        if let Some((_, id)) = largest {
            self.give_way(id);
        }
        largest.is_some()
    }

    /// Changes an adapter's state, and with it what is known of all.
    fn change(&mut self, id: AdapterId, change: impl FnOnce(&mut Slab)) {
        self.unlist(id);
        if let Some(slab) = self.slabs.get_mut(&id) {
            change(slab);
        }
        self.list(id);
    }

    fn list(&mut self, id: AdapterId) {
        if let Some(slab) = self.slabs.get(&id) {
            let pages = slab.pages.len();
            self.slab_pages += pages;
            self.pinned_pages += if slab.pinned { pages } else { 0 };
            if slab.may_give_way(GiveWay::Unused) && self.idle.insert((slab.worth, id)) {
                self.idle_pages += pages;
            }
        }
    }

    fn unlist(&mut self, id: AdapterId) {
        if let Some(slab) = self.slabs.get(&id) {
            let pages = slab.pages.len();
            self.slab_pages -= pages;
            self.pinned_pages -= if slab.pinned { pages } else { 0 };
            if self.idle.remove(&(slab.worth, id)) {
                self.idle_pages -= pages;
            }
        }
    }

    /// Whether an adapter is pinned.
    pub fn is_pinned(&self, id: AdapterId) -> bool {
        self.slabs.get(&id).is_some_and(|s| s.pinned)
    }

    /// Pages of pinned adapters.
    pub fn pinned_pages(&self) -> usize {
        self.pinned_pages
    }

    /// Pages of adapters that cannot give way to a sequence, whichever of those that run it is, or that of
    /// `also`: those pinned or on their way, and the largest of those in use, its own.
    pub fn firm_pages(&self, also: Option<AdapterId>) -> usize {
        let (mut firm, mut largest) = (0, 0);
        for (id, slab) in &self.slabs {
            let pages = slab.pages.len();
            if slab.pinned || slab.copying {
                firm += pages;
            } else if slab.running > 0 || Some(*id) == also {
                largest = pages.max(largest);
            }
        }
        firm + largest
    }

    /// Lets an adapter go that nobody uses or waits for; `false` when somebody does.
    pub fn drop_slab(&mut self, id: AdapterId) -> bool {
        let free = self
            .slabs
            .get(&id)
            .is_some_and(|s| s.running == 0 && s.waiting == 0 && !s.copying);
        if free {
            self.evict(id);
        }
        free
    }

    fn touch(&mut self, id: AdapterId) {
        self.unlist(id);
        if let Some(slab) = self.slabs.get_mut(&id) {
            slab.used = self.clock;
            slab.rank(&self.slab_reuse);
        }
        self.list(id);
    }

    /// Ranks adapters by the probabilities in force.
    pub(super) fn rank_slabs(&mut self) {
        self.idle.clear();
        for (id, slab) in &mut self.slabs {
            slab.rank(&self.slab_reuse);
            if slab.may_give_way(GiveWay::Unused) {
                self.idle.insert((slab.worth, *id));
            }
        }
    }

    /// Frees an adapter's pages, as its room is needed.
    pub(super) fn give_way(&mut self, id: AdapterId) {
        if let Some(slab) = self.slabs.get(&id) {
            self.clock = self.clock.max(slab.worth);
            // One that was brought and never asked for was not tried.
            if slab.asked {
                let pages = slab.pages.len();
                self.slab_reuse.gave_way(id, pages, slab.asked_again);
            }
        }
        self.evict(id);
    }

    fn evict(&mut self, id: AdapterId) {
        self.unlist(id);
        if let Some(slab) = self.slabs.remove(&id) {
            for page in slab.pages.clone() {
                self.pages[page as usize] = Page::Free;
            }
            self.free.give(slab.pages);
            self.evicted.push(id);
        }
    }
}
