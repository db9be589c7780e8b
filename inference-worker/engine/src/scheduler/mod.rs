//! Continuous batching: which rows of which sequences the next step computes.
//!
//! A policy without effects. Each step has one budget of rows: first every sequence that decodes gets
//! its row, then prompts are prefilled in chunks, then waiting sequences are admitted, in the order of
//! the [`queue`]. Memory is not reserved for tokens not yet generated: more sequences are admitted than
//! could all be held to their end, and when a page is missing the one admitted last gives up its own,
//! to be recomputed later, before anything new is admitted. The one admitted first is never displaced
//! and fits by itself, so every sequence finishes.

mod adapters;
mod admission;
pub mod queue;
mod step;

pub use admission::Gate;
pub use step::{Chunk, Plan};

use crate::adapters::AdapterId;
use crate::kv::{BlockTable, PAGE_TOKENS};
use crate::memory::prefix::BlockHash;
use crate::memory::Memory;
use queue::{FairQueue, Standing};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Number of a sequence, growing in order of arrival.
pub type SequenceId = u64;

/// Number of a sequence, growing in order of admission.
type Rank = u64;

/// What bounds a step.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of one step, prefill and decode together; more than `running`, so that prompts move on
    /// however many sequences decode.
    pub step_rows: usize,
    /// Sequences that hold pages at the same time.
    pub running: usize,
    /// Rows of one step whose logits are wanted although no token is drawn from them; at least 1.
    pub scored_rows: usize,
    /// Pages of the longest sequence. They are never all taken by adapters that cannot give way.
    pub context_pages: usize,
    /// Pages of different adapters that one step reads; none for no bound. Two adapters
    /// always may.
    pub step_adapter_pages: Option<usize>,
}

/// A sequence that arrives.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Names of its full blocks.
    pub blocks: Vec<BlockHash>,
    /// Where it stands in the queue.
    pub standing: Standing,
    /// What is wanted of its rows beside the next token.
    pub wanted: Wanted,
}

/// Positions whose outputs are wanted, beside the last one's: they are computed even where blocks with
/// the same tokens are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The positions.
    pub positions: Range<usize>,
    /// Whether their logits are wanted, of which a step gives [`Limits::scored_rows`] only.
    pub scored: bool,
}

#[derive(Debug)]
struct Sequence {
    id: SequenceId,
    standing: Standing,
    /// Tokens known: the prompt and what was generated.
    tokens: usize,
    /// Tokens whose keys and values are in the pages.
    computed: usize,
    /// Names of the full blocks of the tokens known.
    blocks: Vec<BlockHash>,
    table: BlockTable,
    /// What is wanted of its rows and was not computed yet.
    wanted: Wanted,
    /// Whether it is left out of steps.
    paused: bool,
    /// Whether it is counted among those that wait for its adapter on the device.
    awaiting: bool,
    /// Number of the last step that had rows of it.
    stepped: u64,
}

impl Wanted {
    /// How many of the rows from `start` on have their logits wanted.
    fn scored_in(&self, start: usize, rows: usize) -> usize {
        if !self.scored {
            return 0;
        }
        let end = self.positions.end.min(start + rows);
        end.saturating_sub(self.positions.start.max(start))
    }
}

/// Waiting and running sequences with their pages.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    memory: Memory,
    queue: FairQueue,
    /// Those never admitted.
    waiting: HashMap<SequenceId, Sequence>,
    /// Those that gave up their pages.
    displaced: BTreeMap<Rank, Sequence>,
    running: BTreeMap<Rank, Sequence>,
    ranks: HashMap<SequenceId, Rank>,
    next_rank: Rank,
    steps: u64,
    evicted: Vec<AdapterId>,
}

impl Scheduler {
    /// An empty scheduler over `pages` pages.
    pub fn new(limits: Limits, pages: u32) -> Self {
        Self {
            limits,
            memory: Memory::new(pages),
            queue: FairQueue::default(),
            waiting: HashMap::new(),
            displaced: BTreeMap::new(),
            running: BTreeMap::new(),
            ranks: HashMap::new(),
            next_rank: 0,
            steps: 0,
            evicted: Vec::new(),
        }
    }

