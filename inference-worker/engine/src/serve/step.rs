//! One step: plan it, compute it, and deliver what came of it.

use super::guide::Turn;
use super::live::{Live, Reading};
use super::rows::{work_through, Drawn, Found, Purpose};
use super::Core;
use crate::adapters::slab::DeviceAdapter;
use crate::backend::StepBatch;
use crate::constraint::ConstraintError;
use crate::error::StepError;
use crate::lora::LoraBatch;
use crate::request::{Event, FinishReason, Finished, Sharing, StopCheck, Token};
use crate::scheduler::{Chunk, Plan, SequenceId};
use std::collections::{BTreeMap, HashSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a step waits for masks at least.
const MASK_PATIENCE: Duration = Duration::from_micros(200);

/// What the rows of a step are for.
#[derive(Default)]
struct Uses {
    /// Of the rows whose logits are wanted.
    logits: Vec<(SequenceId, Purpose)>,
    /// Of the rows whose hidden states are.
    hidden: Vec<SequenceId>,
}

impl Uses {
    fn drawing(&self) -> impl Iterator<Item = SequenceId> + '_ {
        let draws = |(_, purpose): &&(SequenceId, Purpose)| *purpose == Purpose::Draw;
        self.logits.iter().filter(draws).map(|(id, _)| *id)
    }
}

impl Core {
    pub(super) fn step(&mut self) {
        let started = Instant::now();
        self.end_guided();
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
        let (batch, uses) = self.batch(&mut plan);
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
        let output = match self.backend.step(&batch) {
            Ok(output) => output,
            Err(error) => {
                self.step_failed(&plan, &error);
                return;
            }
        };
        let width = output.hidden.len() / uses.hidden.len().max(1);
        for (id, state) in uses
            .hidden
            .iter()
            .zip(output.hidden.chunks_exact(width.max(1)))
        {
            let live = self.live.get_mut(id);
            if let Some(Reading::States(pool)) = live.map(|l| &mut l.reading) {
                pool.add(state);
            }
        }
        let (mut turns, late) = take_turns(&self.live, &uses, started.elapsed());
        let (live, vocabulary) = (&self.live, self.vocabulary);
        let found = work_through(live, &turns, &uses.logits, output.logits, vocabulary);
        for chunk in &plan.chunks {
            if let Some(live) = self.live.get_mut(&chunk.id) {
                live.read_to(chunk.start + chunk.rows);
            }
        }
        for id in &late {
            // Its last row is computed again once it is known what may follow.
            self.scheduler.pause(*id, true);
            plan.shorten(*id);
        }
        self.scheduler.commit(&plan);
        let took = started.elapsed();
        let drawn = uses.drawing().count() - late.len();
        if batch.tokens.len() > drawn {
            // A step with prefill: what a row of it costs is what a kept block saves.
            let nanoseconds = took.as_nanos() as u64 / batch.tokens.len() as u64;
            self.scheduler.memory_mut().set_row_cost(nanoseconds);
        }
        self.stats()
            .record_step(sharing, batch.tokens.len(), drawn, took);
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
        for ((id, purpose), found) in uses.logits.iter().zip(found) {
            match found {
                _ if *purpose == Purpose::Draw && late.contains(id) => {}
                Ok(Found::Drawn(drawn)) => {
                    let turn = turns.remove(id);
                    match turn.as_ref().map(|turn| turn.outcome.clone()) {
                        None | Some(Ok(false)) => self.deliver(*id, drawn, turn),
                        // Known since the step was planned.
                        Some(outcome) => self.end(*id, outcome.map(|_| ())),
                    }
                }
                Ok(Found::Scored(logprobs)) => {
                    let live = self.live.get_mut(id);
                    if let Some(Reading::Scores(scores)) = live.map(|l| &mut l.reading) {
                        scores.push(Some(logprobs));
                    }
                }
                Err(error) => self.fail(*id, error),
            }
        }
        for chunk in &plan.chunks {
            if chunk.complete && self.live.get(&chunk.id).is_some_and(|l| !l.draws()) {
                self.deliver_reading(chunk.id);
            }
        }
    }

