//! Blocks of keys and values in the arena: shared by those that begin alike, kept for those to come.

use super::prefix::BlockHash;
use super::worth::{worth, Reuse, Worth};
use super::{GiveWay, Memory, Page};
use crate::kv::{pages_for, BlockTable, PAGE_TOKENS};
use std::cmp::Reverse;

/// Keys and values of a block of tokens.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Sequences whose tables list it.
    pub users: u32,
    /// Its name, once complete; only named blocks outlive their sequences.
    pub name: Option<BlockHash>,
    /// Its number within its sequence.
    pub depth: u32,
    /// Whether a request began with it after the one that computed it first.
    pub asked_again: bool,
    /// The clock when it was last used.
    pub used: Worth,
    pub worth: Worth,
}

impl Memory {
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

    /// Records that a request began for the first time, and found the first `found` blocks of its table.
    /// What a request finds of its own when it goes on after it was displaced says nothing of others.
    pub fn ask_blocks(&mut self, table: &BlockTable, found: usize) {
        for page in table.pages().iter().take(found) {
            if let Page::Block(block) = &mut self.pages[*page as usize] {
                self.block_reuse.found(1, block.asked_again);
                block.asked_again = true;
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
                block.asked_again = self.block_reuse.came(&name);
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
                block.used = self.clock;
                block.worth = block_worth(&self.block_reuse, self.row_cost, block);
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

    /// Ranks the blocks that nobody uses by the probabilities in force.
    pub(super) fn rank_blocks(&mut self) {
        for (_, depth, page) in std::mem::take(&mut self.unused) {
            if let Page::Block(block) = &mut self.pages[page as usize] {
                block.worth = block_worth(&self.block_reuse, self.row_cost, block);
                self.unused.insert((block.worth, depth, page));
            }
        }
    }

    /// Frees a block that nobody uses, as its room is needed.
    pub(super) fn forget(&mut self, page: u32) {
        let state = std::mem::replace(&mut self.pages[page as usize], Page::Free);
        if let Page::Block(block) = state {
            self.unused
                .remove(&(block.worth, Reverse(block.depth), page));
            self.clock = self.clock.max(block.worth);
            if let Some(name) = block.name {
                self.named.remove(&name);
                self.block_reuse.gave_way(name, 1, block.asked_again);
            }
        }
        self.blocks_evicted += 1;
        self.free.give([page]);
    }
}

fn block_worth(reuse: &Reuse<BlockHash>, row_cost: u64, block: &Block) -> Worth {
    let cost = row_cost.saturating_mul(PAGE_TOKENS as u64);
    worth(block.used, cost, reuse.probability(block.asked_again))
}
