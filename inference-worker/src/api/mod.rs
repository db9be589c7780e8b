//! The OpenAI-compatible API, paid by vouchers.

pub mod completions;
pub mod error;
pub mod status;

use crate::serve::Service;
use axum::{
    extract::DefaultBodyLimit,
    routing::{get, post},
    Router,
};
use openledger_openai::limits::BODY_BYTES;

/// Bytes of a request's body that are read; what is above the API's own limit is refused in its words.
const MAX_BODY: usize = 2 * BODY_BYTES;

/// The routes.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route("/v1/models", get(status::models))
        .route(
            "/openledger/channels/{channel}/lanes/{lane}",
            get(status::lane),
        )
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .fallback(status::nothing_here)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(service)
}
