//! A run of pages for an adapter: the one that costs least to clear.

use super::blocks::Block;
use super::worth::Worth;
use super::{GiveWay, Memory, Page};
use crate::adapters::AdapterId;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// What it takes to clear a page.
#[derive(Clone, Copy)]
enum Clearing {
    Nothing,
    Forget(Worth),
    Move,
    Evict(AdapterId, u64),
}

impl Memory {
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
    pub(super) fn cheapest_window(&self, pages: u32, way: GiveWay) -> Option<Range<u32>> {
        let total = self.pages.len() as u32;
        let width = pages as usize;
        let mut window: VecDeque<Clearing> = Default::default();
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
    pub(super) fn clear(&mut self, window: Range<u32>) -> Option<Vec<(u32, u32)>> {
        let mut moving = Vec::new();
        for page in window.clone() {
            match &self.pages[page as usize] {
                Page::Free => {}
                Page::Block(block) if block.users == 0 => self.forget(page),
                Page::Block(_) => moving.push(page),
                Page::Slab(id) => {
                    let id = *id;
                    self.give_way(id);
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
