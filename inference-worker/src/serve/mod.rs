//! Serving: what stands between a paid request and its settled receipt.
//!
//! [`Service`] ties engine, tokenizer, journal and chain together. A request goes through
//! [`admission`] and [`answer`]: the voucher is admitted, the engine streams, the sources are found, and the receipt
//! is on disk before the last event. Beside it [`settlement`] submits batches,
//! [`liveness`] keeps the worker announced, [`catalog`] follows the revisions on chain.

pub mod admission;
pub mod answer;
pub mod catalog;
mod computing;
pub mod continuations;
pub mod facts;
pub mod liveness;
pub mod promises;
pub mod rules;
pub mod settlement;
mod silence;
pub mod sources;

use crate::api::error::ApiError;
use openledger_chain::{AccountId, ChainClient, Key, Submitter};
use openledger_engine::EngineHandle;
use openledger_metering::{Journal, JournalError};
use openledger_primitives::receipt::BackendClass;
use openledger_serving::guide::Guides;
use openledger_text::TextModel;
use std::sync::Arc;

/// Everything that serving needs; clones share it.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

/// See [`Service`].
pub struct Inner {
    /// The worker's account: the one with the bond.
    pub worker: AccountId,
    /// Signs receipts and transactions.
    pub key: Key,
    /// Index of the service key on chain.
    pub key_index: u16,
    /// Reads the chain.
    pub client: ChainClient,
    /// Sends this worker's transactions.
    pub submitter: Submitter,
    /// The chain's rules, as this worker keeps them.
    pub rules: rules::Rules,
    /// What the chain says, kept fresh.
    pub facts: facts::Facts,
    /// The models served.
    pub catalog: catalog::Catalog,
    /// The engine.
    pub engine: EngineHandle,
    /// What it computes on, as receipts say.
    pub backend: BackendClass,
    /// Tokenizer and chat template of the base.
    pub text: TextModel,
    /// What answers must look like.
    pub guides: Guides,
    /// Delivered receipts.
    pub journal: Journal,
    /// Answers that may go on.
    pub continuations: continuations::Continuations,
    /// Fees of requests in flight.
    pub promises: promises::Promises,
}

impl Service {
    /// Shares the parts.
    pub fn new(inner: Inner) -> Self {
        Service {
            inner: Arc::new(inner),
        }
    }
}

impl std::ops::Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

/// A journal's result for a client: what went wrong is for the log.
fn journal<T>(result: Result<T, JournalError>) -> Result<T, ApiError> {
    result.map_err(|error| {
        tracing::error!(%error, "journal");
        ApiError::internal("The worker's journal cannot be used; it delivers nothing until it can.")
    })
}

/// An error's message as a sentence.
fn sentence(error: &dyn std::fmt::Display) -> String {
    let message = error.to_string();
    let mut letters = message.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => message,
    }
}
