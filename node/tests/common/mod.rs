//! The built node as a process: what the tests of this folder share.

// Every test is a program of its own, and none of them uses all of this.
#![allow(dead_code)]

pub mod command;
mod node;

pub use command::run;
pub use node::Node;

use std::time::{Duration, Instant};

/// Only a bound against waiting forever; nothing is said about how long anything takes.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until `holds`, and panics with `what` when that does not come about.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
