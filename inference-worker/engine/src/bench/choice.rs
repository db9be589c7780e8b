//! Which adapter a request asks for.

use super::BenchError;
use rand::Rng;
use rand_distr::{Distribution, Zipf};
use serde::Serialize;

/// How often each of the active adapters is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// All alike.
    Uniform,
    /// The adapter of popularity `k`, from 1, in proportion to `k^-s`.
    Zipf(f64),
}

/// Draws adapters.
pub(super) enum Chooser {
    Uniform(usize),
    Zipf(Zipf<f64>, usize),
}

impl Chooser {
    /// Draws among `adapters`.
    ///
    /// # Errors
    /// When there are none, or the exponent is negative or no number.
    pub fn new(choice: Choice, adapters: usize) -> Result<Self, BenchError> {
        if adapters == 0 {
            return Err(BenchError::Workload(
                "there must be at least one adapter to choose".to_owned(),
            ));
        }
        match choice {
            Choice::Uniform => Ok(Self::Uniform(adapters)),
            Choice::Zipf(s) => {
                let zipf = Zipf::new(adapters as f64, s);
                let zipf = zipf.map_err(|e| BenchError::Workload(format!("Zipf's s: {e}")))?;
                Ok(Self::Zipf(zipf, adapters))
            }
        }
    }

    /// The next adapter, from 0; the most popular first.
    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        match self {
            Self::Uniform(adapters) => rng.random_range(0..*adapters),
            // The sampler computes in floats: its ends are held here.
            Self::Zipf(zipf, adapters) => (zipf.sample(rng) as usize).clamp(1, *adapters) - 1,
        }
    }
}
