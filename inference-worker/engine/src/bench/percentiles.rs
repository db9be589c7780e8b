//! Percentiles and medians.

use serde::Serialize;
use std::time::Duration;

/// How values are spread. All are 0 when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Number of values.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Half of the values are at most this.
    pub p50: f64,
    /// Nine in ten are.
    pub p90: f64,
    /// Ninety-nine in a hundred are; of fewer than a hundred values, nearly the largest.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    /// Of values in any order.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let Some(max) = values.last().copied() else {
            return Self::default();
        };
        Self {
            count: values.len(),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            p50: quantile(&values, 0.50),
            p90: quantile(&values, 0.90),
            p99: quantile(&values, 0.99),
            max,
        }
    }

    /// Of times, in milliseconds.
    pub fn of_millis(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::of(times.into_iter().map(|t| t.as_secs_f64() * 1e3).collect())
    }

    /// The median of each field over several runs, and all of their values counted.
    pub fn median<'a>(runs: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let field = |of: fn(&Self) -> f64| median(&runs.clone().map(of).collect::<Vec<_>>());
        Self {
            count: runs.clone().map(|p| p.count).sum(),
            mean: field(|p| p.mean),
            p50: field(|p| p.p50),
            p90: field(|p| p.p90),
            p99: field(|p| p.p99),
            max: field(|p| p.max),
        }
    }
}

/// The value below which a share `q` of the sorted values lies, between two of them in proportion
/// (Hyndman and Fan's definition 7, which numpy takes too). NaN when there are none.
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    low + (high - low) * (at - below as f64)
}

/// The median; NaN of no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}
