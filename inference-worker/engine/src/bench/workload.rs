//! What is asked of an engine, as data.

use super::arrivals::poisson;
use super::choice::Chooser;
use super::{BenchError, Choice};
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::time::Duration;

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// This many clients, each asking again when it has its answer: a slow server is asked less.
    Closed {
        /// Clients.
        clients: usize,
    },
    /// Requests come when they come, whether or not the server keeps up.
    Open {
        /// Mean requests a second.
        rate: f64,
    },
}

/// Where the adapters are when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Each active adapter was asked for once.
    Warm,
    /// On disk alone, and not in the system's page cache.
    Cold,
}

/// A number of tokens, evenly drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The least.
    pub min: usize,
    /// The most.
    pub max: usize,
}

/// A load. The same one asks for the same things, at the same times in an open loop.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// How requests follow each other.
    pub pace: Pace,
    /// Requests of a run.
    pub requests: usize,
    /// Which adapter each asks for.
    pub choice: Choice,
    /// Adapters that are asked for.
    pub distinct: usize,
    /// Adapters that can be asked for.
    pub registered: usize,
    /// Share of requests for the base model alone, from 0 to 1.
    pub base_share: f64,
    /// Tokens of a prompt. No two prompts begin alike for the engine: none is found again.
    pub prompt: Lengths,
    /// Tokens of an answer.
    pub output: Lengths,
    /// Where the adapters are when a run begins.
    pub start: Start,
    /// Runs.
    pub repeats: usize,
    /// Seed of everything drawn; run `n` takes `seed + n`.
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            pace: Pace::Closed { clients: 16 },
            requests: 256,
            choice: Choice::Zipf(1.0),
            distinct: 32,
            registered: 32,
            base_share: 0.0,
            prompt: Lengths::exactly(32),
            output: Lengths::exactly(32),
            start: Start::Warm,
            repeats: 5,
            seed: 1,
        }
    }
}

impl Lengths {
    /// Always this many.
    pub fn exactly(tokens: usize) -> Self {
        Self {
            min: tokens,
            max: tokens,
        }
    }
}

/// One request to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// When, from the start of the run; none as soon as a client is free.
    pub due: Option<Duration>,
    /// Which of the active adapters; none for the base model.
    pub adapter: Option<usize>,
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Tokens of the answer.
    pub output: usize,
}

impl Workload {
    /// Refuses what has no meaning, for a model of this vocabulary and context.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn validate(&self, context: usize) -> Result<(), BenchError> {
        let refuse = |what: &str| Err(BenchError::Workload(what.to_owned()));
        if self.requests == 0 || self.repeats == 0 {
            return refuse("requests and repeats must be at least 1");
        }
        if self.pace == (Pace::Closed { clients: 0 }) {
            return refuse("clients must be at least 1");
        }
        if self.registered < self.distinct {
            return refuse("no fewer adapters can be registered than are asked for");
        }
        if !(0.0..=1.0).contains(&self.base_share) {
            return refuse("the share of the base model is from 0 to 1");
        }
        if self.distinct == 0 && self.base_share < 1.0 {
            return refuse("without adapters, the base model's share is 1");
        }
        for lengths in [self.prompt, self.output] {
            if lengths.min == 0 || lengths.max < lengths.min {
                return refuse("lengths go from 1 up: N, or LEAST-MOST");
            }
        }
        if self.prompt.max + self.output.max > context {
            return Err(BenchError::Workload(format!(
                "{} tokens of prompt and {} of answer do not fit the context of {context}",
                self.prompt.max, self.output.max
            )));
        }
        Ok(())
    }

    /// The requests of run number `run`.
    ///
    /// # Errors
    /// When the pace or the choice has no meaning.
    pub(super) fn plan(&self, run: usize, vocabulary: usize) -> Result<Vec<Asked>, BenchError> {
        // One stream for each thing drawn: what is chosen does not depend on when it comes.
        let stream = |number: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(run as u64));
            rng.set_stream(number);
            rng
        };
        let due = match self.pace {
            Pace::Closed { .. } => None,
            Pace::Open { rate } => Some(poisson(rate, self.requests, &mut stream(1))?),
        };
        let chooser = match self.distinct {
            0 => None,
            distinct => Some(Chooser::new(self.choice, distinct)?),
        };
        let (mut adapters, mut lengths, mut prompts) = (stream(2), stream(3), stream(4));
        let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX);
        Ok((0..self.requests)
            .map(|n| {
                let base = adapters.random::<f64>() < self.base_share;
                let drawn = chooser.as_ref().map(|c| c.draw(&mut adapters));
                let prompt = lengths.random_range(self.prompt.min..=self.prompt.max);
                Asked {
                    due: due.as_ref().and_then(|due| due.get(n).copied()),
                    adapter: drawn.filter(|_| !base),
                    prompt: (0..prompt)
                        .map(|_| prompts.random_range(0..vocabulary))
                        .collect(),
                    output: lengths.random_range(self.output.min..=self.output.max),
                }
            })
            .collect())
    }
}