    /// Adds a sequence to the queue. Ids must grow, and the sequence with its adapter must never need
    /// more than all pages.
    pub fn enqueue(&mut self, id: SequenceId, arrival: Arrival) {
        self.queue.push(id, arrival.standing, arrival.tokens);
        let sequence = Sequence {
            id,
            standing: arrival.standing,
            tokens: arrival.tokens,
            computed: 0,
            blocks: arrival.blocks,
            table: BlockTable::default(),
            wanted: arrival.wanted,
            paused: false,
            awaiting: false,
            stepped: 0,
        };
        self.waiting.insert(id, sequence);
    }

    /// Sequences without pages.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.displaced.len()
    }

    /// Sequences with pages.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The pages.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The pages, to be changed in what concerns adapters.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The pages of a running sequence; empty for any other.
    pub fn table(&self, id: SequenceId) -> &[u32] {
        let rank = self.ranks.get(&id);
        let sequence = rank.and_then(|rank| self.running.get(rank));
        sequence.map_or(&[], |s| s.table.pages())
    }

    /// Whether a sequence has pages.
    pub fn is_running(&self, id: SequenceId) -> bool {
        let rank = self.ranks.get(&id);
        rank.is_some_and(|rank| self.running.contains_key(rank))
    }

    fn get(&self, id: SequenceId) -> Option<&Sequence> {
        let rank = self.ranks.get(&id);
        let displaced = rank.and_then(|rank| self.displaced.get(rank));
        displaced.or_else(|| self.waiting.get(&id))
    }

    fn get_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        let rank = self.ranks.get(&id);
        let displaced = rank.and_then(|rank| self.displaced.get_mut(rank));
        displaced.or_else(|| self.waiting.get_mut(&id))
    }

    /// Forgets which blocks hold which tokens: after a failure of the device they may not.
    pub fn forget_prefixes(&mut self) {
        self.memory.forget_names();
        let sequences = self.running.values_mut();
        for sequence in sequences.chain(self.displaced.values_mut()) {
            sequence.blocks.clear();
        }
        for sequence in self.waiting.values_mut() {
            sequence.blocks.clear();
        }
    }

    /// Records that a token was drawn for a running sequence, and the name of the block it completes.
    pub fn append(&mut self, id: SequenceId, block: Option<BlockHash>) {
        let rank = self.ranks.get(&id);
        if let Some(sequence) = rank.and_then(|rank| self.running.get_mut(rank)) {
            sequence.tokens += 1;
            // Names stand in the order of the blocks: behind forgotten ones there is no place for more.
            let named = sequence.blocks.len() == sequence.tokens.div_ceil(PAGE_TOKENS) - 1;
            sequence.blocks.extend(block.filter(|_| named));
        }
    }

    /// Leaves a running sequence out of steps, or takes it in again. Its pages stay its own, unless one
    /// admitted before needs them.
    pub fn pause(&mut self, id: SequenceId, paused: bool) {
        let rank = self.ranks.get(&id);
        if let Some(sequence) = rank.and_then(|rank| self.running.get_mut(rank)) {
            sequence.paused = paused;
        }
    }

    /// Forgets a sequence, finished or cancelled, and takes its pages back at once.
    pub fn remove(&mut self, id: SequenceId) {
        let rank = self.ranks.remove(&id);
        let running = rank.and_then(|rank| self.running.remove(&rank));
        if let Some(mut sequence) = running {
            self.memory.release(&mut sequence.table);
            if let Some(adapter) = sequence.standing.adapter {
                self.memory.remove_running(adapter);
            }
            self.queue.end(id, sequence.standing);
            return;
        }
        let displaced = rank.and_then(|rank| self.displaced.remove(&rank));
        if let Some(sequence) = displaced.or_else(|| self.waiting.remove(&id)) {
            self.stop_waiting(&sequence);
            self.queue.end(id, sequence.standing);
        }
    }

    fn stop_waiting(&mut self, sequence: &Sequence) {
        if let (true, Some(adapter)) = (sequence.awaiting, sequence.standing.adapter) {
            self.memory.remove_waiting(adapter);
        }
    }
}

#[cfg(test)]
mod tests;
