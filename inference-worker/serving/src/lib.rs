#![doc = include_str!("../README.md")]

pub mod access;
mod admin;
mod answering;
pub mod ask;
mod completions;
mod connections;
mod embeddings;
mod failure;
mod front;
pub mod guide;
pub mod metrics;
pub mod models;
pub mod reader;
mod routes;
pub mod server;
mod stall;
mod status;

pub use access::{AccessError, Keys};
pub use front::Front;
pub use models::{ModelError, Models};
pub use server::{Options, Server, ServerError};