    /// Orders the plan's chunks by adapter and lists their rows, and what these are for, in the order of
    /// what is wanted of them.
    fn batch(&self, plan: &mut Plan) -> (StepBatch, Uses) {
        let live = &self.live;
        let adapter = |c: &Chunk| -> Option<&Arc<DeviceAdapter>> {
            let id = live.get(&c.id)?.submission.request.adapter?;
            self.residency.get(id)
        };
        let mut batch = StepBatch {
            lora: LoraBatch::group(&mut plan.chunks, adapter, |c| c.rows),
            ..StepBatch::default()
        };
        let mut uses = Uses::default();
        for (sequence, chunk) in plan.chunks.iter().enumerate() {
            let Chunk {
                id, start, rows, ..
            } = *chunk;
            let first = batch.tokens.len();
            batch
                .positions
                .extend((start..start + rows).map(|p| p as u32));
            batch
                .sequences
                .extend(std::iter::repeat_n(sequence as u32, rows));
            batch.tables.push(self.scheduler.table(id).to_vec());
            let Some(live) = self.live.get(&id) else {
                continue;
            };
            let tokens = &live.submission.tokens;
            batch.tokens.extend(&tokens[start..start + rows]);
            for position in live.unread_in(start, rows) {
                let row = (first + position - start) as u32;
                match live.reading {
                    Reading::Scores(_) => {
                        batch.wanted.push(row);
                        uses.logits.push((id, Purpose::Score(position)));
                    }
                    Reading::States(_) => {
                        batch.embedded.push(row);
                        uses.hidden.push(id);
                    }
                    Reading::Nothing => {}
                }
            }
            if chunk.complete && live.draws() {
                batch.wanted.push((first + rows) as u32 - 1);
                uses.logits.push((id, Purpose::Draw));
            }
        }
        (batch, uses)
    }

    /// Ends the answers that their constraints say are complete, or cannot go on with.
    fn end_guided(&mut self) {
        let ended = |(id, live): (&SequenceId, &Live)| Some((*id, live.guide.as_ref()?.ended()?));
        let ended: Vec<_> = self.live.iter().filter_map(ended).collect();
        for (id, outcome) in ended {
            self.end(id, outcome);
        }
    }

    fn end(&mut self, id: SequenceId, outcome: Result<(), ConstraintError>) {
        match outcome {
            Ok(()) => self.finish(id, FinishReason::Constraint),
            Err(error) => self.fail(id, error.into()),
        }
    }

    fn deliver(&mut self, id: SequenceId, drawn: Drawn, turn: Option<Turn>) {
        self.release_followers(id);
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        send_scores(live);
        let Live {
            submission,
            prompt,
            names,
            history,
            guide,
            ..
        } = live;
        let first = submission.tokens.len() == *prompt;
        submission.fingerprint = drawn.fingerprint;
        if submission.request.stop_tokens.contains(&drawn.token) {
            return self.finish(id, FinishReason::StopToken(drawn.token));
        }
        submission.tokens.push(drawn.token);
        let block = names.push(drawn.token);
        if let Some(history) = history {
            history.push(drawn.token);
        }
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
            // The last token that there is room for may be the last of a complete answer.
            let complete = turn.is_some_and(|turn| turn.ends_with(drawn.token));
            Some(if complete {
                FinishReason::Constraint
            } else {
                FinishReason::Length
            })
        } else {
            if let (Some(guide), Some(turn)) = (guide, turn) {
                self.guides.go_on(guide, turn, drawn.token);
            }
            None
        };
        self.stats().record_token(first, since);
        match ended {
            Some(reason) => self.finish(id, reason),
            None => self.scheduler.append(id, block),
        }
    }

    /// Delivers what was read of a prompt after which nothing is drawn.
    fn deliver_reading(&mut self, id: SequenceId) {
        self.release_followers(id);
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        if let Reading::States(pool) = &live.reading {
            match pool.vector() {
                Ok(vector) => {
                    // A closed stream has its request ended here anyway.
                    let _ = live.submission.sink.send(Event::Embedding(vector));
                }
                Err(error) => return self.fail(id, error),
            }
        }
        send_scores(live);
        self.finish(id, FinishReason::Length);
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

    pub(super) fn fail(&mut self, id: SequenceId, error: StepError) {
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
    pub(super) fn fail_all(&mut self, error: &StepError) {
        let all: Vec<SequenceId> = self.live.keys().copied().collect();
        for id in all {
            self.fail(id, error.clone());
        }
    }
}

/// Sends the log-probabilities of a prompt, once.
fn send_scores(live: &mut Live) {
    if let Reading::Scores(_) = live.reading {
        if let Reading::Scores(scores) = std::mem::replace(&mut live.reading, Reading::Nothing) {
            // A closed stream is noticed before the next step.
            let _ = live.submission.sink.send(Event::Prompt(scores));
        }
    }
}

/// The turns of the constraints that a step has draws of, and the requests whose turn is late. All
/// together are waited for no longer than a quarter of the step.
fn take_turns(
    live: &BTreeMap<SequenceId, Live>,
    uses: &Uses,
    step: Duration,
) -> (BTreeMap<SequenceId, Turn>, HashSet<SequenceId>) {
    let (mut turns, mut late) = (BTreeMap::new(), HashSet::new());
    let until = Instant::now() + MASK_PATIENCE.max(step / 4);
    for id in uses.drawing() {
        let Some(guide) = live.get(&id).and_then(|l| l.guide.as_ref()) else {
            continue;
        };
        match guide.take(until) {
            Some(turn) => {
                turns.insert(id, turn);
            }
            None => {
                late.insert(id);
            }
        }
    }
    (turns, late)
}
