//! What can go wrong between a client's request and its answer.

use crate::{api::Denied, check::Rejection, lanes::Overdrawn};
use openledger_chain::ChainError;
use openledger_primitives::Balance;
use serde_json::{json, Value};

/// A request that has no answer. [`status`](Self::status) and [`body`](Self::body) are what the
/// client sees, in the shape of OpenAI's API.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The request is wrong.
    #[error("{message}")]
    BadRequest {
        /// Machine-readable cause.
        code: &'static str,
        /// The field at fault.
        param: Option<String>,
        /// What to do about it.
        message: String,
    },
    /// The request is not understood, or asks for what cannot be.
    #[error("{0}")]
    Request(#[from] openledger_openai::ApiError),
    /// No such model.
    #[error("the model `{0}` is not served by this channel's worker; GET /v1/models lists those that are")]
    UnknownModel(String),
    /// The prompt does not fit.
    #[error("this model's context is {context} tokens; the prompt has {prompt} and must leave room for an answer")]
    TooLong {
        /// Tokens of the context.
        context: u32,
        /// Tokens of the prompt.
        prompt: u32,
    },
    /// The channel or its signer has not enough left.
    #[error(
        "this answer may cost up to {needed} planck, but {left} planck are left of {of}; {advice}"
    )]
    OverBudget {
        /// Planck.
        needed: Balance,
        /// Planck.
        left: Balance,
        /// `the channel's deposit` or `the signer's limit`.
        of: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The channel cannot be used.
    #[error("channel {channel}: {reason}")]
    Channel {
        /// Which.
        channel: u64,
        /// Why.
        reason: String,
    },
    /// Every lane is busy and the queue is full, or waiting took too long.
    #[error("all {lanes} lanes of the channel are busy; try again shortly, or add lanes")]
    Busy {
        /// Lanes that can be used.
        lanes: usize,
    },
    /// What the worker did on a lane is not known yet.
    #[error("lane {lane} of the channel waits for the worker, which {why}; try again shortly")]
    Unsettled {
        /// Which.
        lane: u16,
        /// What it waits for.
        why: String,
    },
    /// The terms on chain cost more than the gateway's owner allows.
    #[error("`{model}` costs {price} planck per 1,000 {of} tokens, this gateway pays at most {limit}; ask another model, or start the gateway with a higher `{option}`")]
    TooDear {
        /// What was asked for.
        model: String,
        /// Planck per 1,000 tokens.
        price: Balance,
        /// Planck per 1,000 tokens at most.
        limit: Balance,
        /// `prompt` or `output`.
        of: &'static str,
        /// The option that sets the limit.
        option: &'static str,
    },
    /// The HTTP request must not be answered to whoever sent it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A lane cannot be taken back into use.
    #[error("lane {lane} cannot be used again: {reason}")]
    Lane {
        /// Which.
        lane: u16,
        /// Why.
        reason: String,
    },
    /// No lane can be used.
    #[error("every lane of channel {channel} is parked: {reason}; see `openledger-gateway lanes`")]
    AllParked {
        /// Which channel.
        channel: u64,
        /// Why the last was parked.
        reason: String,
    },
    /// More would be lost to the worker than is put up with: its receipt is not acknowledged.
    #[error(transparent)]
    Overdrawn(#[from] Overdrawn),
    /// An answer did not come whole and what it cost could not be settled: its lane is parked.
    #[error("{cause}; lane {lane} is parked: {reason}; see `openledger-gateway lanes`")]
    Parked {
        /// Which lane.
        lane: u16,
        /// Why it is parked.
        reason: String,
        /// Why the answer did not come whole.
        cause: Box<GatewayError>,
    },
    /// The worker cannot be reached or answers nonsense.
    #[error("the worker at {url} {problem}")]
    Worker {
        /// Its endpoint.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The worker refused the request before taking the voucher.
    #[error("the worker refused the request: {message}")]
    Refused {
        /// HTTP status of the worker.
        status: u16,
        /// Its code.
        code: String,
        /// Its message.
        message: String,
        /// Seconds after which to try again.
        retry_after: Option<u64>,
    },
    /// The worker failed after it took the voucher; nothing is charged.
    #[error("the worker failed and charges nothing: {0}")]
    Failed(String),
    /// The receipt does not pass: nothing is acknowledged and the lane is parked.
    #[error("the worker's receipt was refused and not acknowledged: {0}")]
    Rejected(#[from] Rejection),
    /// The client went away.
    #[error("the client went away")]
    Cancelled,
    /// The gateway was set up in a way it must not run.
    #[error("{0}")]
    Setup(String),
    /// The chain cannot be read.
    #[error("the chain cannot be read: {0}")]
    Chain(#[from] ChainError),
    /// The gateway's own files cannot be read or written.
    #[error("the gateway's data cannot be kept: {0}")]
    Data(String),
    /// The model's tokenizer or template cannot be loaded or refuses the text.
    #[error("{0}")]
    Text(String),
}

impl GatewayError {
    /// Whether the worker has other work of the lane under way.
    pub fn is_lane_busy(&self) -> bool {
        matches!(self, GatewayError::Refused { code, .. } if code == "voucher_lane_busy")
    }

    /// Whether the worker stands elsewhere on the lane than this gateway, so that it would refuse
    /// every further voucher too.
    pub fn is_lane_lost(&self) -> bool {
        const LOST: [&str; 3] = [
            "voucher_lane_lost",
            "voucher_sequence",
            "voucher_previous_receipt",
        ];
        matches!(self, GatewayError::Refused { code, .. } if LOST.contains(&code.as_str()))
    }

    /// A request that is wrong in `param`.
    pub fn bad(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        GatewayError::BadRequest {
            code,
            param: (!param.is_empty()).then(|| param.to_owned()),
            message: message.into(),
        }
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            GatewayError::BadRequest { .. } | GatewayError::TooLong { .. } => 400,
            GatewayError::Request(error) => error.status,
            GatewayError::OverBudget { .. }
            | GatewayError::Channel { .. }
            | GatewayError::TooDear { .. } => 402,
            GatewayError::Denied(denied) => denied.status(),
            GatewayError::UnknownModel(_) => 404,
            GatewayError::Busy { .. } | GatewayError::Unsettled { .. } => 429,
            // A voucher that the worker refuses is this program's fault or the worker's, never the
            // client's; what is wrong with the request itself is passed on.
            GatewayError::Refused { status, code, .. } => match status {
                400 | 404 | 413 | 422 | 429 | 503 if !code.starts_with("voucher") => *status,
                _ => 502,
            },
            GatewayError::Worker { .. }
            | GatewayError::Failed(_)
            | GatewayError::Rejected(_)
            | GatewayError::Lane { .. }
            | GatewayError::Overdrawn(_)
            | GatewayError::Parked { .. }
            | GatewayError::AllParked { .. } => 502,
            GatewayError::Chain(_) => 503,
            GatewayError::Cancelled => 499,
            GatewayError::Text(_) | GatewayError::Data(_) | GatewayError::Setup(_) => 500,
        }
    }

    /// Machine-readable cause.
    pub fn code(&self) -> &str {
        match self {
            GatewayError::BadRequest { code, .. } => code,
            GatewayError::Request(error) => &error.code,
            GatewayError::TooLong { .. } => "context_length_exceeded",
            GatewayError::OverBudget { .. } => "insufficient_quota",
            GatewayError::Channel { .. } => "channel_unusable",
            GatewayError::UnknownModel(_) => "model_not_found",
            GatewayError::Busy { .. } => "lanes_busy",
            GatewayError::Unsettled { .. } => "lane_unsettled",
            GatewayError::Lane { .. } | GatewayError::Parked { .. } => "lane_parked",
            GatewayError::Overdrawn(_) => "undelivered_charges",
            GatewayError::TooDear { .. } => "price_above_limit",
            GatewayError::Denied(denied) => denied.code(),
            GatewayError::AllParked { .. } => "lanes_parked",
            GatewayError::Worker { .. } => "worker_unreachable",
            GatewayError::Refused { code, .. } => code,
            GatewayError::Failed(_) => "worker_failed",
            GatewayError::Rejected(rejection) => rejection.code(),
            GatewayError::Cancelled => "cancelled",
            GatewayError::Chain(_) => "chain_unreachable",
            GatewayError::Data(_) => "data_unwritable",
            GatewayError::Setup(_) => "setup",
            GatewayError::Text(_) => "model_unusable",
        }
    }

    /// Seconds after which the client should try again.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            GatewayError::Busy { .. } | GatewayError::Unsettled { .. } => Some(1),
            GatewayError::Chain(_) => Some(5),
            GatewayError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// OpenAI's error object.
    pub fn body(&self) -> Value {
        let kind = match self.status() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            status if status < 500 => "invalid_request_error",
            _ => "server_error",
        };
        let param = match self {
            GatewayError::BadRequest { param, .. } => param.clone(),
            GatewayError::Request(error) => error.param.clone(),
            GatewayError::UnknownModel(_) => Some("model".to_owned()),
            GatewayError::TooLong { .. } => Some("messages".to_owned()),
            _ => None,
        };
        json!({"error": {
            "message": self.to_string(),
            "type": kind,
            "param": param,
            "code": self.code(),
        }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_openais_shape() {
        let error = GatewayError::bad("unsupported_value", "n", "`n` must be 1");
        assert_eq!(error.status(), 400);
        assert_eq!(
            error.body(),
            json!({"error": {"message": "`n` must be 1", "type": "invalid_request_error", "param": "n", "code": "unsupported_value"}})
        );
    }

    #[test]
    fn a_voucher_the_worker_refuses_is_not_the_clients_fault() {
        let refused = |status, code: &str| GatewayError::Refused {
            status,
            code: code.into(),
            message: String::new(),
            retry_after: Some(3),
        };
        assert_eq!(refused(402, "voucher_expired").status(), 502);
        assert_eq!(refused(429, "busy").status(), 429);
        assert_eq!(refused(429, "busy").retry_after(), Some(3));
        assert_eq!(refused(400, "unsupported_parameter").status(), 400);
    }
}
