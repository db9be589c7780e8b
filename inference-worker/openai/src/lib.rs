//! Requests, answers and errors of OpenAI's API, with the extras that vLLM's users know.
//!
//! Types and pure functions: no engine, no chain and no HTTP server. Worker, gateway and `serve` all
//! read requests here, so that what one of them understands all of them do, and in the same way. A
//! field that would change the answer and is not understood is refused by name: nobody gets an answer
//! other than the one asked for.
//!
//! Sources: the OpenAI API reference for `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`
//! and `/v1/models`; vLLM's documentation of its OpenAI-compatible server for the extras.

pub mod adapters;
pub mod answer;
mod call_syntax;
mod calls;
pub mod completion;
pub mod embeddings;
mod error;
mod fields;
pub mod format;
pub mod limits;
pub mod logprobs;
pub mod messages;
pub mod prompt;
pub mod sampling;
pub mod sse;
pub mod tools;

pub use call_syntax::CallSyntax;
pub use calls::CallReader;
pub use completion::{Completion, Endpoint};
pub use embeddings::EmbeddingsRequest;
pub use error::ApiError;
pub use format::Format;
pub use messages::ChatMessage;
pub use prompt::{Input, Prompt};
pub use sampling::Sampling;
pub use tools::{Tool, ToolCall, ToolChoice};
