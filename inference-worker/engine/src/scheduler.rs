//! Continuous batching: which rows of which sequences the next step computes.
//!
//! A policy without effects. Each step has one budget of rows: first every sequence that decodes gets
//! its row, then prompts are prefilled in chunks, then waiting sequences are admitted, always in order
//! of arrival. Memory is not reserved for tokens not yet generated: more sequences are admitted than
//! could all be held to their end, and when a page is missing the youngest sequence gives up its own
//! and waits again, at the place of its arrival, to be recomputed from its tokens. The oldest sequence
//! is never displaced and fits by itself, so every sequence finishes.

use crate::kv::{pages_for, BlockTable, PagePool};
use std::collections::BTreeMap;

/// Number of a sequence, growing in order of arrival.
pub type SequenceId = u64;

/// What bounds a step.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of one step, prefill and decode together; more than `running`, so that prompts move on
    /// however many sequences decode.
    pub step_rows: usize,
    /// Sequences that hold pages at the same time.
    pub running: usize,
}

/// Rows of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The sequence.
    pub id: SequenceId,
    /// First position.
    pub start: usize,
    /// Number of positions.
    pub rows: usize,
    /// Whether the last row is the sequence's last known token, so that the next one can be drawn.
    pub complete: bool,
}

/// One step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rows by sequence.
    pub chunks: Vec<Chunk>,
    /// Sequences that gave up their pages for this step.
    pub preempted: Vec<SequenceId>,
}

#[derive(Debug, Default)]
struct Sequence {
    /// Tokens known: the prompt and what was generated.
    tokens: usize,
    /// Tokens whose keys and values are in the pages.
    computed: usize,
    table: BlockTable,
}

/// Waiting and running sequences with their pages.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    pool: PagePool,
    waiting: BTreeMap<SequenceId, Sequence>,
    running: BTreeMap<SequenceId, Sequence>,
}

impl Scheduler {
    /// An empty scheduler over `pages` pages.
    pub fn new(limits: Limits, pages: u32) -> Self {
        Self {
            limits,
            pool: PagePool::new(pages),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Adds a sequence of `tokens` tokens at the end of the queue. Ids must grow, and the sequence must
    /// never need more than all pages.
    pub fn enqueue(&mut self, id: SequenceId, tokens: usize) {
        let sequence = Sequence {
            tokens,
            ..Sequence::default()
        };
        self.waiting.insert(id, sequence);
    }

    /// Sequences without pages.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences with pages.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The pages.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// The pages of a running sequence; empty for any other.
    pub fn table(&self, id: SequenceId) -> &[u32] {
        self.running.get(&id).map_or(&[], |s| s.table.pages())
    }

    /// Chooses the next step's rows and takes the pages they need.
    pub fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        let mut budget = self.limits.step_rows;
        let decoding = |s: &Sequence| s.computed + 1 == s.tokens;
        for prefill in [false, true] {
            let ids: Vec<SequenceId> = self
                .running
                .iter()
                .filter(|(_, s)| decoding(s) != prefill)
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                if budget > 0 && self.make_room(id, &mut plan, &mut budget) {
                    budget -= self.take_chunk(id, budget, &mut plan);
                }
            }
        }
        if plan.preempted.is_empty() {
            self.admit(&mut plan, budget);
        }
        plan
    }

    /// Records that a planned step was computed.
    pub fn commit(&mut self, plan: &Plan) {
        for chunk in &plan.chunks {
            if let Some(sequence) = self.running.get_mut(&chunk.id) {
                sequence.computed = chunk.start + chunk.rows;
            }
        }
    }

    /// Records that a token was drawn for a running sequence.
    pub fn append(&mut self, id: SequenceId) {
        if let Some(sequence) = self.running.get_mut(&id) {
            sequence.tokens += 1;
        }
    }

    /// Forgets a sequence, finished or cancelled, and takes its pages back at once.
    pub fn remove(&mut self, id: SequenceId) {
        self.waiting.remove(&id);
        if let Some(mut sequence) = self.running.remove(&id) {
            self.pool.release(&mut sequence.table);
        }
    }

    /// Grows a running sequence's table to its known tokens, displacing younger sequences as needed.
    /// `false` when the sequence itself was displaced, before or now.
    fn make_room(&mut self, id: SequenceId, plan: &mut Plan, budget: &mut usize) -> bool {
        loop {
            let Some(sequence) = self.running.get_mut(&id) else {
                return false;
            };
            if self.pool.grow(&mut sequence.table, sequence.tokens) {
                return true;
            }
            let Some((youngest, mut victim)) = self.running.pop_last() else {
                return false;
            };
            self.pool.release(&mut victim.table);
            victim.computed = 0;
            self.waiting.insert(youngest, victim);
            plan.preempted.push(youngest);
            plan.chunks.retain(|c| {
                let keep = c.id != youngest;
                if !keep {
                    *budget += c.rows;
                }
                keep
            });
        }
    }

    fn take_chunk(&self, id: SequenceId, budget: usize, plan: &mut Plan) -> usize {
        let Some(sequence) = self.running.get(&id) else {
            return 0;
        };
        let missing = sequence.tokens - sequence.computed;
        let rows = missing.min(budget);
        plan.chunks.push(Chunk {
            id,
            start: sequence.computed,
            rows,
            complete: rows == missing,
        });
        rows
    }

