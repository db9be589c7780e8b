//! The chain as the worker, the gateway and the tools see it.
//!
//! Calls, events and runtime APIs are plain structs over `openledger-primitives`, encoded in SCALE.
//! No code is generated from a metadata file: at connect, and again after a runtime upgrade, every
//! call, event and runtime API used here is held against the node's own metadata, name by name and
//! type by type ([`requirements`]), so a client that does not fit its node says what differs before
//! it signs anything.
//!
//! - [`ChainClient`] reads: blocks, balances, runtime APIs, storage. It reconnects by itself.
//! - [`Submitter`] writes: one task per key that owns the nonce and watches each call to finality.
//! - [`Key`] signs: transactions and the hashes of vouchers and receipts.

mod account;
pub mod amount;
pub mod apis;
pub mod calls;
mod client;
mod connection;
mod error;
pub mod events;
mod funds;
mod keys;
mod outcome;
mod pool;
mod reads;
pub mod requirements;
mod shape;
mod signing;
mod storage;
mod submitter;
mod weight;

pub use account::AccountId;
pub use client::{BlockRef, ChainClient};
pub use error::{ChainError, DispatchFailure, Mismatch, SubmitError};
pub use events::Event;
pub use funds::FundsError;
pub use keys::{verify_hash, Key, KeyError};
pub use outcome::{Outcome, RawEvent};
pub use reads::AccountBalance;
pub use storage::StorageKey;
pub use submitter::{PendingCall, Submitter, SubmitterOptions};
pub use weight::CallWeight;

/// Planck in one OPEN.
pub const OPEN: u128 = 1_000_000_000_000;
