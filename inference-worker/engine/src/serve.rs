//! The engine's loop: take requests in, plan a step, compute it, draw tokens, deliver them.

use crate::adapters::image::DeviceAdapter;
use crate::adapters::loader::{Copied, Fetched};
use crate::adapters::registry::Registered;
use crate::adapters::residency::{Residency, Room, Wanted};
use crate::adapters::{AdapterId, Registry};
use crate::backend::{Backend, StepBatch};
use crate::error::{AdapterError, StepError};
use crate::fingerprint::Fingerprint;
use crate::lora::LoraBatch;
use crate::memory::prefix::BlockNames;
use crate::queue_room::Place;
use crate::request::{Event, FinishReason, Finished, Logprobs, Request, Sharing, StopCheck, Token};
use crate::sampling::{self, Sampling};
use crate::scheduler::queue::Standing;
use crate::scheduler::{Arrival, Chunk, Limits, Plan, Scheduler, SequenceId};
use crate::stats::{EngineStats, Filling};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Logits below which drawing is not handed to other threads.
const SERIAL_DRAWS: usize = 100_000;

/// Adapters that are brought ahead of the turn of those who wait for them.
const LOOKAHEAD: usize = 32;

/// The longest that a loop that can compute nothing sleeps without looking for requests that were
/// dropped or are too late.
const DOZE: Duration = Duration::from_millis(20);

/// What reaches the loop: from handles, and from the loader's threads.
pub(crate) enum Command {
    Submit(Box<Submission>),
    /// Keep an adapter on the device.
    Pin(Pinning),
    /// Bring an adapter to the device while there is free room.
    Prefetch(Arc<Registered>),
    /// No longer keep it there.
    Unpin(AdapterId),
    /// An adapter is registered no more.
    Retire(AdapterId),
    /// An adapter was read, or could not be.
    Fetched(Fetched),
    /// A copy is half done.
    Arrived,
    /// A copy is done, or broke off.
    Copied(Copied),
    Stop,
}

/// An adapter that is to stay on the device, and who is told once it is there.
pub(crate) struct Pinning {
    pub adapter: Arc<Registered>,
    pub done: std::sync::mpsc::Sender<Result<(), AdapterError>>,
}

/// A checked request on its way through the engine.
pub(crate) struct Submission {
    request: Request,
    /// The lease.
    adapter: Option<Arc<Registered>>,
    /// Prompt and output.
    tokens: Vec<u32>,
    /// Length of `tokens` at which the answer ends.
    limit: usize,
    fingerprint: Fingerprint,
    widest_step: Sharing,
    sink: UnboundedSender<Event>,
    submitted: Instant,
    last_token: Instant,
    _place: Place,
}

impl Submission {
    pub(crate) fn new(
        mut request: Request,
        adapter: Option<Arc<Registered>>,
        context: usize,
        sink: UnboundedSender<Event>,
        place: Place,
    ) -> Self {
        let tokens = std::mem::take(&mut request.prompt);
        let limit = tokens
            .len()
            .saturating_add(request.max_new_tokens)
            .min(context);
        let now = Instant::now();
        Self {
            fingerprint: Fingerprint::new(request.adapter, &tokens),
            request,
            adapter,
            tokens,
            limit,
            widest_step: Sharing::default(),
            sink,
            submitted: now,
            last_token: now,
            _place: place,
        }
    }
}

struct Live {
    submission: Submission,
    prompt: usize,
    names: BlockNames,
    /// Whether its adapter was not there when it came near the head of the queue.
    waited: bool,
    /// Whether it ran once.
    begun: bool,
}

/// What one row of logits led to.
struct Drawn {
    token: u32,
    logprobs: Option<Logprobs>,
    fingerprint: Fingerprint,
}

/// The state of the loop.
pub(crate) struct Core {
    backend: Box<dyn Backend>,
    vocabulary: usize,
    scheduler: Scheduler,
    residency: Residency,
    registry: Arc<Registry>,
    live: BTreeMap<SequenceId, Live>,
    pinnings: Vec<Pinning>,
    prefetches: VecDeque<Arc<Registered>>,
    /// Pages that pinned adapters may take.
    most_pinned: usize,
    context_pages: usize,
    next_id: SequenceId,
    batch_window: Duration,
    commands: Receiver<Command>,
    stats: Arc<Mutex<EngineStats>>,
    /// Nothing can be computed before something comes.
    stalled: bool,
}

