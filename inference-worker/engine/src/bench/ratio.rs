//! One side against another, measured in turns.
//!
//! Each ratio is the median over the repeats of the ratio within a repeat. Within a repeat the sides take
//! turns until each has worked for a while: other load on the machine, which changes slowly against a
//! turn, weighs on both, and no turn of a moment decides.

use super::percentiles::median;
use super::BenchError;
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// How often and for how long the sides take turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// Repeats, at least one.
    pub repeats: usize,
    /// Time that a repeat takes at least, both sides together.
    pub each: Duration,
}

impl From<usize> for Turns {
    /// Repeats of a usual length.
    fn from(repeats: usize) -> Self {
        Self {
            repeats,
            each: Duration::from_secs(4),
        }
    }
}

/// One side against another.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// What is compared.
    pub name: &'static str,
    /// The median ratio.
    pub ratio: f64,
    /// What the ratio has to reach.
    pub bar: f64,
    /// The ratio over the bar: at least 1 when it is reached.
    pub achieved: f64,
    /// The side of the numerator, output tokens per second, median.
    pub tokens_per_second: f64,
    /// The side of the denominator.
    pub against: f64,
    /// The ratio of each repeat.
    pub repeats: Vec<f64>,
}

/// Measures both sides in turns, after one turn of each unmeasured. Each turn gives its output tokens per
/// second, of the same number of tokens each time.
///
/// # Errors
/// The first of a side.
pub(super) fn ratio(
    name: &'static str,
    bar: f64,
    turns: Turns,
    mut side: impl FnMut() -> Result<f64, BenchError>,
    mut against: impl FnMut() -> Result<f64, BenchError>,
) -> Result<Ratio, BenchError> {
    side()?;
    against()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..turns.repeats.max(1) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let started = Instant::now();
        // An even number of turns: the one that goes first alternates.
        while a.is_empty() || a.len() % 2 == 1 || started.elapsed() < turns.each {
            if a.len() % 2 == 0 {
                a.push(side()?);
                b.push(against()?);
            } else {
                b.push(against()?);
                a.push(side()?);
            }
        }
        ours.push(of_all(&a));
        theirs.push(of_all(&b));
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    let ratio = median(&ratios);
    Ok(Ratio {
        name,
        ratio,
        bar,
        achieved: ratio / bar,
        tokens_per_second: median(&ours),
        against: median(&theirs),
        repeats: ratios,
    })
}

/// The rate over turns of equal work.
fn of_all(rates: &[f64]) -> f64 {
    rates.len() as f64 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<46} {:>6.3} / {:<5} = {:>5.2} of the bar  ({:.0} / {:.0} tok/s)",
            self.name, self.ratio, self.bar, self.achieved, self.tokens_per_second, self.against
        )
    }
}
