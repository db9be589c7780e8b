//! When requests come in an open loop.

use super::BenchError;
use rand::Rng;
use rand_distr::{Distribution, Exp};
use std::time::Duration;

/// When each of `count` requests comes, from the start: a Poisson process of `rate` requests a second,
/// that is, independent gaps of exponential length. The first comes after the first gap.
///
/// # Errors
/// When the rate is not a positive number.
pub(super) fn poisson(
    rate: f64,
    count: usize,
    rng: &mut impl Rng,
) -> Result<Vec<Duration>, BenchError> {
    let refuse = || BenchError::Workload(format!("a rate of {rate} requests a second"));
    if !(rate.is_finite() && rate > 0.0) {
        return Err(refuse());
    }
    let gaps = Exp::new(rate).map_err(|_| refuse())?;
    let mut at = 0.0;
    (0..count)
        .map(|_| {
            at += gaps.sample(rng);
            Duration::try_from_secs_f64(at).map_err(|_| refuse())
        })
        .collect()
}
