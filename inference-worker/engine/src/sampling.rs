//! Drawing the next token: greedy, temperature, top-k, top-p, min-p; the same on every machine. What
//! changes the logits before that is in [`adjust`](crate::adjust).
//!
//! The random number of a position comes from ChaCha20 keyed by the request's seed with the position
//! as its stream, so it depends on nothing else: not on the batch, not on preemption, and an auditor
//! draws it again from the receipt's seed. All arithmetic is IEEE 754 in a fixed order.

use crate::backend::cpu::math::{exp, log_sum_exp};
use crate::error::SubmitError;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Most probable tokens that are sorted first when a cut needs an order.
const SORTED_FIRST: usize = 64;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy: the largest logit, the lowest id among equals.
    pub temperature: f32,
    /// Keeps the most probable tokens up to this mass; in (0, 1], 1 keeps all.
    pub top_p: f32,
    /// Keeps this many of the most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps tokens at least this fraction as probable as the most probable one; in [0, 1], 0 keeps all.
    pub min_p: f32,
    /// Taken from a token's logit once for each time that it was generated; in [-2, 2], 0 changes
    /// nothing.
    pub frequency_penalty: f32,
    /// Taken from the logit of each token that was generated; in [-2, 2], 0 changes nothing.
    pub presence_penalty: f32,
    /// Divides the positive and multiplies the negative logits of tokens that the prompt or the answer
    /// has; in (0, 10], 1 changes nothing.
    pub repetition_penalty: f32,
}

impl Sampling {
    /// The most probable token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        repetition_penalty: 1.0,
    };

    /// Refuses values without a meaning.
    pub fn validate(&self) -> Result<(), SubmitError> {
        if !(self.temperature.is_finite() && (0.0..=100.0).contains(&self.temperature)) {
            return Err(SubmitError::Sampling("temperature must be from 0 to 100"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(SubmitError::Sampling("top_p must be above 0 and at most 1"));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(SubmitError::Sampling("min_p must be from 0 to 1"));
        }
        if !(-2.0..=2.0).contains(&self.frequency_penalty) {
            return Err(SubmitError::Sampling(
                "frequency_penalty must be from -2 to 2",
            ));
        }
        if !(-2.0..=2.0).contains(&self.presence_penalty) {
            return Err(SubmitError::Sampling(
                "presence_penalty must be from -2 to 2",
            ));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty <= 10.0) {
            return Err(SubmitError::Sampling(
                "repetition_penalty must be above 0 and at most 10",
            ));
        }
        Ok(())
    }

    /// Whether any penalty changes logits.
    pub fn has_penalties(&self) -> bool {
        self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || self.repetition_penalty != 1.0
    }
}

impl Default for Sampling {
    /// The distribution of the model: temperature 1, nothing cut off.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            ..Self::GREEDY
        }
    }
}

/// A uniform number in [0, 1) for a position, with 53 random bits.
pub fn uniform(seed: &[u8; 32], position: u64) -> f64 {
    let mut rng = ChaCha20Rng::from_seed(*seed);
    rng.set_stream(position);
    (rng.random::<u64>() >> 11) as f64 / (1u64 << 53) as f64
}

/// The seed of the answer with number `index` of several to one request: the request's own for the
/// first, so that one answer is the same however many were asked for, and for the others
/// `BLAKE2b-256("openledger/answer-seed/v1" ‖ seed ‖ index as u32 LE)`.
pub fn answer_seed(seed: &[u8; 32], index: u32) -> [u8; 32] {
    if index == 0 {
        return *seed;
    }
    let mut hash = Blake2b::<U32>::new();
    hash.update(b"openledger/answer-seed/v1");
    hash.update(seed);
    hash.update(index.to_le_bytes());
    hash.finalize().into()
}

/// Draws the token at `position` (of the sequence, prompt included) from its logits.
///
/// The distribution is that of the logits divided by the temperature, cut to those that `min_p` keeps,
/// then to `top_k`, then to the smallest set of most probable tokens whose mass reaches `top_p` of what
/// is left. The draw walks what is kept: from the most probable token on, lower ids first among equals,
/// or in order of ids when neither `top_k` nor `top_p` cuts.
pub fn draw(logits: &[f32], sampling: &Sampling, seed: &[u8; 32], position: u64) -> u32 {
    let Some((best, max)) = top(logits, 1).first().copied() else {
        return 0;
    };
    if sampling.temperature == 0.0 {
        return best;
    }
    let least = f64::from(sampling.min_p);
    let weigh = |v: f32| {
        let weight = f64::from(exp((v - max) / sampling.temperature));
        if weight < least {
            0.0
        } else {
            weight
        }
    };
    let target = uniform(seed, position);
    let all = logits.len();
    if sampling.top_k == 0 && sampling.top_p == 1.0 {
        let weights: Vec<f64> = logits.iter().map(|v| weigh(*v)).collect();
        let entries = weights.iter().enumerate().map(|(id, w)| (id as u32, *w));
        return walk(entries, target * weights.iter().sum::<f64>(), best);
    }
    let most = match sampling.top_k {
        0 => all,
        k => k.min(all),
    };
    let total: f64 = if most == all {
        logits.iter().map(|v| weigh(*v)).sum()
    } else {
        top(logits, most).iter().map(|(_, v)| weigh(*v)).sum()
    };
    let limit = total * f64::from(sampling.top_p);
    // Few tokens hold most of the mass: sort no more of the vocabulary than the cut needs.
    let mut sorted = SORTED_FIRST.min(most);
    loop {
        let mut mass = 0.0;
        let mut kept: Vec<(u32, f64)> = Vec::new();
        for (id, v) in top(logits, sorted) {
            let weight = weigh(v);
            mass += weight;
            kept.push((id, weight));
            if mass >= limit && sampling.top_p < 1.0 {
                return walk(kept, target * mass, best);
            }
        }
        if sorted == most {
            return walk(kept, target * mass, best);
        }
        sorted = (sorted * 8).min(most);
    }
}

