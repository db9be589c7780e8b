//! The learning rate over a run.

use serde::{Deserialize, Serialize};

/// Linear warm-up, then a half cosine from the peak down to a share of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Rate after the warm-up.
    pub peak: f64,
    /// Steps of the warm-up.
    pub warmup: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Share of the peak that remains at the end.
    pub floor: f64,
}

impl Schedule {
    /// The rate of step `step`, from 0.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let length = self.steps.saturating_sub(self.warmup).max(1);
        let done = ((step - self.warmup) as f64 / length as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.peak * (self.floor + (1.0 - self.floor) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_should_rise_to_the_peak_and_end_at_the_floor() {
        let s = Schedule {
            peak: 2.0,
            warmup: 10,
            steps: 110,
            floor: 0.1,
        };
        assert_eq!(s.rate(9), 2.0);
        assert_eq!(s.rate(10), 2.0);
        assert!(s.rate(0) < s.rate(5));
        assert!((s.rate(60) - 1.1).abs() < 1e-9);
        assert!((s.rate(110) - 0.2).abs() < 1e-9);
        assert!((s.rate(1000) - 0.2).abs() < 1e-9);
    }
}
