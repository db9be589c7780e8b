//! The loop that both trainers share: batches in, gradients, steps, checkpoints, early stopping.

use std::path::PathBuf;
use std::time::Instant;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::batch::Shard;
use crate::checkpoint::{self, Header};
use crate::error::{Error, Result};
use crate::gradients::{gradients, Lanes, Model};
use crate::optim::{AdamW, AdamWConfig};
use crate::progress::{Cancel, Event, Progress};
use crate::schedule::Schedule;

/// What decides the result of a run, apart from model and data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hyper {
    /// Examples of a batch.
    pub batch: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// Parts of a batch that can run at the same time; part of the recipe because sums are rounded.
    pub lanes: usize,
    /// Held-out loss is taken after every so many steps; 0 never.
    pub evaluate_every: usize,
    /// Evaluations without improvement after which the run ends; 0 never.
    pub patience: usize,
    /// Step after which the run ends although the schedule goes on; 0 never. What was trained up to there does not
    /// depend on it, so a stopped run can be gone on with under a larger number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stop: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Hyper {
    /// Steps of the whole run.
    pub fn steps(&self) -> usize {
        match self.stop {
            0 => self.schedule.steps,
            stop => stop.min(self.schedule.steps),
        }
    }
}

/// Where and how a run reports and saves.
pub struct Watch<'a> {
    /// Receives events.
    pub progress: &'a dyn Progress,
    /// Asked before every step.
    pub cancel: &'a Cancel,
    /// Folder of the checkpoint, if the run can be resumed.
    pub checkpoint: Option<PathBuf>,
    /// A checkpoint is written after every so many steps; 0 only on cancellation.
    pub save_every: usize,
}

/// Where batches and held-out losses come from.
pub trait Task {
    /// The batch number `index`, from 0, divided into lanes. Asked in order, from 0 also when a run goes on.
    fn batch(&mut self, index: usize) -> Result<Vec<Vec<Shard>>>;
    /// Mean held-out loss, nats per token; none if nothing is held out.
    fn held_out(&mut self, lanes: &Lanes) -> Result<Option<f64>>;
}

/// How a run went; the same for the same recipe and data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Outcome {
    /// Steps done.
    pub steps: usize,
    /// Step whose variables were kept.
    pub kept: usize,
    /// Training loss of every step.
    pub losses: Vec<f32>,
    /// Held-out losses by step.
    pub held_out: Vec<(usize, f64)>,
    /// Tokens seen, padding left out.
    pub tokens: u64,
}

