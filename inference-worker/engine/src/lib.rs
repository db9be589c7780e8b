//! The multi-LoRA inference engine.
//!
//! Any mix of adapters on one base model shares each forward pass: requests enter a continuous batch
//! ([`scheduler`]), their rows are sorted by adapter and each adapter costs one small pair of products
//! per adapted matrix ([`lora`]), keys and values live in pages that are taken as they are needed
//! ([`kv`]), and a [`backend`] computes the step.
//!
//! What an answer contains does not depend on who shares the batch: every row is computed by
//! operations in a fixed order ([`backend::cpu::kernels`]) and drawn with random numbers of its own
//! ([`sampling`]). That is tested bit for bit, and the [`fingerprint`] of each answer rests on it.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use openledger_engine::{Engine, EngineOptions, Event, Request};
//! use openledger_model::{ModelConfig, Weights};
//!
//! let folder = std::path::Path::new("base");
//! let config = ModelConfig::from_dir(folder)?;
//! let weights = Weights::load(folder, &config)?;
//! let engine = Engine::start(&config, weights, EngineOptions::default())?;
//! let mut stream = engine.submit(Request::new(vec![1, 2, 3], 16))?;
//! while let Some(event) = stream.blocking_next() {
//!     match event {
//!         Event::Token(token) => println!("{}", token.id),
//!         Event::Finished(end) => println!("{:?}", end.reason),
//!         Event::Failed(error) => return Err(error.into()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod adapters;
pub mod backend;
pub mod bench;
pub mod engine;
pub mod error;
pub mod fingerprint;
pub mod kv;
pub mod lora;
pub mod options;
pub mod panels;
pub mod request;
pub mod sampling;
pub mod scheduler;
mod serve;
pub mod stats;

pub use adapters::{AdapterId, AdapterPool};
pub use engine::{Engine, EngineHandle};
pub use error::{AdapterError, EngineError, StepError, SubmitError};
pub use options::EngineOptions;
pub use request::{
    Event, FinishReason, Finished, Logprobs, Request, Sharing, StopCheck, Token, TokenStream,
};
pub use sampling::Sampling;
pub use stats::{EngineStats, StepRecord};
