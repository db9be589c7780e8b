//! What rows of logits lead to: a token, or the log-probabilities of one that is known.

use super::guide::Turn;
use super::live::Live;
use crate::adjust::{adjust, History};
use crate::constraint::TokenMask;
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::request::Logprobs;
use crate::sampling::{self, Sampling};
use crate::scheduler::SequenceId;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Logits below which rows are not handed to other threads.
const SERIAL_LOGITS: usize = 100_000;

/// What a row of logits is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The next token.
    Draw,
    /// The log-probabilities of the token after this position.
    Score(usize),
}

/// What one row led to.
pub(super) enum Found {
    Drawn(Drawn),
    Scored(Logprobs),
}

/// A token.
pub(super) struct Drawn {
    pub token: u32,
    pub logprobs: Option<Logprobs>,
    pub fingerprint: Fingerprint,
}

/// What a row needs of its request.
enum Work<'a> {
    Draw(Draw<'a>),
    Score { token: u32, alternatives: usize },
}

struct Draw<'a> {
    position: usize,
    sampling: Sampling,
    seed: [u8; 32],
    bias: &'a [(u32, f32)],
    history: Option<&'a History>,
    mask: Option<&'a TokenMask>,
    alternatives: Option<usize>,
    fingerprint: &'a Fingerprint,
}

/// Works through all rows, `[uses, vocabulary]`.
pub(super) fn work_through(
    live: &BTreeMap<SequenceId, Live>,
    turns: &BTreeMap<SequenceId, Turn>,
    uses: &[(SequenceId, Purpose)],
    logits: &[f32],
    vocabulary: usize,
) -> Vec<Result<Found, StepError>> {
    let work = |(id, purpose): &(SequenceId, Purpose)| {
        let live = live.get(id)?;
        let (submission, request) = (&live.submission, &live.submission.request);
        Some(match purpose {
            Purpose::Score(position) => Work::Score {
                token: *submission.tokens.get(position + 1)?,
                alternatives: request.prompt_logprobs?,
            },
            // Never without its mask.
            Purpose::Draw if live.guide.is_some() && !turns.contains_key(id) => return None,
            Purpose::Draw => Work::Draw(Draw {
                position: submission.tokens.len(),
                sampling: request.sampling,
                seed: request.seed,
                bias: &request.logit_bias,
                history: live.history.as_ref(),
                mask: turns.get(id).map(|turn| &turn.mask),
                alternatives: request.logprobs,
                fingerprint: &submission.fingerprint,
            }),
        })
    };
    let all: Vec<Option<Work<'_>>> = uses.iter().map(work).collect();
    let one = |(work, logits): (&Option<Work<'_>>, &[f32])| {
        if !logits.iter().all(|v| v.is_finite()) {
            return Err(StepError::NotFinite);
        }
        match work {
            Some(Work::Draw(draw)) => Ok(Found::Drawn(draw.run(logits))),
            Some(Work::Score {
                token,
                alternatives,
            }) => Ok(Found::Scored(logprobs(logits, *token, *alternatives))),
            None => Err(StepError::Backend("a row without a request".to_owned())),
        }
    };
    if logits.len() < SERIAL_LOGITS {
        all.iter()
            .zip(logits.chunks_exact(vocabulary))
            .map(one)
            .collect()
    } else {
        all.par_iter()
            .zip(logits.par_chunks_exact(vocabulary))
            .map(one)
            .collect()
    }
}

/// In the model's own distribution.
fn logprobs(logits: &[f32], token: u32, alternatives: usize) -> Logprobs {
    let normaliser = sampling::log_normaliser(logits);
    let logprob = |value: f32| (f64::from(value) - normaliser) as f32;
    let chosen = logits.get(token as usize).copied();
    Logprobs {
        chosen: logprob(chosen.unwrap_or(f32::NEG_INFINITY)),
        top: sampling::top(logits, alternatives)
            .into_iter()
            .map(|(id, value)| (id, logprob(value)))
            .collect(),
    }
}

impl Draw<'_> {
    fn run(&self, logits: &[f32]) -> Drawn {
        let plain = self.bias.is_empty() && self.history.is_none() && self.mask.is_none();
        let draw = |logits: &[f32]| {
            sampling::draw(logits, &self.sampling, &self.seed, self.position as u64)
        };
        let token = if plain {
            draw(logits)
        } else {
            let mut adjusted = logits.to_vec();
            adjust(
                &mut adjusted,
                self.bias,
                &self.sampling,
                self.history,
                self.mask,
            );
            draw(&adjusted)
        };
        let mut fingerprint = self.fingerprint.clone();
        fingerprint.push(self.position as u32, logits, token);
        Drawn {
            token,
            logprobs: self.alternatives.map(|n| logprobs(logits, token, n)),
            fingerprint,
        }
    }
}
