//! The device's arena: which page holds what, and what gives way.
//!
//! One pool of pages holds keys and values as well as adapters (the unified paging of S-LoRA). A page
//! is free, a block of keys and values, or part of an adapter's slab, a run of adjacent pages. What is
//! not in use stays as long as nobody needs its room: blocks of finished requests, for others that
//! begin with the same tokens, and adapters without a request. Of these the least worth gives way: worth
//! is the time to bring the thing back, per page, times how likely it is asked for again, aged by what has
//! given way since it was last used (`worth.rs`).
//!
//! Pure bookkeeping: who calls copies and computes.

mod arena;
mod blocks;
mod ghosts;
pub mod prefix;
mod slabs;
mod window;
mod worth;

pub use slabs::Reserved;

use crate::adapters::AdapterId;
use arena::FreePages;
use blocks::Block;
use prefix::BlockHash;
use slabs::Slab;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use worth::{Reuse, Worth};

/// What may give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveWay {
    /// Nothing.
    Nothing,
    /// What nobody uses or waits for.
    Unused,
    /// Also adapters for which requests wait, but none runs.
    Awaited,
}

#[derive(Debug)]
enum Page {
    Free,
    Block(Block),
    Slab(AdapterId),
}

/// The pages of the arena.
#[derive(Debug)]
pub struct Memory {
    free: FreePages,
    pages: Vec<Page>,
    named: HashMap<BlockHash, u32>,
    /// Named blocks that nobody uses; of equal worth, the deepest goes first.
    unused: BTreeSet<(Worth, Reverse<u32>, u32)>,
    slabs: HashMap<AdapterId, Slab>,
    /// Adapters that nobody uses or waits for, and the sum of their pages.
    idle: BTreeSet<(Worth, AdapterId)>,
    idle_pages: usize,
    /// Pages of all adapters, and of those pinned.
    slab_pages: usize,
    pinned_pages: usize,
    /// How likely blocks and adapters are asked for again.
    block_reuse: Reuse<BlockHash>,
    slab_reuse: Reuse<AdapterId>,
    clock: Worth,
    row_cost: u64,
    evicted: Vec<AdapterId>,
    blocks_evicted: u64,
}

impl Memory {
    /// `total` free pages, numbered from 0.
    pub fn new(total: u32) -> Self {
        Self {
            free: FreePages::new(total),
            pages: (0..total).map(|_| Page::Free).collect(),
            named: HashMap::new(),
            unused: BTreeSet::new(),
            slabs: HashMap::new(),
            idle: BTreeSet::new(),
            idle_pages: 0,
            slab_pages: 0,
            pinned_pages: 0,
            block_reuse: Reuse::new(total),
            slab_reuse: Reuse::new(total),
            clock: 0,
            row_cost: 1_000,
            evicted: Vec::new(),
            blocks_evicted: 0,
        }
    }

    /// Tells what a row of prefill costs, in nanoseconds: what a block is worth depends on it.
    pub fn set_row_cost(&mut self, nanoseconds: u64) {
        self.row_cost = nanoseconds;
    }

    /// All pages.
    pub fn total(&self) -> usize {
        self.pages.len()
    }

    /// Pages that hold nothing.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages of blocks that no sequence uses, kept for those that begin alike.
    pub fn cached_blocks(&self) -> usize {
        self.unused.len()
    }

    /// Pages of blocks that sequences use.
    pub fn used_blocks(&self) -> usize {
        self.total() - self.free() - self.cached_blocks() - self.slab_pages()
    }

    /// Adapters that gave way since this was last asked.
    pub fn take_evicted(&mut self) -> Vec<AdapterId> {
        std::mem::take(&mut self.evicted)
    }

    /// Blocks that gave way so far.
    pub fn blocks_evicted(&self) -> u64 {
        self.blocks_evicted
    }

    /// Pages that are free or may be made so.
    pub fn available(&self, way: GiveWay) -> usize {
        match way {
            GiveWay::Nothing => self.free.len(),
            GiveWay::Unused => self.free.len() + self.unused.len() + self.idle_pages,
            GiveWay::Awaited => {
                let slabs = self.slabs.values().filter(|s| s.may_give_way(way));
                let slabs: usize = slabs.map(|s| s.pages.len()).sum();
                self.free.len() + self.unused.len() + slabs
            }
        }
    }

    /// Ranks what may give way by how likely it is asked for again, as far as that was learnt anew.
    fn rank(&mut self) {
        if self.block_reuse.revise() {
            self.rank_blocks();
        }
        if self.slab_reuse.revise() {
            self.rank_slabs();
        }
    }

    /// Frees the page or slab that is least worth. `false` when nothing may give way.
    fn make_way(&mut self, way: GiveWay) -> bool {
        self.rank();
        let block = self.unused.first().copied();
        let slab = self.idle.first().copied().or_else(|| {
            let slabs = self.slabs.iter().filter(|(_, s)| s.may_give_way(way));
            slabs.map(|(id, s)| (s.worth, *id)).min()
        });
        match (block, slab) {
            (None, None) => false,
            (Some(block), slab) if slab.is_none_or(|(worth, _)| block.0 <= worth) => {
                self.forget(block.2);
                true
            }
            (_, Some((_, id))) => {
                self.give_way(id);
                true
            }
            (Some(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests;
