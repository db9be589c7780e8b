//! What is asked of the engine, and the stream of what comes back.

use crate::adapters::AdapterId;
use crate::constraint::TokenConstraint;
use crate::error::{StepError, SubmitError};
use crate::sampling::Sampling;
use crate::scheduler::queue::Tenant;
use std::fmt;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::mpsc;

/// Decides after each token, from all output tokens so far, whether the answer ends here.
pub type StopCheck = Box<dyn FnMut(&[u32]) -> bool + Send>;

/// The most alternatives beside a token's log-probability.
pub const MAX_ALTERNATIVES: usize = 20;

/// The most tokens whose logits a request may change.
pub const MAX_BIASED: usize = 1024;

/// One completion to compute.
pub struct Request {
    /// Token ids of the prompt, special tokens included.
    pub prompt: Vec<u32>,
    /// Tokens at the prompt's end that are the begin of an answer which goes on: penalties count them as
    /// generated.
    pub answered: usize,
    /// The adapter; none for the base model.
    pub adapter: Option<AdapterId>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Key of the draws: the same request with the same seed gives the same tokens.
    pub seed: [u8; 32],
    /// The most tokens to generate; the context's end may come earlier.
    pub max_new_tokens: usize,
    /// Tokens that end the answer. They are neither delivered nor counted.
    pub stop_tokens: Vec<u32>,
    /// Ends the answer after a token, as for stop strings, which need text. That token is delivered
    /// and counted. Called on the engine's thread: keep it quick.
    pub stop: Option<StopCheck>,
    /// Log-probabilities of each token, with this many alternatives, at most [`MAX_ALTERNATIVES`]; none
    /// computes nothing.
    pub logprobs: Option<usize>,
    /// Log-probabilities of each token of the prompt given those before it, with this many
    /// alternatives, at most [`MAX_ALTERNATIVES`]; none computes nothing. With them `max_new_tokens`
    /// may be 0. What the prompt has in common with others is computed again for them.
    pub prompt_logprobs: Option<usize>,
    /// Added to the logits of single tokens before a token is drawn, each from -100 to 100; at most
    /// [`MAX_BIASED`].
    pub logit_bias: Vec<(u32, f32)>,
    /// What the answer may be.
    pub constraint: Option<Box<dyn TokenConstraint>>,
    /// On whose behalf: tenants share the engine evenly.
    pub tenant: Tenant,
    /// Higher goes before the tenant's other requests for the same adapter.
    pub priority: i8,
    /// When the request fails unless it was begun; none waits as long as it takes.
    pub start_by: Option<Instant>,
    /// Requests with different salts never share the keys and values of what they begin with, so that
    /// none can tell from its speed what others asked.
    pub cache_salt: [u8; 32],
}

impl Request {
    /// A greedy request to the base model without stop tokens.
    pub fn new(prompt: Vec<u32>, max_new_tokens: usize) -> Self {
        Self {
            prompt,
            answered: 0,
            adapter: None,
            sampling: Sampling::GREEDY,
            seed: [0; 32],
            max_new_tokens,
            stop_tokens: Vec::new(),
            stop: None,
            logprobs: None,
            prompt_logprobs: None,
            logit_bias: Vec::new(),
            constraint: None,
            tenant: Tenant::default(),
            priority: 0,
            start_by: None,
            cache_salt: [0; 32],
        }
    }
}

impl Request {
    /// Refuses what has no meaning for a vocabulary of that size.
    pub(crate) fn validate(&self, vocabulary: usize) -> Result<(), SubmitError> {
        self.sampling.validate()?;
        if self.prompt.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        if let Some(token) = self.prompt.iter().find(|t| **t as usize >= vocabulary) {
            return Err(SubmitError::UnknownToken {
                token: *token,
                vocabulary,
            });
        }
        for asked in [self.logprobs, self.prompt_logprobs].into_iter().flatten() {
            if asked > MAX_ALTERNATIVES {
                return Err(SubmitError::Alternatives {
                    asked,
                    most: MAX_ALTERNATIVES,
                });
            }
        }
        let has_meaning = |(token, bias): &(u32, f32)| {
            (*token as usize) < vocabulary && (-100.0..=100.0).contains(bias)
        };
        if self.logit_bias.len() > MAX_BIASED || !self.logit_bias.iter().all(has_meaning) {
            return Err(SubmitError::Bias {
                most: MAX_BIASED,
                vocabulary,
            });
        }
        Ok(())
    }
}

impl fmt::Debug for Request {
    /// Prompts are private: only their length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("prompt_tokens", &self.prompt.len())
            .field("adapter", &self.adapter)
            .field("sampling", &self.sampling)
            .field("max_new_tokens", &self.max_new_tokens)
            .finish_non_exhaustive()
    }
}

/// Log-probabilities at one position, in the model's own distribution (before temperature and cuts).
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the token drawn, or of the prompt's.
    pub chosen: f32,
    /// The most probable tokens, most probable first.
    pub top: Vec<(u32, f32)>,
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// If asked for.
    pub logprobs: Option<Logprobs>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token was drawn.
    StopToken(u32),
    /// The request's own check ended it.
    StopCheck,
    /// By the request's constraint it is complete.
    Constraint,
    /// `max_new_tokens` or the context's end was reached.
    Length,
}

impl FinishReason {
    /// The word of the OpenAI API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StopToken(_) | Self::StopCheck | Self::Constraint => "stop",
            Self::Length => "length",
        }
    }
}

/// With how many others a forward pass was shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sharing {
    /// Requests in the pass.
    pub requests: usize,
    /// Different adapters among them.
    pub distinct_adapters: usize,
    /// Requests of the base model among them.
    pub base_requests: usize,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Why.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens delivered.
    pub output_tokens: usize,
    /// Root of the execution fingerprint, see [`crate::fingerprint`].
    pub fingerprint: [u8; 32],
    /// The most crowded forward pass that this answer was part of.
    pub widest_step: Sharing,
}

/// What a stream carries: the prompt's log-probabilities if asked for, tokens, then one end.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One entry for each token of the prompt, before the first token. The first has none: nothing is
    /// before it.
    Prompt(Vec<Option<Logprobs>>),
    /// The vector `[hidden]` of an [`EmbedRequest`](crate::EmbedRequest), before its end; never part of
    /// an answer.
    Embedding(Vec<f32>),
    /// The next token.
    Token(Token),
    /// The answer is complete.
    Finished(Finished),
    /// The answer failed; nothing more comes, and nothing of it is to be billed.
    Failed(StepError),
}

/// The events of one request. Dropping it cancels the request: its pages are free before the next step.
#[derive(Debug)]
pub struct TokenStream {
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
}

impl TokenStream {
    /// The next event; `None` after the last, or when the engine stopped before the end.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// [`Self::next`] for threads outside an async runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }

    /// [`Self::next`] for hand-written streams.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }

    /// Waits for the end and gives all tokens with it; `None` when the engine stopped before.
    pub fn blocking_collect(mut self) -> Option<(Vec<Token>, Result<Finished, StepError>)> {
        let mut tokens = Vec::new();
        loop {
            match self.blocking_next()? {
                Event::Token(token) => tokens.push(token),
                Event::Prompt(_) | Event::Embedding(_) => {}
                Event::Finished(end) => return Some((tokens, Ok(end))),
                Event::Failed(error) => return Some((tokens, Err(error))),
            }
        }
    }
}
