//! What the audience reads: what happens, and how long it took.

use std::time::Instant;

/// Prints lines with the time since the beginning.
pub struct Narrator {
    begun: Instant,
}

impl Narrator {
    /// Starts the clock.
    pub fn new() -> Self {
        Narrator {
            begun: Instant::now(),
        }
    }

    /// A new act.
    pub fn act(&self, title: &str) {
        println!("\n[{:>5.1} s] {title}", self.seconds());
    }

    /// Something that happened.
    pub fn say(&self, line: impl AsRef<str>) {
        println!("          {}", line.as_ref());
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

/// Planck as OPEN, without trailing zeros.
pub fn open(planck: u128) -> String {
    let one = openledger_chain::OPEN;
    let text = format!("{}.{:012}", planck / one, planck % one);
    format!("{} OPEN", text.trim_end_matches('0').trim_end_matches('.'))
}
