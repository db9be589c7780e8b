//! The engine's bench: load as data, latencies as a client sees them, and ratios whose two sides take turns.
//!
//! | file | concept |
//! | --- | --- |
//! | `workload.rs` | what is asked: closed or open loop, adapters, lengths, seed |
//! | `choice.rs` | which adapter a request asks for: uniform or Zipf |
//! | `arrivals.rs` | when requests come in an open loop: a Poisson process |
//! | `drive.rs` | asks an engine as planned and notes when each token came |
//! | `percentiles.rs` | percentiles and medians |
//! | `measured.rs` | what one run came to |
//! | `sweep.rs` | several loads on one engine, taking turns |
//! | `shape.rs` | the model that is measured: a preset of random weights, or a folder |
//! | `fleet.rs` | adapters in folders, written for the bench |
//! | `ratio.rs` | one side against another, against a bar |
//! | `bars.rs` | the ratios that the engine is held to |
//! | `registered.rs` | what a registered adapter takes, and what a first token takes from each tier |
//! | `rounds.rs` | batches of requests on demand, for comparison with another program |
//! | `machine.rs` | what it was measured on |
//!
//! Weights are seeded and random and said to be so, unless a folder is given: speed does not depend on
//! what they say.

mod arrivals;
pub mod bars;
mod choice;
mod drive;
pub mod fleet;
pub mod machine;
pub mod measured;
pub mod percentiles;
pub mod ratio;
pub mod registered;
pub mod rounds;
pub mod shape;
pub mod sweep;
#[cfg(test)]
mod tests;
pub mod workload;

use crate::error::{AdapterError, EngineError, SubmitError};
use openledger_model::ModelError;
use std::path::PathBuf;
use thiserror::Error;

pub use choice::Choice;
pub use workload::{Lengths, Pace, Start, Workload};

/// The bench could not run.
#[derive(Debug, Error)]
pub enum BenchError {
    /// No weights.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No adapters.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A request was refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A request did not end well.
    #[error("a request ended with {0}")]
    Request(String),
    /// What is asked for has no meaning.
    #[error("{0}")]
    Workload(String),
    /// The adapters' folders cannot be written or read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The adapters' folders do not fit the disk.
    #[error("the adapters take about {needed} bytes, and {path} has {free}; name another folder, or fewer adapters")]
    Disk {
        /// Where they would be written.
        path: PathBuf,
        /// Bytes that they take.
        needed: u64,
        /// Bytes that are free there.
        free: u64,
    },
    /// The operating system gave no thread or timer.
    #[error("no thread for the load: {0}")]
    Thread(String),
}
