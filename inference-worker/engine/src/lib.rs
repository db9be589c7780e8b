#![doc = include_str!("../README.md")]

pub mod adapters;
pub mod backend;
pub mod bench;
pub mod engine;
pub mod error;
pub mod fingerprint;
pub mod kv;
pub mod lora;
pub mod memory;
pub mod options;
pub mod panels;
mod queue_room;
pub mod request;
pub mod sampling;
pub mod scheduler;
mod serve;
pub mod stats;

pub use adapters::{AdapterId, AdapterSource, FolderSource, Registry};
pub use engine::{Engine, EngineHandle};
pub use error::{AdapterError, EngineError, StepError, SubmitError};
pub use options::EngineOptions;
pub use request::{
    Event, FinishReason, Finished, Logprobs, Request, Sharing, StopCheck, Token, TokenStream,
};
pub use sampling::Sampling;
pub use scheduler::queue::Tenant;
pub use stats::{EngineStats, StepRecord, TierCounts};

#[cfg(test)]
mod testing;
