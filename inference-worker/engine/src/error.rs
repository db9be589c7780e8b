//! What can go wrong, by who has to act.

use crate::adapters::AdapterId;
use crate::backend::cuda::device::DeviceError;
use crate::constraint::ConstraintError;
use std::time::Duration;
use thiserror::Error;

/// The engine cannot start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// An option is without a meaning.
    #[error("option {0}")]
    Options(String),
    /// Weights that do not fit the configuration.
    #[error("weights of {name}: {reason}")]
    Weights {
        /// The matrix.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// The device cannot be used, or has no room for the model.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// The operating system gave no thread.
    #[error("no thread for the engine: {0}")]
    Thread(String),
}

/// An adapter cannot be loaded or named.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdapterError {
    /// Its layers are not those of the base model.
    #[error("the adapter has {adapter} layers, the base model {model}")]
    Layers {
        /// Layers of the adapter.
        adapter: usize,
        /// Layers of the base model.
        model: usize,
    },
    /// A pair does not fit its matrix.
    #[error("layer {layer}: the pair of {module} does not fit the base model")]
    Shape {
        /// The layer.
        layer: usize,
        /// The matrix.
        module: &'static str,
    },
    /// A weight is NaN or infinite.
    #[error("layer {layer}: {module} has a weight that is not finite")]
    NotFinite {
        /// The layer.
        layer: usize,
        /// The matrix.
        module: &'static str,
    },
    /// The magnitude of a pair (DoRA) does not fit the base's weights.
    #[error("layer {layer}: the lora_magnitude_vector of {module}: {reason}")]
    Magnitude {
        /// The layer.
        layer: usize,
        /// The matrix.
        module: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// It was laid out for another kind of device.
    #[error("the adapter was laid out for another kind of device than this engine's")]
    Arrangement,
    /// It was laid out for another number of ranks.
    #[error("the adapter is laid out for {image} ranks, the device has {device}")]
    Ranks {
        /// Ranks of the image.
        image: usize,
        /// Ranks of the device.
        device: usize,
    },
    /// The pool's bytes are taken.
    #[error("the adapter needs {needed} bytes, {free} are free")]
    PoolFull {
        /// Bytes of the adapter.
        needed: usize,
        /// Bytes left.
        free: usize,
    },
    /// It takes more of the device than one full context leaves.
    #[error("the adapter needs {needed} bytes on the device, which has {most} for one adapter")]
    TooLarge {
        /// Bytes of the adapter.
        needed: usize,
        /// Bytes that an adapter may take.
        most: usize,
    },
    /// Pinned adapters would leave too little of the device to the others.
    #[error(
        "pinned adapters may take {most} bytes of the device; with this one they would {needed}"
    )]
    PinnedFull {
        /// Bytes of pinned adapters, this one included.
        needed: usize,
        /// Bytes that they may take.
        most: usize,
    },
    /// It could not be brought to the device.
    #[error("{0}")]
    Load(StepError),
    /// The engine was shut down.
    #[error("the engine has stopped")]
    Stopped,
    /// No such adapter is registered.
    #[error("adapter {0} is not loaded")]
    Unknown(AdapterId),
    /// The alias was moved by somebody else.
    #[error("the alias points at {current:?}")]
    AliasChanged {
        /// What it points at now.
        current: Option<AdapterId>,
    },
}

/// A request is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SubmitError {
    /// Nothing to go on from.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// Nothing to generate.
    #[error("max_new_tokens is 0")]
    NoNewTokens,
    /// The prompt leaves no room for a token.
    #[error(
        "the prompt has {prompt} tokens; the context holds {context} with at least one new token"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// A prompt token that the model does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The adapter is not loaded; the base model never answers in its place.
    #[error("adapter {0} is not loaded")]
    UnknownAdapter(AdapterId),
    /// More alternatives than a log-probability may have.
    #[error("{asked} alternatives were asked for; at most {most} are given")]
    Alternatives {
        /// Those asked for.
        asked: usize,
        /// Those given.
        most: usize,
    },
    /// A bias that is not a number from -100 to 100, or too many of them.
    #[error(
        "`logit_bias` must map at most {most} token ids, each below {vocabulary}, to numbers from -100 to 100"
    )]
    Bias {
        /// Tokens at most.
        most: usize,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// A sampling parameter without a meaning.
    #[error("{0}")]
    Sampling(&'static str),
    /// Too many requests wait, or too many of this tenant.
    #[error("{} requests are being served or wait{}; try again in {} s",
        .limit, if *.own { " for you" } else { "" }, .retry_after.as_secs())]
    QueueFull {
        /// Requests that may wait or run.
        limit: usize,
        /// Whether the limit is the tenant's own.
        own: bool,
        /// When a place is likely to be free, in whole seconds, at least one.
        retry_after: Duration,
    },
    /// The engine was shut down.
    #[error("the engine has stopped")]
    Stopped,
}

/// A step failed; the requests in it end with this.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StepError {
    /// The model computed something that is no number.
    #[error("the model's logits are not finite")]
    NotFinite,
    /// The request's own stop check panicked.
    #[error("the request's stop check panicked")]
    StopCheck,
    /// Its constraint cannot go on, by what was asked for.
    #[error("the answer's constraint: {0}")]
    Constraint(String),
    /// Its constraint cannot go on, by what others hold.
    #[error("the answer's constraint: {0}")]
    ConstraintBusy(String),
    /// Its turn did not come before `start_by`.
    #[error("the request was not begun in time")]
    Expired,
    /// Its adapter cannot be brought to the device.
    #[error("the adapter cannot be loaded: {0}")]
    Adapter(String),
    /// The backend failed.
    #[error("backend: {0}")]
    Backend(String),
}

impl From<ConstraintError> for StepError {
    fn from(error: ConstraintError) -> Self {
        match error {
            ConstraintError::Stuck(reason) => Self::Constraint(reason),
            ConstraintError::Busy(reason) => Self::ConstraintBusy(reason),
        }
    }
}

impl From<DeviceError> for StepError {
    fn from(error: DeviceError) -> Self {
        Self::Backend(error.to_string())
    }
}
