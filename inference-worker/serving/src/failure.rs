//! Errors of engine and models as a client sees them.

use crate::guide::FORMS_WAIT;
use crate::models::ModelError;
use openledger_engine::{AdapterId, EngineHandle, StepError, SubmitError};
use openledger_openai::ApiError;

/// An error's message as a sentence.
fn sentence(error: &dyn std::fmt::Display) -> String {
    let message = error.to_string();
    let mut letters = message.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => message,
    }
}

/// Refuses more answers or vectors at once than one key ever has places for; the field at fault is `param`.
pub(crate) fn within_places(
    engine: &EngineHandle,
    asked: usize,
    param: &str,
) -> Result<(), ApiError> {
    let most = engine.most_requests();
    if asked <= most {
        return Ok(());
    }
    Err(ApiError::value(
        param,
        format!(
            "The request asks for {asked} answers, and of one key at most {most} wait or run here. Ask for \
             fewer at a time."
        ),
    ))
}

/// A request that the engine does not take.
pub(crate) fn refused(error: SubmitError, model: &str) -> ApiError {
    match error {
        SubmitError::QueueFull { retry_after, .. } => {
            ApiError::busy(sentence(&error), retry_after.as_secs().max(1))
        }
        SubmitError::Stopped => ApiError::unavailable("The engine has stopped."),
        // Unloaded between its name and its turn.
        SubmitError::UnknownAdapter(_) => ApiError::unknown_model(model),
        SubmitError::Bias { .. } => ApiError::value("logit_bias", sentence(&error)),
        SubmitError::PromptTooLong { .. } => {
            ApiError::invalid("context_length_exceeded", sentence(&error))
        }
        error => ApiError::invalid("invalid_request", sentence(&error)),
    }
}

/// A request that the engine took and could not finish: what it asked for by `model`, and the adapter that
/// was. A client learns what is wrong and no more; the log has the digest too.
pub(crate) fn failed(error: &StepError, model: &str, adapter: Option<AdapterId>) -> ApiError {
    let log = || match adapter {
        Some(digest) => tracing::error!(model, %digest, "a request failed: {error}"),
        None => tracing::error!(model, "a request failed: {error}"),
    };
    match error {
        StepError::Expired => ApiError::busy("No place came free in time. Try again.", 5),
        StepError::Constraint(_) => ApiError::unprocessable("constraint_failed", sentence(error)),
        StepError::ConstraintBusy(_) => ApiError::busy(sentence(error), FORMS_WAIT),
        StepError::Adapter(reason) => {
            log();
            let message = format!(
                "The adapter `{model}` cannot be brought to memory: {reason}. Its operator has to mend that."
            );
            ApiError::new(503, "server_error", "adapter_unavailable", message)
        }
        StepError::NotFinite => {
            log();
            let message = format!(
                "The weights of `{model}` compute something that is no number, so that there is no answer. \
                 Its operator has to replace them."
            );
            ApiError::new(500, "server_error", "weights_not_finite", message)
        }
        StepError::StopCheck | StepError::Backend(_) => {
            log();
            ApiError::internal("The answer failed.")
        }
    }
}

/// An engine that ended before an answer did.
pub(crate) fn stopped() -> ApiError {
    ApiError::unavailable("The engine stopped before the answer's end.")
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let message = sentence(&error);
        match error {
            ModelError::NoFolder => {
                ApiError::new(403, "invalid_request_error", "no_folder", message)
            }
            ModelError::Outside => ApiError::value("lora_path", message),
            ModelError::BaseName(_) | ModelError::Loaded(_) | ModelError::Name(_) => {
                ApiError::value("lora_name", message)
            }
            ModelError::Changed(_) => ApiError::new(409, "conflict_error", "changed", message),
            ModelError::Unknown(name) => ApiError::unknown_model(&name),
            // Paths are for the operator, who is the only one to come here.
            ModelError::Files(_) | ModelError::TooLarge(_) | ModelError::Engine(_) => {
                ApiError::unprocessable("adapter_unusable", message)
            }
        }
    }
}