/// The entry at which the running sum of weights passes `target`; `otherwise` when rounding keeps the
/// sum from getting there.
fn walk(entries: impl IntoIterator<Item = (u32, f64)>, target: f64, otherwise: u32) -> u32 {
    let mut walked = 0.0;
    for (id, weight) in entries {
        walked += weight;
        if target < walked {
            return id;
        }
    }
    otherwise
}

/// The `count` largest logits with their ids, largest first, lower ids first among equals. A NaN is
/// below everything.
pub fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let key = |v: f32| if v.is_nan() { f32::NEG_INFINITY } else { v };
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let count = count.min(logits.len());
    if count == 0 {
        return Vec::new();
    }
    if count > 64 {
        let mut all: Vec<(u32, f32)> = logits
            .iter()
            .enumerate()
            .map(|(i, v)| (i as u32, key(*v)))
            .collect();
        if count < all.len() {
            all.select_nth_unstable_by(count - 1, order);
            all.truncate(count);
        }
        all.sort_unstable_by(order);
        return all;
    }
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (i, v) in logits.iter().enumerate() {
        let entry = (i as u32, key(*v));
        if best.len() == count && best.last().is_some_and(|last| order(last, &entry).is_lt()) {
            continue;
        }
        let at = best.partition_point(|other| order(other, &entry).is_lt());
        best.insert(at, entry);
        best.truncate(count);
    }
    best
}

