//! Errors as clients of OpenAI's API see them.

use serde_json::{json, Value};
use std::{borrow::Cow, fmt};

/// An HTTP status with OpenAI's `error` object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// OpenAI's `type`: the kind of error.
    pub kind: &'static str,
    /// Machine-readable cause.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do, as sentences.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error with this status and kind.
    pub fn new(
        status: u16,
        kind: &'static str,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        ApiError {
            status,
            kind,
            code: code.into(),
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    /// 400: the request is wrong; sending it again will not help.
    pub fn invalid(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", code, message)
    }

    /// 400: a field's value is out of its bounds or not of its type.
    pub fn value(param: &str, message: impl Into<String>) -> Self {
        Self::invalid("invalid_value", message).about(param)
    }

    /// 400: the field is not understood and would change the answer.
    pub fn unsupported(param: &str) -> Self {
        // It is whatever the client wrote, at any length.
        let shown: String = param.chars().take(64).collect();
        Self::invalid(
            "unsupported_parameter",
            format!("`{shown}` is not supported. Leave it out."),
        )
        .about(&shown)
    }

    /// 401: no key, or a wrong one.
    pub fn unauthorized() -> Self {
        Self::new(
            401,
            "invalid_request_error",
            "invalid_api_key",
            "The API key is missing or wrong. Send it as `authorization: Bearer KEY`.",
        )
    }

    /// 404: the model is not served; nothing else answers in its place.
    pub fn unknown_model(model: &str) -> Self {
        let shown: String = model.chars().take(64).collect();
        Self::new(
            404,
            "invalid_request_error",
            "model_not_found",
            format!("The model `{shown}` is not served here. GET /v1/models lists those that are."),
        )
        .about("model")
    }

    /// 404: there is nothing at this path.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            "invalid_request_error",
            "not_found",
            "There is nothing at this path. The API is that of OpenAI, under /v1.",
        )
    }

    /// 408: the client took too long to send its request.
    pub fn too_slow() -> Self {
        Self::new(
            408,
            "invalid_request_error",
            "request_timeout",
            "The request did not arrive in time.",
        )
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "invalid_request_error",
            "request_too_large",
            format!("The body has more than {limit} bytes. Shorten the prompt."),
        )
    }

    /// 422: the request is well formed, and this model cannot do what it asks for.
    pub fn unprocessable(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(422, "invalid_request_error", code, message)
    }

    /// 429: no place is free; one is likely to be after so many seconds.
    pub fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        let mut error = Self::new(429, "overloaded_error", "busy", message);
        error.retry_after = Some(retry_after);
        error
    }

    /// 500: the server failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "server_error", "internal_error", message)
    }

    /// 503: the server does not serve now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "server_error", "unavailable", message)
    }

    /// 503: the model is being loaded; it may be there after so many seconds.
    pub fn loading(retry_after: u64) -> Self {
        let message = "The base model is being loaded. Try again; /ready says when it is there.";
        let mut error = Self::new(503, "server_error", "loading", message);
        error.retry_after = Some(retry_after);
        error
    }

    /// Names the field at fault.
    pub fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// The body: `{"error": {"message", "type", "param", "code"}}`.
    pub fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}
