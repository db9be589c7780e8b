//! The device's arena: which page holds what, and what gives way.
//!
//! One pool of pages holds keys and values as well as adapters (the unified paging of S-LoRA). A page
//! is free, a block of keys and values, or part of an adapter's slab, a run of adjacent pages. What is
//! not in use stays as long as nobody needs its room: blocks of finished requests, for others that
//! begin with the same tokens, and adapters without a request. Of these the least worth gives way:
//! worth is the time to bring the thing back, per page, aged by what has given way since it was last
//! used (GreedyDual-Size, Cao and Irani 1997: LRU weighted by cost).
//!
//! Pure bookkeeping: who calls copies and computes.

mod arena;
pub mod prefix;

use crate::adapters::AdapterId;
use crate::kv::{pages_for, BlockTable, PAGE_TOKENS};
use arena::FreePages;
use prefix::BlockHash;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// Worth of things in the arena, in nanoseconds per page.
type Worth = u64;

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

/// Keys and values of a block of tokens.
#[derive(Debug, Default)]
struct Block {
    /// Sequences whose tables list it.
    users: u32,
    /// Its name, once complete; only named blocks outlive their sequences.
    name: Option<BlockHash>,
    /// Its number within its sequence.
    depth: u32,
    worth: Worth,
}

/// An adapter's pages.
#[derive(Debug)]
struct Slab {
    pages: Range<u32>,
    /// Requests that run with it.
    running: u32,
    /// Requests that wait for it.
    waiting: u32,
    pinned: bool,
    /// Whether the copy is under way.
    copying: bool,
    /// Nanoseconds to bring it back.
    cost: u64,
    worth: Worth,
}