/// What is subtracted from a logit to get its log-probability in the model's own distribution.
pub fn log_normaliser(logits: &[f32]) -> f64 {
    log_sum_exp(logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(logits: &[f32], sampling: &Sampling, draws: u64) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for position in 0..draws {
            counts[draw(logits, sampling, &[7; 32], position) as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn greedy_should_take_the_largest_and_the_lowest_id_among_equals() {
        let logits = [0.5, 2.0, 2.0, f32::NAN];
        assert_eq!(draw(&logits, &Sampling::GREEDY, &[0; 32], 0), 1);
    }

    #[test]
    fn draws_should_follow_the_distribution() {
        let logits = [1.0f32, 0.0, 2.0, -1.0];
        for temperature in [0.7f32, 1.0, 1.8] {
            let sampling = Sampling {
                temperature,
                ..Sampling::default()
            };
            let weights: Vec<f64> = logits
                .iter()
                .map(|v| f64::from(v / temperature).exp())
                .collect();
            let total: f64 = weights.iter().sum();
            for (count, weight) in counts(&logits, &sampling, 40_000).iter().zip(weights) {
                assert!((count - weight / total).abs() < 0.01);
            }
        }
    }

    #[test]
    fn top_k_and_top_p_should_cut_the_tail() {
        let logits = [1.0f32, 0.0, 2.0, -1.0];
        let two = Sampling {
            top_k: 2,
            ..Sampling::default()
        };
        let found = counts(&logits, &two, 2_000);
        assert!(found[0] > 0.0 && found[2] > 0.0 && found[1] == 0.0 && found[3] == 0.0);
        // The largest has 0.64 of the mass: 0.6 keeps it alone, 0.7 adds the next.
        let narrow = Sampling {
            top_p: 0.6,
            ..Sampling::default()
        };
        let found = counts(&logits, &narrow, 512);
        assert_eq!(found, [0.0, 0.0, 1.0, 0.0]);
        let wider = Sampling {
            top_p: 0.7,
            ..Sampling::default()
        };
        let found = counts(&logits, &wider, 2_000);
        assert!(found[0] > 0.0 && found[1] == 0.0);
    }

    #[test]
    fn min_p_should_cut_what_is_too_far_below_the_most_probable() {
        // Ratios to the largest: e^-1, e^-2, 1, e^-3; at temperature 2 their square roots.
        let logits = [1.0f32, 0.0, 2.0, -1.0];
        let kept = |min_p: f32, temperature: f32, top_p: f32| -> Vec<bool> {
            let sampling = Sampling {
                min_p,
                temperature,
                top_p,
                ..Sampling::default()
            };
            let counts = counts(&logits, &sampling, 4_000);
            counts.iter().map(|c| *c > 0.0).collect()
        };
        assert_eq!(kept(0.13, 1.0, 1.0), [true, true, true, false]);
        assert_eq!(kept(0.14, 1.0, 1.0), [true, false, true, false]);
        assert_eq!(kept(0.14, 2.0, 1.0), [true, true, true, true]);
        assert_eq!(kept(1.0, 1.0, 1.0), [false, false, true, false]);
        // What is left has 0.73 and 0.27: 0.7 keeps the first alone, where 0.64 of all would not do.
        assert_eq!(kept(0.14, 1.0, 0.7), [false, false, true, false]);
        assert_eq!(kept(0.0, 1.0, 0.7), [true, false, true, false]);
    }

    #[test]
    fn answers_to_one_request_should_have_seeds_of_their_own() {
        let seed = [7; 32];
        assert_eq!(answer_seed(&seed, 0), seed);
        let seeds: std::collections::HashSet<_> = (0..9).map(|i| answer_seed(&seed, i)).collect();
        assert_eq!(seeds.len(), 9);
        assert_ne!(answer_seed(&seed, 1), answer_seed(&[8; 32], 1));
        // BLAKE2b-256 of the text, 32 bytes 07 and 01000000, as Python's hashlib gives it.
        assert_eq!(
            answer_seed(&seed, 1)[..8],
            [0xd8, 0x36, 0x6e, 0xca, 0xc4, 0x3b, 0xc1, 0x8d]
        );
    }

    #[test]
    fn a_cut_beyond_the_first_sorted_tokens_should_keep_as_many_as_it_needs() {
        // A thousand equal tokens: half of the mass is the first half of the ids.
        let logits = vec![1.5f32; 1000];
        let half = Sampling {
            top_p: 0.5,
            ..Sampling::default()
        };
        let drawn: Vec<u32> = (0..4000)
            .map(|p| draw(&logits, &half, &[3; 32], p))
            .collect();
        assert!(drawn.iter().all(|id| *id < 500));
        assert!(drawn.iter().any(|id| *id > 480));
        let few = Sampling { top_k: 700, ..half };
        let drawn: Vec<u32> = (0..4000)
            .map(|p| draw(&logits, &few, &[3; 32], p))
            .collect();
        assert!(drawn.iter().all(|id| *id < 350));
        assert!(drawn.iter().any(|id| *id > 330));
    }

    #[test]
    fn a_draw_should_depend_on_seed_and_position_only() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32).sin()).collect();
        let sampling = Sampling::default();
        let tokens = |seed: [u8; 32]| -> Vec<u32> {
            (0..32)
                .map(|p| draw(&logits, &sampling, &seed, p))
                .collect()
        };
        assert_eq!(tokens([1; 32]), tokens([1; 32]));
        assert_ne!(tokens([1; 32]), tokens([2; 32]));
        let backwards: Vec<u32> = (0..32)
            .rev()
            .map(|p| draw(&logits, &sampling, &[1; 32], p))
            .collect();
        assert!(tokens([1; 32]).iter().eq(backwards.iter().rev()));
    }

    #[test]
    fn top_should_agree_with_a_full_sort_for_any_count() {
        let logits: Vec<f32> = (0..500).map(|i| ((i * 37) % 101) as f32).collect();
        let mut all: Vec<(u32, f32)> = logits
            .iter()
            .enumerate()
            .map(|(i, v)| (i as u32, *v))
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for count in [0, 1, 8, 64, 65, 300, 500, 600] {
            assert_eq!(top(&logits, count), all[..count.min(500)]);
        }
    }

    #[test]
    fn values_without_a_meaning_should_be_refused() {
        let change: [fn(&mut Sampling, f32); 6] = [
            |s, v| s.temperature = v,
            |s, v| s.top_p = v,
            |s, v| s.min_p = v,
            |s, v| s.frequency_penalty = v,
            |s, v| s.presence_penalty = v,
            |s, v| s.repetition_penalty = v,
        ];
        let wrong: [&[f32]; 6] = [
            &[-1.0, 101.0],
            &[0.0, 1.1],
            &[-0.1, 1.1],
            &[-2.1, 2.1],
            &[-2.1, 2.1],
            &[0.0, -1.0, 10.1],
        ];
        for (change, wrong) in change.into_iter().zip(wrong) {
            for value in wrong.iter().copied().chain([f32::NAN, f32::INFINITY]) {
                let mut sampling = Sampling::default();
                change(&mut sampling, value);
                assert!(sampling.validate().is_err(), "{sampling:?}");
            }
        }
        assert_eq!(Sampling::default().validate(), Ok(()));
    }

    #[test]
    fn log_probabilities_should_sum_to_one() {
        let logits: Vec<f32> = (0..70).map(|i| (i as f32).cos() * 3.0).collect();
        let normaliser = log_normaliser(&logits);
        let total: f64 = logits
            .iter()
            .map(|v| (f64::from(*v) - normaliser).exp())
            .sum();
        assert!((total - 1.0).abs() < 1e-5);
    }
}
