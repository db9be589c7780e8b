//! Bodies of requests, read within their bounds.

use axum::body::{to_bytes, Body};
use axum::extract::Request;
use openledger_openai::ApiError;
use std::time::Duration;

/// The request with all of its body there: at most `limit` bytes, within `patience`.
///
/// # Errors
/// 408 and 413, for whoever sends it more slowly or sends more.
pub async fn read(request: Request, limit: usize, patience: Duration) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(patience, to_bytes(body, limit))
        .await
        .map_err(|_| ApiError::too_slow())?
        // Whatever broke a connection, nobody is there to be told; the limit is what remains.
        .map_err(|_| ApiError::too_large(limit))?;
    Ok(Request::from_parts(parts, Body::from(body)))
}