impl Slab {
    fn may_give_way(&self, to: GiveWay) -> bool {
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

    /// Pages of one adapter.
    pub fn pages_of(&self, id: AdapterId) -> usize {
        self.slabs.get(&id).map_or(0, |s| s.pages.len())
    }

    /// Pages of adapters.
    pub fn slab_pages(&self) -> usize {
        self.slab_pages
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

    /// Grows a table to hold `tokens` tokens. Takes all pages needed or, answering `false`, none.
    #[must_use]
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize, way: GiveWay) -> bool {
        let missing = pages_for(tokens).saturating_sub(table.len());
        if missing > self.free.len() && missing > self.available(way) {
            return false;
        }
        for _ in 0..missing {
            while self.free.is_empty() {
                if !self.make_way(way) {
                    return false;
                }
            }
            let Some(page) = self.free.take() else {
                return false;
            };
            self.pages[page as usize] = Page::Block(Block {
                users: 1,
                depth: table.len() as u32,
                ..Block::default()
            });
            table.push(page);
        }
        true
    }

    /// Gives a new sequence the blocks that are there of those it begins with.
    pub fn begin(&mut self, table: &mut BlockTable, names: &[BlockHash]) {
        for name in names {
            let Some(page) = self.named.get(name).copied() else {
                return;
            };
            if let Page::Block(block) = &mut self.pages[page as usize] {
                if block.users == 0 {
                    self.unused
                        .remove(&(block.worth, Reverse(block.depth), page));
                }
                block.users += 1;
                table.push(page);
            }
        }
    }

    /// How many of the blocks that a sequence begins with are there, and how many of these nobody uses.
    pub fn known(&self, names: &[BlockHash]) -> (usize, usize) {
        let mut unused = 0;
        for (i, name) in names.iter().enumerate() {
            match self.named.get(name).map(|page| &self.pages[*page as usize]) {
                Some(Page::Block(block)) => unused += usize::from(block.users == 0),
                _ => return (i, unused),
            }
        }
        (names.len(), unused)
    }

    /// Names a complete block of a table, so that others find it.
    pub fn name(&mut self, table: &BlockTable, index: usize, name: BlockHash) {
        let Some(page) = table.pages().get(index).copied() else {
            return;
        };
        if self.named.contains_key(&name) {
            return;
        }
        if let Page::Block(block) = &mut self.pages[page as usize] {
            if block.name.is_none() {
                block.name = Some(name);
                self.named.insert(name, page);
            }
        }
    }

    /// Takes back all pages of a table. Named blocks stay as long as nobody needs their room.
    pub fn release(&mut self, table: &mut BlockTable) {
        for page in table.take() {
            let Page::Block(block) = &mut self.pages[page as usize] else {
                continue;
            };
            block.users -= 1;
            if block.users > 0 {
                continue;
            }
            if block.name.is_some() {
                block.worth = self.clock + self.row_cost * PAGE_TOKENS as u64;
                self.unused
                    .insert((block.worth, Reverse(block.depth), page));
            } else {
                self.pages[page as usize] = Page::Free;
                self.free.give([page]);
            }
        }
    }

    /// Forgets the names of all blocks, so that none is found again: what they hold is not what it should
    /// be.
    pub fn forget_names(&mut self) {
        for (_, _, page) in std::mem::take(&mut self.unused) {
            self.pages[page as usize] = Page::Free;
            self.free.give([page]);
        }
        self.named.clear();
        for page in &mut self.pages {
            if let Page::Block(block) = page {
                block.name = None;
            }
        }
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
            self.evict(id);
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
        let clock = self.clock;
        self.change(id, |slab| {
            slab.worth = clock + slab.cost / (slab.pages.len() as u64).max(1);
        });
    }

    /// Frees the page or slab that is least worth. `false` when nothing may give way.
    fn make_way(&mut self, way: GiveWay) -> bool {
        let block = self.unused.first().copied();
        let slab = self.idle.first().copied().or_else(|| {
            let slabs = self.slabs.iter().filter(|(_, s)| s.may_give_way(way));
            slabs.map(|(id, s)| (s.worth, *id)).min()
        });
        match (block, slab) {
            (None, None) => false,
            (Some(block), slab) if slab.is_none_or(|(worth, _)| block.0 <= worth) => {
                self.clock = self.clock.max(block.0);
                self.forget(block.2);
                true
            }
            (_, Some((worth, id))) => {
                self.clock = self.clock.max(worth);
                self.evict(id);
                true
            }
            (Some(_), None) => false,
        }
    }

    /// Frees a block that nobody uses.
    fn forget(&mut self, page: u32) {
        let state = std::mem::replace(&mut self.pages[page as usize], Page::Free);
        if let Page::Block(block) = state {
            self.unused
                .remove(&(block.worth, Reverse(block.depth), page));
            if let Some(name) = block.name {
                self.named.remove(&name);
            }
        }
        self.blocks_evicted += 1;
        self.free.give([page]);
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

    /// What clearing a page costs; none when it cannot be cleared. A slab's cost is that of all of it.
    fn clearing(&self, page: u32, way: GiveWay) -> Option<Clearing> {
        Some(match &self.pages[page as usize] {
            Page::Free => Clearing::Nothing,
            Page::Block(block) if block.users == 0 => {
                Clearing::Forget(block.worth.saturating_sub(self.clock))
            }
            Page::Block(_) => Clearing::Move,
            Page::Slab(id) => {
                let slab = self.slabs.get(id).filter(|s| s.may_give_way(way))?;
                let worth = slab.worth.saturating_sub(self.clock);
                Clearing::Evict(*id, worth * slab.pages.len() as u64)
            }
        })
    }

    /// The run of `pages` pages that costs least to clear, of those that can be cleared.
    fn cheapest_window(&self, pages: u32, way: GiveWay) -> Option<Range<u32>> {
        let total = self.pages.len() as u32;
        let width = pages as usize;
        let mut window: std::collections::VecDeque<Clearing> = Default::default();
        let (mut cost, mut moves, mut unused) = (0u64, 0usize, 0usize);
        let mut slabs: HashMap<AdapterId, u32> = HashMap::new();
        let mut best: Option<(u64, u32)> = None;
        for page in 0..total {
            let Some(clearing) = self.clearing(page, way) else {
                window.clear();
                slabs.clear();
                (cost, moves, unused) = (0, 0, 0);
                continue;
            };
            match clearing {
                Clearing::Nothing => unused += 1,
                Clearing::Forget(worth) => {
                    cost += worth;
                    unused += 1;
                }
                Clearing::Move => {
                    cost += self.row_cost;
                    moves += 1;
                }
                Clearing::Evict(id, worth) => {
                    let count = slabs.entry(id).or_default();
                    cost += if *count == 0 { worth } else { 0 };
                    *count += 1;
                }
            }
            window.push_back(clearing);
            if window.len() > width {
                match window.pop_front() {
                    Some(Clearing::Nothing) => unused -= 1,
                    Some(Clearing::Forget(worth)) => {
                        cost -= worth;
                        unused -= 1;
                    }
                    Some(Clearing::Move) => {
                        cost -= self.row_cost;
                        moves -= 1;
                    }
                    Some(Clearing::Evict(id, worth)) => {
                        if let Some(count) = slabs.get_mut(&id) {
                            *count -= 1;
                            if *count == 0 {
                                slabs.remove(&id);
                                cost -= worth;
                            }
                        }
                    }
                    None => {}
                }
            }
            // Blocks that move need room outside, which blocks that nobody uses make too.
            let outside = self.free.len() + self.unused.len() - unused;
            if window.len() == width
                && moves <= outside
                && best.is_none_or(|(least, _)| cost < least)
            {
                best = Some((cost, page + 1 - pages));
            }
        }
        best.map(|(_, first)| first..first + pages)
    }

    /// Empties a window and takes it; the blocks in use move outside.
    fn clear(&mut self, window: Range<u32>) -> Option<Vec<(u32, u32)>> {
        let mut moving = Vec::new();
        for page in window.clone() {
            match &self.pages[page as usize] {
                Page::Free => {}
                Page::Block(block) if block.users == 0 => {
                    self.clock = self.clock.max(block.worth);
                    self.forget(page);
                }
                Page::Block(_) => moving.push(page),
                Page::Slab(id) => {
                    let id = *id;
                    self.clock = self.clock.max(self.slabs.get(&id).map_or(0, |s| s.worth));
                    self.evict(id);
                }
            }
        }
        self.free.remove(window);
        let mut moves = Vec::new();
        for from in moving {
            if self.free.is_empty() {
                let (_, _, page) = self.unused.first().copied()?;
                self.forget(page);
            }
            let to = self.free.take()?;
            let block = std::mem::replace(&mut self.pages[from as usize], Page::Free);
            if let Page::Block(Block {
                name: Some(name), ..
            }) = &block
            {
                self.named.insert(*name, to);
            }
            self.pages[to as usize] = block;
            moves.push((from, to));
        }
        Some(moves)
    }
}

/// What it takes to clear a page.
#[derive(Clone, Copy)]
enum Clearing {
    Nothing,
    Forget(Worth),
    Move,
    Evict(AdapterId, u64),
}

#[cfg(test)]
mod tests;