    /// Admits from the head of the queue only: a long prompt at the head is not overtaken for ever.
    fn admit(&mut self, plan: &mut Plan, mut budget: usize) {
        while budget > 0 && self.running.len() < self.limits.running {
            let Some(entry) = self.waiting.first_entry() else {
                return;
            };
            // One page in hand for each sequence that runs: what is admitted is not displaced at once.
            let needed = pages_for(entry.get().tokens) + self.running.len();
            if needed > self.pool.free() {
                return;
            }
            let (id, mut sequence) = entry.remove_entry();
            let grown = self.pool.grow(&mut sequence.table, sequence.tokens);
            debug_assert!(grown, "the pages were counted above");
            self.running.insert(id, sequence);
            budget -= self.take_chunk(id, budget, plan);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::PAGE_TOKENS;
    use proptest::prelude::*;

    fn scheduler(step_rows: usize, running: usize, pages: u32) -> Scheduler {
        Scheduler::new(Limits { step_rows, running }, pages)
    }

    /// Computes a planned step and draws a token for each complete chunk.
    fn compute(scheduler: &mut Scheduler, plan: &Plan) -> Vec<SequenceId> {
        scheduler.commit(plan);
        let complete: Vec<SequenceId> = plan
            .chunks
            .iter()
            .filter(|c| c.complete)
            .map(|c| c.id)
            .collect();
        for id in &complete {
            scheduler.append(*id);
        }
        complete
    }

    #[test]
    fn one_step_should_mix_decode_rows_with_a_prefill_chunk() {
        let mut s = scheduler(10, 4, 100);
        s.enqueue(1, 3);
        let first = s.plan();
        compute(&mut s, &first);
        s.enqueue(2, 30);
        let plan = s.plan();
        let expected = [
            Chunk {
                id: 1,
                start: 3,
                rows: 1,
                complete: true,
            },
            Chunk {
                id: 2,
                start: 0,
                rows: 9,
                complete: false,
            },
        ];
        assert_eq!(plan.chunks, expected);
    }

    #[test]
    fn a_long_prompt_at_the_head_should_not_be_overtaken() {
        let mut s = scheduler(64, 8, 4);
        s.enqueue(1, 2 * PAGE_TOKENS);
        let plan = s.plan();
        compute(&mut s, &plan);
        s.enqueue(2, 3 * PAGE_TOKENS);
        s.enqueue(3, 1);
        let plan = s.plan();
        assert_eq!(plan.chunks.iter().map(|c| c.id).collect::<Vec<_>>(), [1]);
        s.remove(1);
        let plan = s.plan();
        assert_eq!(plan.chunks.first().map(|c| c.id), Some(2));
    }

    #[test]
    fn a_cancelled_sequence_should_give_its_pages_back_at_once() {
        let mut s = scheduler(64, 8, 8);
        s.enqueue(1, 4 * PAGE_TOKENS);
        let plan = s.plan();
        compute(&mut s, &plan);
        assert_eq!(s.pool().used(), 4);
        s.remove(1);
        assert_eq!((s.pool().used(), s.running()), (0, 0));
    }

    #[test]
    fn the_youngest_should_give_way_when_a_page_is_missing() {
        let mut s = scheduler(64, 8, 3);
        s.enqueue(1, PAGE_TOKENS);
        let plan = s.plan();
        compute(&mut s, &plan);
        // The first sequence now needs a second page; the second takes the last one before it.
        s.enqueue(2, 1);
        s.limits.running = 8;
        let plan = s.plan();
        assert!(plan.preempted.is_empty());
        compute(&mut s, &plan);
        for _ in 0..PAGE_TOKENS {
            let plan = s.plan();
            compute(&mut s, &plan);
        }
        assert_eq!(s.table(1).len(), 3);
        assert_eq!((s.running(), s.waiting()), (1, 1));
    }

    proptest! {
        #[test]
        fn every_sequence_should_finish_in_any_mix(
            pages in 4u32..20,
            step_rows in 9usize..60,
            prompts in prop::collection::vec((1usize..40, 1usize..24), 1..40),
            cancel in prop::collection::vec(0usize..200, 0..5),
        ) {
            let mut s = scheduler(step_rows, 8, pages);
            let mut left: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
            for (i, (prompt, output)) in prompts.iter().enumerate() {
                s.enqueue(i as u64, *prompt);
                left.insert(i as u64, (*prompt, *output));
            }
            let mut oldest_waited = 0;
            for step in 0..20_000 {
                if cancel.contains(&step) {
                    if let Some(id) = left.keys().nth(step % left.len().max(1)).copied() {
                        left.remove(&id);
                        s.remove(id);
                    }
                }
                if left.is_empty() {
                    break;
                }
                let plan = s.plan();
                let rows: usize = plan.chunks.iter().map(|c| c.rows).sum();
                prop_assert!(rows > 0 && rows <= step_rows);
                prop_assert!(s.running() <= 8);
                let oldest = left.keys().next().copied();
                let served = plan.chunks.iter().any(|c| Some(c.id) == oldest);
                prop_assert!(!plan.preempted.iter().any(|id| Some(*id) == oldest));
                oldest_waited = if served { 0 } else { oldest_waited + 1 };
                prop_assert!(oldest_waited == 0, "the oldest is in every step");
                let mut held: Vec<u32> = Vec::new();
                for chunk in &plan.chunks {
                    let table = s.table(chunk.id);
                    prop_assert!(table.len() * PAGE_TOKENS >= chunk.start + chunk.rows);
                    held.extend(table);
                }
                held.sort_unstable();
                let distinct = held.len();
                held.dedup();
                prop_assert_eq!(held.len(), distinct, "a page has one owner");
                prop_assert!(s.pool().used() >= distinct);
                for id in compute(&mut s, &plan) {
                    let entry = left.get_mut(&id).expect("a live sequence");
                    entry.1 -= 1;
                    if entry.1 == 0 {
                        left.remove(&id);
                        s.remove(id);
                    }
                }
            }
            prop_assert!(left.is_empty(), "unfinished: {left:?}");
            prop_assert_eq!(s.pool().used(), 0);
            prop_assert_eq!((s.running(), s.waiting()), (0, 0));
        }
    }
}
