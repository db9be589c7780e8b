//! Trying again later, and later still.

use std::time::Duration;

/// Waits that double from the first to the longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            next: first,
            first,
            longest,
        }
    }

    /// How long to wait after one more failure.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.longest);
        wait
    }

    /// It worked: the next failure waits shortly again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(6), Duration::from_secs(20));
        let waits: Vec<u64> = (0..4).map(|_| backoff.wait().as_secs()).collect();
        assert_eq!(waits, [6, 12, 20, 20]);
        backoff.reset();
        assert_eq!(backoff.wait().as_secs(), 6);
    }
}