/// Trains `vars`, of which `model` is made, and leaves in them the best state that was evaluated
/// (the last one if nothing is held out).
///
/// `run` identifies configuration and data: only a checkpoint of the same run is resumed.
pub fn train(
    what: &str,
    run: &str,
    hyper: &Hyper,
    model: Model<'_>,
    vars: &[Var],
    task: &mut dyn Task,
    watch: &Watch<'_>,
) -> Result<Outcome> {
    let lanes = Lanes::new(hyper.lanes)?;
    let mut optimizer = AdamW::new(vars.to_vec(), hyper.optimizer.clone());
    let mut outcome = Outcome::default();
    let mut best = Best::default();
    let saved = match watch.checkpoint.as_deref() {
        Some(dir) if checkpoint::exists(dir)? => Some(dir),
        _ => None,
    };
    if let Some(dir) = saved {
        let (header, tensors) = checkpoint::load(dir, run, &mut optimizer)?;
        outcome = serde_json::from_value(header.extra).map_err(Error::json("checkpoint"))?;
        best = Best::from_state(vars.len(), &outcome, &tensors);
        for index in 0..outcome.steps * hyper.accumulate {
            task.batch(index)?;
        }
    }
    watch.progress.on(&Event::Start {
        what: what.into(),
        steps: hyper.steps(),
        done: outcome.steps,
        parameters: vars.iter().map(|v| v.elem_count()).sum(),
    });
    let begun = Instant::now();
    let (first, tokens_before) = (outcome.steps, outcome.tokens);
    let save = |outcome: &Outcome, optimizer: &AdamW, best: &Best| -> Result<()> {
        let Some(dir) = &watch.checkpoint else {
            return Ok(());
        };
        let header = Header {
            step: outcome.steps,
            run: run.into(),
            extra: serde_json::to_value(outcome).map_err(Error::json("checkpoint"))?,
        };
        checkpoint::save(dir, &header, optimizer, &best.state())?;
        watch.progress.on(&Event::Saved {
            step: outcome.steps,
            path: dir.display().to_string(),
        });
        Ok(())
    };
    let mut reason = "all steps done";
    while outcome.steps < hyper.steps() {
        if watch.cancel.is_cancelled() {
            save(&outcome, &optimizer, &best)?;
            return Err(Error::Interrupted {
                step: outcome.steps,
                checkpoint: watch.checkpoint.clone(),
            });
        }
        let step = outcome.steps;
        let mut batch = Vec::new();
        for i in 0..hyper.accumulate.max(1) {
            // Lanes of the accumulated batches follow one another on the same threads.
            let more = task.batch(step * hyper.accumulate.max(1) + i)?;
            for (l, lane) in more.into_iter().enumerate() {
                if batch.len() <= l {
                    batch.push(Vec::new());
                }
                batch[l].extend(lane);
            }
        }
        let grads = gradients(&lanes, model, vars, &batch)?;
        let rate = hyper.schedule.rate(step);
        let norm = optimizer.step(&grads.flat, rate)?;
        outcome.steps += 1;
        outcome.losses.push(grads.loss as f32);
        outcome.tokens += batch.iter().flatten().map(|s| s.tokens as u64).sum::<u64>();
        let seconds = begun.elapsed().as_secs_f64();
        watch.progress.on(&Event::Step {
            step: outcome.steps,
            steps: hyper.steps(),
            loss: grads.loss,
            rate,
            norm,
            tokens_per_second: (outcome.tokens - tokens_before) as f64 / seconds,
            seconds_left: seconds / (outcome.steps - first) as f64
                * (hyper.steps() - outcome.steps) as f64,
        });
        let last = outcome.steps == hyper.steps();
        if hyper.evaluate_every > 0 && (last || outcome.steps % hyper.evaluate_every == 0) {
            if let Some(loss) = task.held_out(&lanes)? {
                outcome.held_out.push((outcome.steps, loss));
                watch.progress.on(&Event::HeldOut {
                    step: outcome.steps,
                    loss,
                    perplexity: loss.exp(),
                });
                best.offer(loss, vars)?;
                if best.is_stale(hyper.patience) {
                    reason = "held-out loss no longer falls";
                    break;
                }
            }
        }
        if watch.save_every > 0 && outcome.steps % watch.save_every == 0 {
            save(&outcome, &optimizer, &best)?;
        }
    }
    outcome.kept = best.restore(vars, &outcome)?;
    watch.progress.on(&Event::Done {
        steps: outcome.steps,
        seconds: begun.elapsed().as_secs_f64(),
        reason: reason.into(),
    });
    Ok(outcome)
}

/// The variables at the lowest held-out loss so far.
#[derive(Default)]
struct Best {
    loss: Option<f64>,
    values: Vec<Tensor>,
    since: usize,
}

impl Best {
    fn offer(&mut self, loss: f64, vars: &[Var]) -> Result<()> {
        if self.loss.is_none_or(|best| loss < best) {
            self.loss = Some(loss);
            self.since = 0;
            self.values = vars
                .iter()
                .map(|v| v.as_tensor().copy())
                .collect::<std::result::Result<_, _>>()?;
        } else {
            self.since += 1;
        }
        Ok(())
    }

    fn is_stale(&self, patience: usize) -> bool {
        patience > 0 && self.since >= patience
    }

    fn restore(&self, vars: &[Var], outcome: &Outcome) -> Result<usize> {
        let Some(best) = self.loss else {
            return Ok(outcome.steps);
        };
        for (var, value) in vars.iter().zip(&self.values) {
            var.set(value)?;
        }
        let kept = outcome.held_out.iter().find(|(_, loss)| *loss == best);
        Ok(kept.map_or(outcome.steps, |(step, _)| *step))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let named = |(i, t): (usize, &Tensor)| (format!("best.{i}"), t.clone());
        self.values.iter().enumerate().map(named).collect()
    }

    fn from_state(
        count: usize,
        outcome: &Outcome,
        tensors: &std::collections::HashMap<String, Tensor>,
    ) -> Self {
        let values: Vec<Tensor> = (0..count)
            .filter_map(|i| tensors.get(&format!("best.{i}")).cloned())
            .collect();
        let lowest = outcome
            .held_out
            .iter()
            .enumerate()
            .min_by(|a, b| a.1 .1.total_cmp(&b.1 .1));
        match lowest {
            Some((at, (_, loss))) if values.len() == count => Self {
                loss: Some(*loss),
                values,
                since: outcome.held_out.len() - 1 - at,
            },
            _ => Self::default(),
        }
    }
}