/// What a loop starts with.
pub(crate) struct Parts {
    pub backend: Box<dyn Backend>,
    pub vocabulary: usize,
    pub limits: Limits,
    pub pages: u32,
    pub residency: Residency,
    pub registry: Arc<Registry>,
    pub most_pinned: usize,
    pub batch_window: Duration,
    pub commands: Receiver<Command>,
    pub stats: Arc<Mutex<EngineStats>>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            backend: parts.backend,
            vocabulary: parts.vocabulary,
            scheduler: Scheduler::new(parts.limits, parts.pages),
            residency: parts.residency,
            registry: parts.registry,
            live: BTreeMap::new(),
            pinnings: Vec::new(),
            prefetches: VecDeque::new(),
            most_pinned: parts.most_pinned,
            context_pages: parts.limits.context_pages,
            next_id: 0,
            batch_window: parts.batch_window,
            commands: parts.commands,
            stats: parts.stats,
            stalled: false,
        }
    }

    /// Serves until told to stop or until no handle is left.
    pub(crate) fn run(mut self) {
        while self.take_commands() {
            if self.is_idle() {
                // What was read for nobody any more.
                self.residency.begin_round(&HashSet::new());
            }
            self.drop_cancelled();
            self.drop_late();
            if !self.is_idle() {
                self.bring_adapters();
                self.step();
            }
            self.record_load();
        }
    }

    fn is_idle(&self) -> bool {
        self.live.is_empty() && self.pinnings.is_empty() && self.prefetches.is_empty()
    }

    /// Takes what has come; with nothing to do, waits for it. `false` to stop.
    fn take_commands(&mut self) -> bool {
        if self.is_idle() {
            match self.commands.recv() {
                Ok(command) => {
                    let submitted = matches!(command, Command::Submit(_));
                    if !self.take(command) {
                        return false;
                    }
                    if submitted && !self.gather() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        } else if self.stalled {
            match self.commands.recv_timeout(DOZE) {
                Ok(command) => {
                    if !self.take(command) {
                        return false;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        self.stalled = false;
        loop {
            match self.commands.try_recv() {
                Ok(command) => {
                    if !self.take(command) {
                        return false;
                    }
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Waits for others that come together with a first request.
    fn gather(&mut self) -> bool {
        let until = Instant::now() + self.batch_window;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            match self.commands.recv_timeout(left) {
                Ok(command) => {
                    if !self.take(command) {
                        return false;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// `false` to stop.
    fn take(&mut self, command: Command) -> bool {
        match command {
            Command::Submit(submission) => self.enqueue(*submission),
            Command::Pin(pinning) => self.pinnings.push(pinning),
            Command::Prefetch(adapter) => self.prefetches.push_back(adapter),
            Command::Unpin(id) => self.unpin(id),
            Command::Retire(id) => {
                self.unpin(id);
                self.prefetches.retain(|a| a.id != id);
                self.tidy(Some(id));
            }
            Command::Fetched(fetched) => {
                let id = fetched.id;
                if let Err((id, error)) = self.residency.fetched(fetched) {
                    self.fail_adapter(id, &error, false);
                }
                self.tidy(Some(id));
            }
            Command::Arrived => {}
            Command::Copied(copied) => {
                let id = copied.id;
                if let Err((id, error)) = self.residency.copied(copied, &mut self.scheduler) {
                    self.fail_adapter(id, &error, true);
                    self.residency.tidy(id, &mut self.scheduler);
                }
                self.tidy(Some(id));
            }
            Command::Stop => return false,
        }
        true
    }

    /// Lets an adapter go that is pinned, or about to be.
    fn unpin(&mut self, id: AdapterId) {
        self.scheduler.memory_mut().pin(id, false);
        self.refuse_pinnings(|a| a.id == id, &AdapterError::Unknown(id));
    }

    /// Answers those who wait for adapters to be pinned.
    fn refuse_pinnings(&mut self, which: impl Fn(&Registered) -> bool, error: &AdapterError) {
        for pinning in std::mem::take(&mut self.pinnings) {
            if which(&pinning.adapter) {
                // An error means that nobody waits for the answer.
                let _ = pinning.done.send(Err(error.clone()));
            } else {
                self.pinnings.push(pinning);
            }
        }
    }

    fn enqueue(&mut self, submission: Submission) {
        let id = self.next_id;
        self.next_id += 1;
        let prompt = submission.tokens.len();
        let request = &submission.request;
        let mut names = BlockNames::new(request.adapter, &request.cache_salt);
        let arrival = Arrival {
            tokens: prompt,
            blocks: names.extend(&submission.tokens),
            standing: Standing {
                tenant: request.tenant,
                adapter: request.adapter,
                priority: request.priority,
            },
        };
        self.scheduler.enqueue(id, arrival);
        self.live.insert(
            id,
            Live {
                submission,
                prompt,
                names,
                waited: false,
                begun: false,
            },
        );
        self.stats().record_prompt(prompt);
    }

    fn stats(&self) -> MutexGuard<'_, EngineStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_load(&mut self) {
        let (running, waiting) = (self.scheduler.running(), self.scheduler.waiting());
        let memory = self.scheduler.memory();
        let filling = Filling {
            used: memory.used_blocks(),
            cached: memory.cached_blocks(),
            adapters: memory.slab_pages(),
        };
        let device = self.residency.usage();
        let counts = self.residency.counts().clone();
        let mut stats = self.stats();
        stats.record_load(running, waiting, filling);
        stats.record_tiers(device, &counts);
    }

    fn drop_cancelled(&mut self) {
        let gone: Vec<SequenceId> = self
            .live
            .iter()
            .filter(|(_, live)| live.submission.sink.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if self.forget(id).is_some() {
                self.stats().record_cancel();
            }
        }
    }

    /// Fails what was not begun in time.
    fn drop_late(&mut self) {
        let now = Instant::now();
        let late = |live: &Live| {
            let start_by = live.submission.request.start_by;
            !live.begun && start_by.is_some_and(|by| by <= now)
        };
        let late: Vec<SequenceId> = self
            .live
            .iter()
            .filter(|(_, live)| late(live))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.fail(id, StepError::Expired);
        }
    }

    /// Takes a request out of everything, and its adapter from the device if it is registered no more.
    fn forget(&mut self, id: SequenceId) -> Option<Live> {
        self.scheduler.remove(id);
        let live = self.live.remove(&id)?;
        self.tidy(live.submission.request.adapter);
        Some(live)
    }

    fn tidy(&mut self, adapter: Option<AdapterId>) {
        if let Some(id) = adapter {
            if self.registry.lease(id).is_none() {
                self.residency.tidy(id, &mut self.scheduler);
            }
        }
    }

    /// Fails the requests that wait for an adapter, or also those that run with it.
    fn fail_adapter(&mut self, id: AdapterId, error: &StepError, running: bool) {
        let scheduler = &self.scheduler;
        let concerned = |(sequence, live): &(&SequenceId, &Live)| {
            live.submission.request.adapter == Some(id)
                && (running || !scheduler.is_running(**sequence))
        };
        let failed: Vec<SequenceId> = self
            .live
            .iter()
            .filter(concerned)
            .map(|(id, _)| *id)
            .collect();
        for id in failed {
            self.fail(id, error.clone());
        }
        self.prefetches.retain(|a| a.id != id);
        self.refuse_pinnings(|a| a.id == id, &AdapterError::Load(error.clone()));
    }

    /// Brings the adapters of those who are next, in their order; then those that are to be pinned.
    fn bring_adapters(&mut self) {
        let upcoming = self.scheduler.upcoming(LOOKAHEAD);
        let mut wanted: Vec<(Option<SequenceId>, Arc<Registered>)> = Vec::new();
        for (id, _) in upcoming {
            let live = self.live.get(&id);
            if let Some(adapter) = live.and_then(|l| l.submission.adapter.as_ref()) {
                wanted.push((Some(id), Arc::clone(adapter)));
            }
        }
        for pinning in &self.pinnings {
            wanted.push((None, Arc::clone(&pinning.adapter)));
        }
        let prefetches = self.prefetches.iter().take(LOOKAHEAD);
        let all = wanted.iter().map(|(_, a)| a).chain(prefetches);
        let ids: HashSet<AdapterId> = all.map(|a| a.id).collect();
        self.residency.begin_round(&ids);
        let mut ahead = None;
        // Once somebody waits for room nobody behind takes it; adapters are still read ahead.
        let mut full = false;
        for (id, adapter) in wanted {
            if id.is_none() && self.refuse_large_pin(&adapter) {
                continue;
            }
            let room = if full {
                Room::None
            } else {
                Room::Make { ahead }
            };
            let here = self.residency.get(adapter.id).is_some();
            let (scheduler, backend) = (&mut self.scheduler, &mut *self.backend);
            let found = self.residency.want(&adapter, room, scheduler, backend);
            if let (false, Some(live)) = (here, id.and_then(|id| self.live.get_mut(&id))) {
                live.waited = true;
            }
            match found {
                Ok(Wanted::Present) => {
                    ahead = ahead.or(Some(adapter.id));
                    if let Some(id) = id {
                        self.scheduler.hold_adapter(id);
                    }
                }
                Ok(Wanted::Coming) => {}
                Ok(Wanted::NoRoom) => full = true,
                Ok(Wanted::Never(error)) => self.fail_adapter(adapter.id, &error, false),
                Err(error) => {
                    tracing::error!(%error, "pages could not be moved");
                    self.scheduler.forget_prefixes();
                    self.fail_all(&error);
                    return;
                }
            }
        }
        if !full {
            self.prefetch();
        }
        self.settle_pinnings();
    }

    /// Refuses to pin what is larger than pinned adapters may be, before anything makes room for it.
    fn refuse_large_pin(&mut self, adapter: &Registered) -> bool {
        let Some(pages) = self.residency.pages(adapter) else {
            return false;
        };
        let needed = self.scheduler.memory().pinned_pages() + pages;
        let (id, page_bytes) = (adapter.id, self.backend.page_bytes());
        let large = needed > self.most_pinned && !self.scheduler.memory().is_pinned(id);
        if large {
            let error = AdapterError::PinnedFull {
                needed: needed * page_bytes,
                most: self.most_pinned * page_bytes,
            };
            self.refuse_pinnings(|a| a.id == id, &error);
        }
        large
    }

    /// Brings the first of the adapters that were asked for ahead of any request, as long as there is
    /// room that nobody else has.
    fn prefetch(&mut self) {
        let ahead: Vec<_> = self.prefetches.iter().take(LOOKAHEAD).cloned().collect();
        let mut done = HashSet::new();
        for adapter in ahead {
            let (scheduler, backend) = (&mut self.scheduler, &mut *self.backend);
            let wanted = self
                .residency
                .want(&adapter, Room::Free, scheduler, backend);
            if !matches!(wanted, Ok(Wanted::Coming)) {
                done.insert(adapter.id);
            }
        }
        self.prefetches.retain(|a| !done.contains(&a.id));
    }

    /// Pins the adapters that have arrived.
    fn settle_pinnings(&mut self) {
        for pinning in std::mem::take(&mut self.pinnings) {
            let id = pinning.adapter.id;
            let arrived = self
                .residency
                .get(id)
                .is_some_and(|d| d.layers_arrived() == d.table.layers());
            if !arrived {
                self.pinnings.push(pinning);
                continue;
            }
            let memory = self.scheduler.memory_mut();
            while !memory.may_pin(id, self.context_pages) && memory.drop_largest_idle(id) {}
            if memory.may_pin(id, self.context_pages) {
                memory.pin(id, true);
                // An error means that nobody waits for the answer.
                let _ = pinning.done.send(Ok(()));
            } else {
                // Beside something large that is in use now.
                self.pinnings.push(pinning);
            }
        }
        self.residency.forget_evicted(&mut self.scheduler);
    }

    fn step(&mut self) {
        let started = Instant::now();
        let residency = &self.residency;
        let mut plan = self.scheduler.plan(|id| residency.gate(id));
        self.residency.forget_evicted(&mut self.scheduler);
        if !plan.preempted.is_empty() {
            self.stats().record_preemptions(plan.preempted.len());
        }
        if plan.prefix.0 > 0 {
            self.stats().record_prefix(plan.prefix);
        }
        if plan.chunks.is_empty() {
            self.stalled = true;
            return;
        }
        // An adapter that is not there is an error, never the base model.
        let residency = &self.residency;
        let lost = |id: &SequenceId| {
            let adapter = self.live.get(id)?.submission.request.adapter?;
            residency.get(adapter).is_none().then_some(*id)
        };
        let lost: Vec<SequenceId> = plan.chunks.iter().filter_map(|c| lost(&c.id)).collect();
        for id in lost {
            plan.chunks.retain(|c| c.id != id);
            self.fail(id, StepError::Adapter("it left the device".to_owned()));
        }
        let (batch, drawing) = self.batch(&mut plan);
        let sharing = Sharing {
            requests: plan.chunks.len(),
            distinct_adapters: batch.lora.distinct_adapters(),
            base_requests: plan
                .chunks
                .iter()
                .filter(|c| {
                    self.live
                        .get(&c.id)
                        .is_some_and(|l| l.submission.adapter.is_none())
                })
                .count(),
        };
        let drawn = match self.backend.step(&batch) {
            Ok(output) => draw_all(&self.live, &drawing, output.logits, self.vocabulary),
            Err(error) => {
                self.step_failed(&plan, &error);
                return;
            }
        };
        self.scheduler.commit(&plan);
        let took = started.elapsed();
        if batch.tokens.len() > drawing.len() {
            // A step with prefill: what a row of it costs is what a kept block saves.
            let nanoseconds = took.as_nanos() as u64 / batch.tokens.len() as u64;
            self.scheduler.memory_mut().set_row_cost(nanoseconds);
        }
        self.stats()
            .record_step(sharing, batch.tokens.len(), drawing.len(), took);
        for chunk in &plan.chunks {
            if let Some(live) = self.live.get_mut(&chunk.id) {
                if !live.begun {
                    live.begun = true;
                    let adapter = live.submission.request.adapter;
                    let hit = adapter.is_some() && !live.waited;
                    self.residency.counts().device_hits += u64::from(hit);
                }
                let widest = &mut live.submission.widest_step;
                *widest = sharing.max(*widest);
            }
        }
        for (id, drawn) in drawing.into_iter().zip(drawn) {
            match drawn {
                Ok(drawn) => self.deliver(id, drawn),
                Err(error) => self.fail(id, error),
            }
        }
    }

    /// Orders the plan's chunks by adapter and lists their rows. The ids are those whose next token is
    /// drawn, in order of the wanted rows.
    fn batch(&self, plan: &mut Plan) -> (StepBatch, Vec<SequenceId>) {
        let live = &self.live;
        let adapter = |c: &Chunk| -> Option<&Arc<DeviceAdapter>> {
            let id = live.get(&c.id)?.submission.request.adapter?;
            self.residency.get(id)
        };
        let mut batch = StepBatch {
            lora: LoraBatch::group(&mut plan.chunks, adapter, |c| c.rows),
            ..StepBatch::default()
        };
        let mut drawing = Vec::new();
        for (sequence, chunk) in plan.chunks.iter().enumerate() {
            let Chunk {
                id, start, rows, ..
            } = *chunk;
            let tokens = live.get(&id).map_or(&[][..], |l| &l.submission.tokens);
            batch.tokens.extend(&tokens[start..start + rows]);
            batch
                .positions
                .extend((start..start + rows).map(|p| p as u32));
            batch
                .sequences
                .extend(std::iter::repeat_n(sequence as u32, rows));
            batch.tables.push(self.scheduler.table(id).to_vec());
            if chunk.complete {
                batch.wanted.push(batch.tokens.len() as u32 - 1);
                drawing.push(id);
            }
        }
        (batch, drawing)
    }

    fn deliver(&mut self, id: SequenceId, drawn: Drawn) {
        let Some(Live {
            submission,
            prompt,
            names,
            ..
        }) = self.live.get_mut(&id)
        else {
            return;
        };
        let first = submission.tokens.len() == *prompt;
        submission.fingerprint = drawn.fingerprint;
        if submission.request.stop_tokens.contains(&drawn.token) {
            return self.finish(id, FinishReason::StopToken(drawn.token));
        }
        submission.tokens.push(drawn.token);
        let block = names.push(drawn.token);
        // A closed stream is noticed before the next step.
        let _ = submission.sink.send(Event::Token(Token {
            id: drawn.token,
            logprobs: drawn.logprobs,
        }));
        let since = submission.last_token.elapsed();
        submission.last_token = Instant::now();
        let output = &submission.tokens[*prompt..];
        // The check is somebody else's code: its panic is that request's failure, not the engine's end.
        let check = |stop: &mut StopCheck| catch_unwind(AssertUnwindSafe(|| stop(output)));
        let Ok(stopped) = submission.request.stop.as_mut().map_or(Ok(false), check) else {
            return self.fail(id, StepError::StopCheck);
        };
        let ended = if stopped {
            Some(FinishReason::StopCheck)
        } else if submission.tokens.len() >= submission.limit {
            Some(FinishReason::Length)
        } else {
            None
        };
        self.stats().record_token(first, since);
        match ended {
            Some(reason) => self.finish(id, reason),
            None => self.scheduler.append(id, block),
        }
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        let Some(Live {
            submission, prompt, ..
        }) = self.forget(id)
        else {
            return;
        };
        self.stats()
            .record_finish(reason, submission.submitted.elapsed());
        self.record_load();
        let finished = Finished {
            reason,
            prompt_tokens: prompt,
            output_tokens: submission.tokens.len() - prompt,
            fingerprint: submission.fingerprint.root(),
            widest_step: submission.widest_step,
        };
        // Who sees the end finds lease and place given back.
        let sink = submission.sink.clone();
        drop(submission);
        let _ = sink.send(Event::Finished(finished));
    }

    fn fail(&mut self, id: SequenceId, error: StepError) {
        if let Some(live) = self.forget(id) {
            self.stats().record_failure();
            let sink = live.submission.sink.clone();
            drop(live);
            let _ = sink.send(Event::Failed(error));
        }
    }

    /// Fails what a failed step had in it: of an adapter whose copy broke off, its own requests, and the
    /// others are computed again; else all of them, and what the blocks hold is trusted no more.
    fn step_failed(&mut self, plan: &Plan, error: &StepError) {
        tracing::error!(%error, "step failed");
        let lost = |chunk: &Chunk| {
            let adapter = self.live.get(&chunk.id)?.submission.request.adapter?;
            let failure = self.residency.get(adapter)?.failure()?;
            Some((chunk.id, failure))
        };
        let lost: Vec<(SequenceId, StepError)> = plan.chunks.iter().filter_map(lost).collect();
        if !lost.is_empty() {
            for (id, failure) in lost {
                self.fail(id, failure);
            }
            return;
        }
        self.scheduler.forget_prefixes();
        for chunk in &plan.chunks {
            self.fail(chunk.id, error.clone());
        }
    }

    /// Fails everything: the pages are not what they should be.
    fn fail_all(&mut self, error: &StepError) {
        let all: Vec<SequenceId> = self.live.keys().copied().collect();
        for id in all {
            self.fail(id, error.clone());
        }
    }
}

/// What a draw needs of its request.
struct Draw<'a> {
    position: usize,
    sampling: Sampling,
    seed: [u8; 32],
    alternatives: Option<usize>,
    fingerprint: &'a Fingerprint,
}

fn draw_all(
    live: &BTreeMap<SequenceId, Live>,
    drawing: &[SequenceId],
    logits: &[f32],
    vocabulary: usize,
) -> Vec<Result<Drawn, StepError>> {
    let draws: Vec<Option<Draw<'_>>> = drawing
        .iter()
        .map(|id| {
            let Submission {
                request,
                tokens,
                fingerprint,
                ..
            } = &live.get(id)?.submission;
            Some(Draw {
                position: tokens.len(),
                sampling: request.sampling,
                seed: request.seed,
                alternatives: request.logprobs,
                fingerprint,
            })
        })
        .collect();
    let one = |(draw, logits): (&Option<Draw<'_>>, &[f32])| match draw {
        Some(draw) => draw.run(logits),
        None => Err(StepError::Backend("a row without a request".to_owned())),
    };
    if logits.len() < SERIAL_DRAWS {
        let rows = logits.chunks_exact(vocabulary);
        draws.iter().zip(rows).map(one).collect()
    } else {
        let rows = logits.par_chunks_exact(vocabulary);
        draws.par_iter().zip(rows).map(one).collect()
    }
}

impl Draw<'_> {
    fn run(&self, logits: &[f32]) -> Result<Drawn, StepError> {
        if !logits.iter().all(|v| v.is_finite()) {
            return Err(StepError::NotFinite);
        }
        let position = self.position;
        let token = sampling::draw(logits, &self.sampling, &self.seed, position as u64);
        let mut fingerprint = self.fingerprint.clone();
        fingerprint.push(position as u32, logits, token);
        let logprobs = self.alternatives.map(|alternatives| {
            let normaliser = sampling::log_normaliser(logits);
            let logprob = |value: f32| (f64::from(value) - normaliser) as f32;
            Logprobs {
                chosen: logprob(logits[token as usize]),
                top: sampling::top(logits, alternatives)
                    .into_iter()
                    .map(|(id, value)| (id, logprob(value)))
                    .collect(),
            }
        });
        Ok(Drawn {
            token,
            logprobs,
            fingerprint,
        })
    }
}
