//! The OpenAI-compatible API, paid by vouchers.

pub mod completions;
pub mod error;
pub mod openai;
pub mod status;

use crate::serve::Service;
use axum::{
    extract::DefaultBodyLimit,
    routing::{get, post},
    Router,
};

/// Bytes of a request's body at most.
const MAX_BODY: usize = 1 << 20;

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
