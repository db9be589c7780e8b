//! Admission: who of those that wait begins, and with which pages.

use super::queue::Take;
use super::step::{Budget, Plan, StepAdapters};
use super::{Rank, Scheduler, SequenceId};
use crate::adapters::AdapterId;
use crate::kv::{pages_for, BlockTable, PAGE_TOKENS};
use crate::memory::GiveWay;
use std::collections::HashSet;

/// Whether a sequence with an adapter may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The adapter is there, or near enough.
    Open,
    /// It is on its way: others may go first.
    Loading,
    /// It waits for memory: nobody goes first, so that what runs comes to an end and makes room.
    Full,
}

impl Scheduler {
    /// The first sequence of each line of those that are admitted next, with the adapter that it waits
    /// for: at most `limit` different adapters, in the order in which they are needed.
    pub fn upcoming(&self, limit: usize) -> Vec<(SequenceId, AdapterId)> {
        let mut seen = HashSet::new();
        let mut upcoming = Vec::new();
        for sequence in self.displaced.values() {
            if let Some(adapter) = sequence.standing.adapter {
                if upcoming.len() < limit && seen.insert(adapter) {
                    upcoming.push((sequence.id, adapter));
                }
            }
        }
        let ids = self.queue.next(limit - upcoming.len(), |adapter| {
            if adapter.is_some_and(|adapter| seen.insert(adapter)) {
                Take::One
            } else {
                Take::Nothing
            }
        });
        for id in ids {
            let adapter = self.get(id).and_then(|s| s.standing.adapter);
            upcoming.extend(adapter.map(|adapter| (id, adapter)));
        }
        upcoming
    }

    /// Admits in the queue's order. Who waits for an adapter on its way lets others go first; who waits
    /// for memory does not, or could wait for ever.
    pub(super) fn admit(
        &mut self,
        plan: &mut Plan,
        mut budget: Budget,
        adapters: &mut StepAdapters,
        gate: impl Fn(AdapterId) -> Gate,
    ) {
        let places = self.limits.running.saturating_sub(self.running.len());
        if budget.rows == 0 || places == 0 {
            return;
        }
        // Those who wait for adapters on their way are passed over, however many they are.
        let memory = &self.memory;
        let passed = |adapter: Option<AdapterId>| {
            adapter.is_some_and(|a| match gate(a) {
                Gate::Loading => true,
                Gate::Open => memory.pages_of(a) == 0,
                Gate::Full => false,
            })
        };
        let displaced = self.displaced.values();
        let mut ids: Vec<SequenceId> = displaced
            .filter(|s| !passed(s.standing.adapter))
            .map(|s| s.id)
            .collect();
        ids.extend(self.queue.next(places, |adapter| {
            if passed(adapter) {
                Take::Nothing
            } else {
                Take::Go
            }
        }));
        for id in ids {
            let adapter = self.get(id).and_then(|s| s.standing.adapter);
            if budget.rows == 0 || self.running.len() >= self.limits.running {
                return;
            }
            match adapter.map_or(Gate::Open, &gate) {
                // It may have given way to a sequence of this very step.
                Gate::Open if adapter.is_some_and(|a| self.memory.pages_of(a) == 0) => continue,
                Gate::Open => {}
                Gate::Loading => continue,
                Gate::Full => return,
            }
            let Some(rank) = self.start(id, plan) else {
                return;
            };
            // Beyond the bound on adapters it takes its turn in a later step.
            if adapters.fits(adapter, &self.memory) {
                adapters.add(adapter, &self.memory);
                self.take_chunk(rank, &mut budget, plan);
            }
        }
    }

    /// Gives a waiting sequence its pages and makes it run. None when they are not there.
    fn start(&mut self, id: SequenceId, plan: &mut Plan) -> Option<Rank> {
        let sequence = self.get(id)?;
        let (tokens, adapter) = (sequence.tokens, sequence.standing.adapter);
        // The last token is computed in any case: its logits are wanted.
        let mut last = tokens.saturating_sub(1);
        if !sequence.wanted.positions.is_empty() {
            last = last.min(sequence.wanted.positions.start);
        }
        let reusable = (last / PAGE_TOKENS).min(sequence.blocks.len());
        let names = &sequence.blocks[..reusable];
        let (known, unused) = self.memory.known(names);
        // One page in hand for each sequence that runs: what is admitted is not displaced at once. The
        // sequence's own adapter must not be counted among what gives way.
        let needed = pages_for(tokens) - known + self.running.len();
        if let Some(adapter) = adapter {
            self.memory.add_running(adapter);
        }
        // Whoever is admitted may come to be the first, which is never displaced.
        let firm = self.memory.firm_pages(adapter) + self.limits.context_pages;
        let alone = self.running.is_empty();
        let way = if alone {
            GiveWay::Awaited
        } else {
            GiveWay::Unused
        };
        let room = firm <= self.memory.total() && needed + unused <= self.memory.available(way);
        let mut table = BlockTable::default();
        if room {
            let names = self.get(id).map_or(&[][..], |s| &s.blocks[..known]);
            let names = names.to_vec();
            self.memory.begin(&mut table, &names);
        }
        if !room || !self.memory.grow(&mut table, tokens, way) {
            self.memory.release(&mut table);
            if let Some(adapter) = adapter {
                self.memory.remove_running(adapter);
            }
            return None;
        }
        let rank = match self.ranks.get(&id) {
            Some(rank) => *rank,
            None => {
                self.next_rank += 1;
                self.ranks.insert(id, self.next_rank);
                self.next_rank
            }
        };
        let mut sequence = match self.displaced.remove(&rank) {
            Some(sequence) => sequence,
            None => {
                let sequence = self.waiting.remove(&id)?;
                self.queue.start(id, sequence.standing);
                if let Some(adapter) = adapter {
                    self.memory.ask_slab(adapter);
                }
                self.memory.ask_blocks(&table, known);
                sequence
            }
        };
        self.stop_waiting(&sequence);
        sequence.awaiting = false;
        sequence.computed = known * PAGE_TOKENS;
        sequence.table = table;
        plan.prefix.0 += tokens;
        plan.prefix.1 += sequence.computed;
        self.running.insert(rank, sequence);
        Some(rank)
    }
}
