//! Embeddings: one vector for a text, from the hidden states of a forward pass.

use crate::adapters::AdapterId;
use crate::error::StepError;
use crate::request::{Event, Request, TokenStream};
use crate::scheduler::queue::Tenant;
use std::time::Instant;

/// How the hidden states of the tokens, after the last norm, become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// That of the last token, which has seen all others.
    #[default]
    Last,
    /// The mean of all.
    Mean,
}

/// A text to embed. It shares steps, limits and turns with everything else that is asked.
#[derive(Clone, Debug)]
pub struct EmbedRequest {
    /// Token ids, special tokens included.
    pub input: Vec<u32>,
    /// The adapter; none for the base model.
    pub adapter: Option<AdapterId>,
    /// How hidden states become one vector.
    pub pooling: Pooling,
    /// On whose behalf, as [`Request::tenant`].
    pub tenant: Tenant,
    /// As [`Request::priority`].
    pub priority: i8,
    /// As [`Request::start_by`].
    pub start_by: Option<Instant>,
    /// As [`Request::cache_salt`].
    pub cache_salt: [u8; 32],
}

impl EmbedRequest {
    /// The last token's state, by the base model.
    pub fn new(input: Vec<u32>) -> Self {
        Self {
            input,
            adapter: None,
            pooling: Pooling::default(),
            tenant: Tenant::default(),
            priority: 0,
            start_by: None,
            cache_salt: [0; 32],
        }
    }

    /// The same as a request that draws nothing.
    pub(crate) fn into_parts(self) -> (Request, Pooling) {
        let pooling = self.pooling;
        let mut request = Request::new(self.input, 0);
        request.adapter = self.adapter;
        request.tenant = self.tenant;
        request.priority = self.priority;
        request.start_by = self.start_by;
        request.cache_salt = self.cache_salt;
        (request, pooling)
    }
}

/// An embedding that is being computed. Dropping it cancels it.
#[derive(Debug)]
pub struct PendingEmbedding {
    pub(crate) stream: TokenStream,
}

impl PendingEmbedding {
    /// Waits for the vector `[hidden]`, of length 1; `None` when the engine stopped before.
    pub async fn wait(mut self) -> Option<Result<Vec<f32>, StepError>> {
        loop {
            match self.stream.next().await? {
                Event::Embedding(vector) => return Some(Ok(vector)),
                Event::Failed(error) => return Some(Err(error)),
                Event::Token(_) | Event::Prompt(_) | Event::Finished(_) => {}
            }
        }
    }

    /// [`Self::wait`] for threads outside an async runtime.
    pub fn blocking_wait(mut self) -> Option<Result<Vec<f32>, StepError>> {
        loop {
            match self.stream.blocking_next()? {
                Event::Embedding(vector) => return Some(Ok(vector)),
                Event::Failed(error) => return Some(Err(error)),
                Event::Token(_) | Event::Prompt(_) | Event::Finished(_) => {}
            }
        }
    }
}

/// Hidden states on their way to one vector.
#[derive(Debug)]
pub(crate) struct Pool {
    pooling: Pooling,
    sum: Vec<f64>,
    rows: usize,
}

impl Pool {
    pub(crate) fn new(pooling: Pooling) -> Self {
        Self {
            pooling,
            sum: Vec::new(),
            rows: 0,
        }
    }

    /// The first position whose state counts, of a text of `tokens` tokens.
    pub(crate) fn first(&self, tokens: usize) -> usize {
        match self.pooling {
            Pooling::Last => tokens.saturating_sub(1),
            Pooling::Mean => 0,
        }
    }

    /// Adds the state of the next position that counts.
    pub(crate) fn add(&mut self, state: &[f32]) {
        self.sum.resize(state.len(), 0.0);
        for (sum, value) in self.sum.iter_mut().zip(state) {
            *sum += f64::from(*value);
        }
        self.rows += 1;
    }

    /// The mean of what was added, scaled to length 1.
    pub(crate) fn vector(&self) -> Result<Vec<f32>, StepError> {
        // The length takes the count of rows with it.
        let length = self.sum.iter().map(|v| v * v).sum::<f64>().sqrt();
        if self.rows == 0 || !(length.is_finite() && length > 0.0) {
            return Err(StepError::NotFinite);
        }
        Ok(self.sum.iter().map(|v| (v / length) as f32).collect())
    }
}
