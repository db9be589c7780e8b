//! Errors in the shape of OpenAI's API.

use axum::{
    http::{header, StatusCode},
    response::{IntoResponse, Response},
    Json,
};
use serde_json::{json, Value};

/// An error that a client sees: HTTP status and OpenAI's `error` object. A failure after a voucher
/// was accepted also carries its receipt of fee zero.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: String,
    message: String,
    retry_after: Option<u64>,
    param: Option<String>,
    openledger: Option<Box<Value>>,
}

impl From<openledger_openai::ApiError> for ApiError {
    fn from(error: openledger_openai::ApiError) -> Self {
        let status = StatusCode::from_u16(error.status);
        ApiError {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            kind: error.kind,
            code: error.code.into_owned(),
            message: error.message,
            retry_after: error.retry_after,
            param: error.param,
            openledger: None,
        }
    }
}

impl ApiError {
    /// The request is wrong; sending it again will not help.
    pub fn invalid(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            code,
            message,
        )
    }

    /// The model is not served here.
    pub fn unknown_model(model: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "model_not_found",
            format!("The model `{model}` is not served here. GET /v1/models lists those that are."),
        )
    }

    /// The voucher does not pay for the request.
    pub fn payment(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, "payment_error", code, message)
    }

    /// Another request is in the way.
    pub fn conflict(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "payment_error", code, message)
    }

    /// The worker cannot take the request now.
    pub fn busy(message: impl Into<String>, retry_after_seconds: u64) -> Self {
        let mut error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "overloaded_error",
            "busy",
            message,
        );
        error.retry_after = Some(retry_after_seconds);
        error
    }

    /// The worker failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "internal_error",
            message,
        )
    }

    /// The path or object does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "not_found",
            message,
        )
    }

    /// Adds the receipt of a failed request.
    pub fn with_receipt(mut self, openledger: Value) -> Self {
        self.openledger = Some(Box::new(openledger));
        self
    }

    /// The body: `{"error": {...}, "openledger": {...}}`.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "error": { "message": self.message, "type": self.kind, "code": self.code, "param": self.param }
        });
        if let (Some(receipt), Some(object)) = (&self.openledger, body.as_object_mut()) {
            object.insert("openledger".into(), Value::clone(receipt));
        }
        body
    }

    fn new(
        status: StatusCode,
        kind: &'static str,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        ApiError {
            status,
            kind,
            code: code.into(),
            message: message.into(),
            retry_after: None,
            param: None,
            openledger: None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
