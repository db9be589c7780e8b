//! Room for adapters among the pages of sequences.

use super::{Scheduler, SequenceId};
use crate::adapters::AdapterId;
use crate::memory::{GiveWay, Reserved};

impl Scheduler {
    /// Keeps a waiting sequence's adapter, which has a slab, from giving way to what is not needed
    /// sooner.
    pub fn hold_adapter(&mut self, id: SequenceId) {
        let Some(sequence) = self.get_mut(id) else {
            return;
        };
        if let (false, Some(adapter)) = (sequence.awaiting, sequence.standing.adapter) {
            sequence.awaiting = true;
            self.memory.add_waiting(adapter);
        }
    }

    /// Makes room for an adapter: its pages, and the moves of blocks to make before anything else.
    ///
    /// `ahead` is the first adapter on the device whose request is admitted before those that wait for
    /// this one; with none ahead, adapters for which requests behind wait give way too. `None` as long as
    /// there is no room. There is in the end: whoever was admitted first keeps the room to finish
    /// whatever is on its way, and while somebody waits for room nobody behind is admitted.
    pub fn reserve(
        &mut self,
        id: AdapterId,
        pages: u32,
        cost: u64,
        ahead: Option<AdapterId>,
    ) -> Option<Reserved> {
        let firm = self.memory.firm_pages(ahead) + self.limits.context_pages;
        if firm + pages as usize > self.memory.total() {
            return None;
        }
        let way = if ahead.is_none() {
            GiveWay::Awaited
        } else {
            GiveWay::Unused
        };
        let mut reserved = self.memory.reserve(id, pages, cost, GiveWay::Unused);
        if reserved.is_none() {
            reserved = self.memory.reserve(id, pages, cost, way);
        }
        self.note_evicted();
        for (from, to) in reserved.iter().flat_map(|r| &r.moves) {
            for sequence in self.running.values_mut() {
                sequence.table.replace(*from, *to);
            }
        }
        reserved
    }

    /// Takes a free run for an adapter: nothing gives way or moves for it.
    pub fn reserve_free(&mut self, id: AdapterId, pages: u32, cost: u64) -> Option<Reserved> {
        let firm = self.memory.firm_pages(None) + self.limits.context_pages;
        if firm + pages as usize > self.memory.total() {
            return None;
        }
        self.memory.reserve(id, pages, cost, GiveWay::Nothing)
    }

    /// Adapters that gave way since this was last asked.
    pub fn take_evicted(&mut self) -> Vec<AdapterId> {
        self.note_evicted();
        std::mem::take(&mut self.evicted)
    }

    /// Nobody waits for the slab of an adapter that gave way: whoever did asks again.
    pub(super) fn note_evicted(&mut self) {
        let evicted = self.memory.take_evicted();
        if evicted.is_empty() {
            return;
        }
        let waiting = self.waiting.values_mut().chain(self.displaced.values_mut());
        for sequence in waiting {
            if sequence.awaiting
                && sequence
                    .standing
                    .adapter
                    .is_some_and(|a| evicted.contains(&a))
            {
                sequence.awaiting = false;
            }
        }
        self.evicted.extend(evicted);
    }
}
