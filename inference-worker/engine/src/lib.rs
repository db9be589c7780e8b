#![doc = include_str!("../README.md")]

pub mod adapters;
pub mod adjust;
mod aligned;
pub mod backend;
pub mod bench;
pub mod constraint;
mod descriptions;
pub mod embedding;
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

pub use adapters::{AdapterId, AdapterSource, Brought, FolderSource, Registry};
pub use constraint::{ConstraintError, TokenConstraint, TokenMask};
pub use descriptions::describe_metrics;
pub use embedding::{EmbedRequest, PendingEmbedding, Pooling};
pub use engine::{Engine, EngineHandle};
pub use error::{AdapterError, EngineError, StepError, SubmitError};
pub use options::{BackendOptions, EngineOptions};
pub use request::{
    Event, FinishReason, Finished, Logprobs, Request, Sharing, StopCheck, Token, TokenStream,
};
pub use sampling::Sampling;
pub use scheduler::queue::Tenant;
pub use stats::{EngineStats, StepRecord, TierCounts};

#[cfg(test)]
mod testing;
