//! The engine's loop: take requests in, plan a step, compute it, draw tokens, deliver them.

mod adapters;
mod guide;
mod live;
mod rows;
mod step;

pub(crate) use live::Submission;

use crate::adapters::loader::{Copied, Fetched, Near};
use crate::adapters::registry::Registered;
use crate::adapters::residency::Residency;
use crate::adapters::{AdapterId, Registry};
use crate::backend::Backend;
use crate::error::{AdapterError, StepError};
use crate::kv::PAGE_TOKENS;
use crate::memory::prefix::BlockNames;
use crate::scheduler::queue::Standing;
use crate::scheduler::{Arrival, Limits, Scheduler, SequenceId};
use crate::stats::{EngineStats, Filling};
use guide::Guides;
use live::Live;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Adapters that are brought ahead of the turn of those who wait for them.
const LOOKAHEAD: usize = 32;

/// The longest that a loop that can compute nothing sleeps without looking for requests that were
/// dropped or are too late.
const DOZE: Duration = Duration::from_millis(20);

/// What reaches the loop: from handles, and from the loader's threads.
pub(crate) enum Command {
    /// Requests that begin with the same tokens: the first computes them for all.
    Submit(Vec<Submission>),
    /// It is known what may follow in an answer that was waited for.
    Guided(SequenceId),
    /// Keep an adapter on the device.
    Pin(Pinning),
    /// Bring an adapter to the device while there is free room.
    Prefetch(Arc<Registered>),
    /// No longer keep it there.
    Unpin(AdapterId),
    /// An adapter is registered no more.
    Retire(AdapterId),
    /// An adapter's files came within reach, or did not.
    Near(Near),
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

/// The state of the loop.
pub(crate) struct Core {
    backend: Box<dyn Backend>,
    vocabulary: usize,
    scheduler: Scheduler,
    residency: Residency,
    registry: Arc<Registry>,
    live: BTreeMap<SequenceId, Live>,
    /// Requests that wait for what another one computes.
    followers: HashMap<SequenceId, VecDeque<SequenceId>>,
    guides: Guides,
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
    pub sender: Sender<Command>,
    pub constraint_threads: usize,
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
            followers: HashMap::new(),
            guides: Guides::new(parts.constraint_threads, parts.vocabulary, parts.sender),
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
            Command::Submit(submissions) => self.take_requests(submissions),
            Command::Guided(id) => self.scheduler.pause(id, false),
            Command::Pin(pinning) => self.pinnings.push(pinning),
            Command::Prefetch(adapter) => self.prefetches.push_back(adapter),
            Command::Unpin(id) => self.unpin(id),
            Command::Retire(id) => {
                self.unpin(id);
                self.prefetches.retain(|a| a.id != id);
                self.tidy(Some(id));
            }
            Command::Near(near) => {
                let id = near.id;
                if let Err((id, error)) = self.residency.brought(near) {
                    self.fail_adapter(id, &error, false);
                }
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

    /// Takes in requests that begin with the same tokens.
    fn take_requests(&mut self, submissions: Vec<Submission>) {
        let mut leader = None;
        for submission in submissions {
            // Less than a page is not found again.
            let shares = submission.tokens.len() > PAGE_TOKENS;
            let id = self.take_request(submission, leader.filter(|_| shares));
            leader = leader.or(id);
        }
    }

    /// Takes in one request, to join the queue once its leader's prompt is computed; with none, now.
    /// None if it failed.
    fn take_request(
        &mut self,
        mut submission: Submission,
        leader: Option<SequenceId>,
    ) -> Option<SequenceId> {
        let id = self.next_id;
        self.next_id += 1;
        let constraint = submission.request.constraint.take();
        let request = &submission.request;
        let mut names = BlockNames::new(request.adapter, &request.cache_salt);
        let blocks = names.extend(&submission.tokens);
        let standing = Standing {
            tenant: request.tenant,
            adapter: request.adapter,
            priority: request.priority,
        };
        let mut live = Live::new(submission, names);
        let arrival = Arrival {
            tokens: live.prompt,
            blocks,
            standing,
            wanted: live.wanted(),
        };
        self.stats().record_prompt(live.prompt);
        let mut failure = None;
        if let Some(constraint) = constraint {
            match self.guides.begin(id, constraint) {
                Ok(guide) => live.guide = Some(guide),
                Err(error) => failure = Some(error.into()),
            }
        }
        match leader {
            Some(leader) => {
                live.held = Some(arrival);
                self.followers.entry(leader).or_default().push_back(id);
            }
            None => self.scheduler.enqueue(id, arrival),
        }
        self.live.insert(id, live);
        if let Some(error) = failure {
            self.fail(id, error);
            return None;
        }
        Some(id)
    }

    /// Lets those into the queue that waited for what a request computed.
    fn release_followers(&mut self, leader: SequenceId) {
        for id in self.followers.remove(&leader).into_iter().flatten() {
            self.release(id);
        }
    }

    /// Lets the first of those into the queue that waited for what a request will not compute any more;
    /// the others wait for that one.
    fn pass_on_followers(&mut self, leader: SequenceId) {
        let Some(mut followers) = self.followers.remove(&leader) else {
            return;
        };
        while let Some(id) = followers.pop_front() {
            if self.release(id) {
                if !followers.is_empty() {
                    self.followers.insert(id, followers);
                }
                return;
            }
        }
    }

    /// `false` when it is gone.
    fn release(&mut self, id: SequenceId) -> bool {
        let held = self.live.get_mut(&id).and_then(|live| live.held.take());
        let is_here = held.is_some();
        if let Some(arrival) = held {
            self.scheduler.enqueue(id, arrival);
        }
        is_here
    }

    fn stats(&self) -> MutexGuard<'_, EngineStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_load(&mut self) {
        let held: usize = self.followers.values().map(VecDeque::len).sum();
        let (running, waiting) = (self.scheduler.running(), self.scheduler.waiting() + held);
        let memory = self.scheduler.memory();
        let filling = Filling {
            used: memory.used_blocks(),
            cached: memory.cached_blocks(),
            adapters: memory.slab_pages(),
        };
        let device = self.residency.usage();
        let host = self.residency.host_usage();
        let counts = self.residency.counts().clone();
        let mut stats = self.stats();
        stats.record_load(running, waiting, filling);
        stats.record_tiers(device, host, &counts);
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
        self.pass_on_followers(id);
        self.tidy(live.submission.request.adapter);
        Some(live)
    }

    /// Lets go of an adapter that is registered no more, once no request has it: one that waits for it
    /// would have it read again and again otherwise.
    fn tidy(&mut self, adapter: Option<AdapterId>) {
        let Some(id) = adapter else {
            return;
        };
        let asked = || {
            self.live
                .values()
                .any(|live| live.submission.request.adapter == Some(id))
        };
        if self.registry.lease(id).is_none() && !asked() {
            self.residency.tidy(id, &mut self.scheduler);
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
}
