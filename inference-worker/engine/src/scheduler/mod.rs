//! Continuous batching: which rows of which sequences the next step computes.
//!
//! A policy without effects. Each step has one budget of rows: first every sequence that decodes gets
//! its row, then prompts are prefilled in chunks, then waiting sequences are admitted, in the order of
//! the [`queue`]. Memory is not reserved for tokens not yet generated: more sequences are admitted than
//! could all be held to their end, and when a page is missing the one admitted last gives up its own,
//! to be recomputed later, before anything new is admitted. The one admitted first is never displaced
//! and fits by itself, so every sequence finishes.

pub mod queue;

use crate::adapters::AdapterId;
use crate::kv::{pages_for, BlockTable, PAGE_TOKENS};
use crate::memory::prefix::BlockHash;
use crate::memory::{GiveWay, Memory, Reserved};
use queue::{FairQueue, Standing, Take};
use std::collections::{BTreeMap, HashMap, HashSet};
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

    /// Nobody waits for the slab of an adapter that gave way: whoever did asks again.
    fn note_evicted(&mut self) {
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

    /// Records that a token was drawn for a running sequence, and the name of the block it completes.
    pub fn append(&mut self, id: SequenceId, block: Option<BlockHash>) {
        let rank = self.ranks.get(&id);
        if let Some(sequence) = rank.and_then(|rank| self.running.get_mut(rank)) {
            sequence.tokens += 1;
            sequence.blocks.extend(block);
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

    fn take_chunk(&self, rank: Rank, budget: &mut Budget, plan: &mut Plan) {
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

    /// Admits in the queue's order. Who waits for an adapter on its way lets others go first; who waits
    /// for memory does not, or could wait for ever.
    fn admit(
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

/// What is left of a step.
#[derive(Clone, Copy, Debug)]
struct Budget {
    rows: usize,
    scored: usize,
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

/// The different adapters of a step, within their bound.
struct StepAdapters {
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

    fn fits(&self, adapter: Option<AdapterId>, memory: &Memory) -> bool {
        match (self.bound, adapter) {
            (Some(bound), Some(id)) if !self.seen.contains(&id) => {
                // The one admitted first, and the one left out longest.
                self.seen.len() < 2 || self.pages + memory.pages_of(id) <= bound
            }
            _ => true,
        }
    }

    fn add(&mut self, adapter: Option<AdapterId>, memory: &Memory) {
        if let (Some(_), Some(id)) = (self.bound, adapter) {
            if self.seen.insert(id) {
                self.pages += memory.pages_of(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
