//! A step: the rows of sequences that run, and the pages that they grow by.

use super::admission::Gate;
use super::{Rank, Scheduler, Sequence, SequenceId};
use crate::adapters::AdapterId;
use crate::kv::PAGE_TOKENS;
use crate::memory::{GiveWay, Memory};
use std::collections::HashSet;

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
    /// Tokens of sequences admitted by this step, and how many of them were found computed.
    pub prefix: (usize, usize),
}

impl Plan {
    /// Leaves out the last row of a sequence, from which a token was to be drawn.
    pub fn shorten(&mut self, id: SequenceId) {
        self.chunks.retain_mut(|chunk| {
            if chunk.id == id {
                chunk.rows -= 1;
                chunk.complete = false;
            }
            chunk.rows > 0
        });
    }
}

/// What is left of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) rows: usize,
    pub(super) scored: usize,
}

/// The different adapters of a step, within their bound.
pub(super) struct StepAdapters {
    bound: Option<usize>,
    pages: usize,
    seen: HashSet<AdapterId>,
}

impl StepAdapters {
    fn new(bound: Option<usize>) -> Self {
        Self {
            bound,
            pages: 0,
            seen: HashSet::new(),
        }
    }

    pub(super) fn fits(&self, adapter: Option<AdapterId>, memory: &Memory) -> bool {
        match (self.bound, adapter) {
            (Some(bound), Some(id)) if !self.seen.contains(&id) => {
                // The one admitted first, and the one left out longest.
                self.seen.len() < 2 || self.pages + memory.pages_of(id) <= bound
            }
            _ => true,
        }
    }

    pub(super) fn add(&mut self, adapter: Option<AdapterId>, memory: &Memory) {
        if let (Some(_), Some(id)) = (self.bound, adapter) {
            if self.seen.insert(id) {
                self.pages += memory.pages_of(id);
            }
        }
    }
}

impl Scheduler {
    /// Chooses the next step's rows and takes the pages they need.
    pub fn plan(&mut self, gate: impl Fn(AdapterId) -> Gate) -> Plan {
        self.steps += 1;
        let mut plan = Plan::default();
        let mut budget = Budget {
            rows: self.limits.step_rows,
            scored: self.limits.scored_rows,
        };
        let mut adapters = StepAdapters::new(self.limits.step_adapter_pages);
        for rank in self.in_this_step(&mut adapters) {
            if budget.rows > 0 && self.make_room(rank, &mut plan, &mut budget) {
                self.take_chunk(rank, &mut budget, &mut plan);
            }
        }
        if plan.preempted.is_empty() {
            self.admit(&mut plan, budget, &mut adapters, gate);
        }
        self.note_evicted();
        plan
    }

    /// The running sequences that the next step may have, those that decode first. With a bound on
    /// adapters not all may: those left out longest come first, but for the one admitted first, which
    /// always moves on.
    fn in_this_step(&self, adapters: &mut StepAdapters) -> Vec<Rank> {
        let running = self.running.iter().filter(|(_, s)| !s.paused);
        let mut ranks: Vec<Rank> = running.map(|(rank, _)| *rank).collect();
        if adapters.bound.is_some() {
            let first = self.running.keys().next().copied();
            let stepped = |rank: &Rank| self.running.get(rank).map(|s| s.stepped);
            ranks.sort_by_key(|rank| (Some(*rank) != first, stepped(rank), *rank));
            ranks.retain(|rank| {
                let adapter = self.running.get(rank).and_then(|s| s.standing.adapter);
                let fits = adapters.fits(adapter, &self.memory);
                if fits {
                    adapters.add(adapter, &self.memory);
                }
                fits
            });
        }
        let prefill = |s: &Sequence| s.computed + 1 != s.tokens;
        ranks.sort_by_key(|rank| (self.running.get(rank).is_some_and(prefill), *rank));
        ranks
    }

    /// Records that a planned step was computed.
    pub fn commit(&mut self, plan: &Plan) {
        for chunk in &plan.chunks {
            let Some(rank) = self.ranks.get(&chunk.id) else {
                continue;
            };
            let Some(sequence) = self.running.get_mut(rank) else {
                continue;
            };
            let before = sequence.computed / PAGE_TOKENS;
            sequence.computed = chunk.start + chunk.rows;
            let wanted = &mut sequence.wanted.positions;
            wanted.start = wanted.start.max(sequence.computed).min(wanted.end);
            sequence.stepped = self.steps;
            self.queue.charge(sequence.standing, chunk.rows);
            let after = sequence.computed / PAGE_TOKENS;
            let names = sequence.blocks.iter().enumerate().take(after);
            for (index, name) in names.skip(before) {
                self.memory.name(&sequence.table, index, *name);
            }
        }
    }

    /// Grows a running sequence's table to its known tokens, displacing those admitted later as needed.
    /// `false` when the sequence itself was displaced, before or now.
    fn make_room(&mut self, rank: Rank, plan: &mut Plan, budget: &mut Budget) -> bool {
        loop {
            let Some(sequence) = self.running.get_mut(&rank) else {
                return false;
            };
            let memory = &mut self.memory;
            if memory.grow(&mut sequence.table, sequence.tokens, GiveWay::Unused)
                || memory.grow(&mut sequence.table, sequence.tokens, GiveWay::Awaited)
            {
                return true;
            }
            let Some((last, mut victim)) = self.running.pop_last() else {
                return false;
            };
            self.memory.release(&mut victim.table);
            if let Some(adapter) = victim.standing.adapter {
                self.memory.remove_running(adapter);
            }
            victim.computed = 0;
            victim.paused = false;
            let id = victim.id;
            plan.chunks.retain(|c| {
                let keep = c.id != id;
                if !keep {
                    budget.rows += c.rows;
                    budget.scored += victim.wanted.scored_in(c.start, c.rows);
                }
                keep
            });
            self.displaced.insert(last, victim);
            plan.preempted.push(id);
        }
    }

    pub(super) fn take_chunk(&self, rank: Rank, budget: &mut Budget, plan: &mut Plan) {
        let Some(sequence) = self.running.get(&rank) else {
            return;
        };
        let (start, wanted) = (sequence.computed, &sequence.wanted);
        let missing = sequence.tokens - start;
        let mut rows = missing.min(budget.rows);
        let scored = wanted.scored_in(start, rows);
        if scored > budget.scored {
            // Up to the first row that is one too many.
            rows = wanted.positions.start.max(start) - start + budget.scored;
        }
        if rows == 0 {
            return;
        }
        budget.rows -= rows;
        budget.scored -= scored.min(budget.scored);
        plan.chunks.push(Chunk {
            id: sequence.id,
            start,
            rows,
            complete: rows == missing,
        });
    }
}
