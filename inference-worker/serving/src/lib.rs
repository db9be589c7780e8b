#![doc = include_str!("../README.md")]

pub mod access;
mod admin;
mod answering;
pub mod ask;
mod completions;
mod embeddings;
mod failure;
pub mod guide;
pub mod metrics;
pub mod models;
pub mod reader;
mod routes;
pub mod server;
mod status;

pub use access::{AccessError, Keys};
pub use models::{ModelError, Models};
pub use routes::loading;
pub use server::{Options, Server, ServerError};
pub use status::LOADING;
