//! What changes logits before a token is drawn from them: a bias of single tokens, penalties for tokens
//! that were there before, and a mask of those that may follow.
//!
//! The order is the field's (OpenAI, vLLM): bias, then the repetition penalty (Keskar et al. 2019,
//! CTRL), then frequency and presence, then the mask. Log-probabilities and fingerprints are of the
//! logits before all of it.

use crate::constraint::TokenMask;
use crate::sampling::Sampling;
use std::collections::HashMap;

/// How often a token was there.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    prompt: bool,
    generated: u32,
}

/// The tokens of a sequence, counted for penalties.
#[derive(Clone, Debug, Default)]
pub struct History {
    seen: HashMap<u32, Seen>,
}

impl History {
    /// A prompt without an answer.
    pub fn new(prompt: &[u32]) -> Self {
        let mut seen = HashMap::<u32, Seen>::new();
        for token in prompt {
            seen.entry(*token).or_default().prompt = true;
        }
        Self { seen }
    }

    /// Tokens of which the last `answered` were generated.
    pub fn of(tokens: &[u32], answered: usize) -> Self {
        let (prompt, answer) = tokens.split_at(tokens.len().saturating_sub(answered));
        let mut history = Self::new(prompt);
        for token in answer {
            history.push(*token);
        }
        history
    }

    /// Counts a generated token.
    pub fn push(&mut self, token: u32) {
        let seen = self.seen.entry(token).or_default();
        seen.generated = seen.generated.saturating_add(1);
    }
}

/// Applies all of it in place. Ids beyond the logits are left alone.
pub fn adjust(
    logits: &mut [f32],
    bias: &[(u32, f32)],
    sampling: &Sampling,
    history: Option<&History>,
    mask: Option<&TokenMask>,
) {
    for (token, bias) in bias {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit += bias;
        }
    }
    for (token, seen) in history.iter().flat_map(|h| &h.seen) {
        let Some(logit) = logits.get_mut(*token as usize) else {
            continue;
        };
        if *logit > 0.0 {
            *logit /= sampling.repetition_penalty;
        } else {
            *logit *= sampling.repetition_penalty;
        }
        if seen.generated > 0 {
            *logit -= seen.generated as f32 * sampling.frequency_penalty;
            *logit -= sampling.presence_penalty;
        }
    }
    if let Some(mask) = mask {
        for (token, logit) in logits.iter_mut().enumerate() {
            if !mask.allows(token as u32) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(sampling: Sampling, bias: &[(u32, f32)], mask: Option<&TokenMask>) -> [f32; 6] {
        let mut logits = [2.0, -1.0, 0.5, 3.0, 0.0, -2.0];
        // Token 0 in the prompt only; 1 in both; 3 twice and 5 once generated.
        let mut history = History::new(&[0, 1, 0]);
        for token in [3, 1, 3, 5] {
            history.push(token);
        }
        let history = sampling.has_penalties().then_some(&history);
        adjust(&mut logits, bias, &sampling, history, mask);
        logits
    }

    #[test]
    fn penalties_should_be_those_of_the_formulas() {
        let of = |frequency_penalty, presence_penalty, repetition_penalty| Sampling {
            frequency_penalty,
            presence_penalty,
            repetition_penalty,
            ..Sampling::default()
        };
        let none = [2.0, -1.0, 0.5, 3.0, 0.0, -2.0];
        assert_eq!(adjusted(of(0.0, 0.0, 1.0), &[], None), none);
        // Twice for the token that came twice; nothing for the prompt's own.
        let frequent = [2.0, -1.5, 0.5, 2.0, 0.0, -2.5];
        assert_eq!(adjusted(of(0.5, 0.0, 1.0), &[], None), frequent);
        let present = [2.0, -2.0, 0.5, 2.0, 0.0, -3.0];
        assert_eq!(adjusted(of(0.0, 1.0, 1.0), &[], None), present);
        // Positive logits shrink, negative ones grow; the prompt counts too.
        let repeated = [1.0, -2.0, 0.5, 1.5, 0.0, -4.0];
        assert_eq!(adjusted(of(0.0, 0.0, 2.0), &[], None), repeated);
        let all = [1.0, -3.5, 0.5, -0.5, 0.0, -5.5];
        assert_eq!(adjusted(of(0.5, 1.0, 2.0), &[], None), all);
    }

    #[test]
    fn an_answer_that_goes_on_should_count_what_it_has() {
        let sampling = Sampling {
            frequency_penalty: 1.0,
            ..Sampling::default()
        };
        let mut logits = [0.0; 3];
        let history = History::of(&[2, 0, 1, 1], 2);
        adjust(&mut logits, &[], &sampling, Some(&history), None);
        assert_eq!(logits, [0.0, -2.0, 0.0]);
    }

    #[test]
    fn a_bias_should_be_added_before_the_penalties() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        // Token 1 becomes positive, so it is divided; token 9 does not exist.
        let bias = [(1, 5.0), (2, -100.0), (9, 1.0)];
        assert_eq!(
            adjusted(sampling, &bias, None),
            [1.0, 2.0, -99.5, 1.5, 0.0, -4.0]
        );
    }

    #[test]
    fn a_mask_should_leave_only_what_it_allows() {
        let mut mask = TokenMask::new(6);
        mask.allow(1);
        mask.allow(4);
        let bias = [(0, 100.0)];
        let logits = adjusted(Sampling::default(), &bias, Some(&mask));
        let below = f32::NEG_INFINITY;
        assert_eq!(logits, [below, -1.0, below, below, 0.0, below]);
        for position in 0..200 {
            let sampling = Sampling {
                temperature: 5.0,
                ..Sampling::default()
            };
            let drawn = crate::sampling::draw(&logits, &sampling, &[1; 32], position);
            assert!(mask.allows(drawn));
        }
    }
}
