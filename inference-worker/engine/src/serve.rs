//! The engine's loop: take requests in, plan a step, compute it, draw tokens, deliver them.

use crate::backend::{Backend, StepBatch};
use crate::engine::Place;
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::lora::{LoraAdapter, LoraBatch};
use crate::request::{Event, FinishReason, Finished, Logprobs, Request, Sharing, StopCheck, Token};
use crate::sampling::{self, Sampling};
use crate::scheduler::{Chunk, Limits, Plan, Scheduler, SequenceId};
use crate::stats::EngineStats;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Logits below which drawing is not handed to other threads.
const SERIAL_DRAWS: usize = 100_000;

/// What handles send to the loop.
pub(crate) enum Command {
    Submit(Box<Submission>),
    Stop,
}

/// A checked request on its way through the engine.
pub(crate) struct Submission {
    request: Request,
    adapter: Option<Arc<LoraAdapter>>,
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
        adapter: Option<Arc<LoraAdapter>>,
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
    live: BTreeMap<SequenceId, Live>,
    next_id: SequenceId,
    batch_window: Duration,
    commands: Receiver<Command>,
    stats: Arc<Mutex<EngineStats>>,
}

impl Core {
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        vocabulary: usize,
        limits: Limits,
        pages: u32,
        batch_window: Duration,
        commands: Receiver<Command>,
        stats: Arc<Mutex<EngineStats>>,
    ) -> Self {
        Self {
            backend,
            vocabulary,
            scheduler: Scheduler::new(limits, pages),
            live: BTreeMap::new(),
            next_id: 0,
            batch_window,
            commands,
            stats,
        }
    }

    /// Serves until told to stop or until no handle is left.
    pub(crate) fn run(mut self) {
        while self.take_commands() {
            self.drop_cancelled();
            if !self.live.is_empty() {
                self.step();
            }
            self.record_load();
        }
    }

    /// Takes what has come; with nothing to do, waits for it. `false` to stop.
    fn take_commands(&mut self) -> bool {
        if self.live.is_empty() {
            match self.commands.recv() {
                Ok(Command::Submit(submission)) => self.enqueue(*submission),
                Ok(Command::Stop) | Err(_) => return false,
            }
            let until = Instant::now() + self.batch_window;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                match self.commands.recv_timeout(left) {
                    Ok(Command::Submit(submission)) => self.enqueue(*submission),
                    Err(RecvTimeoutError::Timeout) => break,
                    Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                }
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(Command::Submit(submission)) => self.enqueue(*submission),
                Err(TryRecvError::Empty) => return true,
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn enqueue(&mut self, submission: Submission) {
        let id = self.next_id;
        self.next_id += 1;
        let prompt = submission.tokens.len();
        self.scheduler.enqueue(id, prompt);
        self.live.insert(id, Live { submission, prompt });
        self.stats().record_prompt(prompt);
    }

    fn stats(&self) -> MutexGuard<'_, EngineStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_load(&self) {
        let (running, waiting) = (self.scheduler.running(), self.scheduler.waiting());
        let used = self.scheduler.pool().used();
        self.stats().record_load(running, waiting, used);
    }

    fn drop_cancelled(&mut self) {
        let gone: Vec<SequenceId> = self
            .live
            .iter()
            .filter(|(_, live)| live.submission.sink.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.scheduler.remove(id);
            self.live.remove(&id);
            self.stats().record_cancel();
        }
    }

    fn step(&mut self) {
        let started = Instant::now();
        let mut plan = self.scheduler.plan();
        if !plan.preempted.is_empty() {
            self.stats().record_preemptions(plan.preempted.len());
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
            Ok(logits) => draw_all(&self.live, &drawing, logits, self.vocabulary),
            Err(error) => {
                tracing::error!(%error, "step failed");
                for chunk in &plan.chunks {
                    self.fail(chunk.id, error.clone());
                }
                return;
            }
        };
        self.scheduler.commit(&plan);
        self.stats().record_step(
            sharing,
            batch.tokens.len(),
            drawing.len(),
            started.elapsed(),
        );
        for chunk in &plan.chunks {
            if let Some(live) = self.live.get_mut(&chunk.id) {
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
        let mut batch = StepBatch {
            lora: LoraBatch::group(
                &mut plan.chunks,
                |c| live.get(&c.id).and_then(|l| l.submission.adapter.as_ref()),
                |c| c.rows,
            ),
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
        let Some(Live { submission, prompt }) = self.live.get_mut(&id) else {
            return;
        };
        let first = submission.tokens.len() == *prompt;
        submission.fingerprint = drawn.fingerprint;
        if submission.request.stop_tokens.contains(&drawn.token) {
            return self.finish(id, FinishReason::StopToken(drawn.token));
        }
        submission.tokens.push(drawn.token);
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
            None => self.scheduler.append(id),
        }
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        self.scheduler.remove(id);
        let Some(Live { submission, prompt }) = self.live.remove(&id) else {
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
        self.scheduler.remove(id);
        if let Some(live) = self.live.remove(&id) {
            self.stats().record_failure();
            let _ = live.submission.sink.send(Event::Failed(error));
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
