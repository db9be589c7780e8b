//! The routes, and what every request must be like.

use crate::server::Service;
use crate::{admin, completions, embeddings, status};
use axum::extract::{Request, State};
use axum::http::{header, Method};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use openledger_engine::Tenant;
use openledger_http::Failure;
use openledger_openai::limits::BODY_BYTES;
use openledger_openai::ApiError;

/// Paths under `/v1` that only the operator asks for, by a key of its own.
const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";

pub(crate) fn router(service: Service) -> Router {
    // A body is read only where it is wanted, and only once the key was seen.
    let read = || middleware::from_fn_with_state(service.clone(), read);
    let operated = Router::new()
        .route(LOAD, post(admin::load))
        .route(UNLOAD, post(admin::unload))
        .route_layer(read())
        .route_layer(middleware::from_fn_with_state(service.clone(), operate));
    let asked = Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route("/v1/embeddings", post(embeddings::embed))
        .route_layer(read());
    let paths = asked
        .merge(operated)
        .route("/v1/models", get(status::models))
        .route("/v1/models/{*name}", get(status::model))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .method_not_allowed_fallback(status::not_allowed)
        .fallback(status::unknown);
    with_metrics(paths, service.options().metrics.clone())
        .layer(middleware::from_fn_with_state(service.clone(), admit))
        .with_state(service)
}

/// What is there while the model is being loaded: no path of the API has anything to answer with.
pub fn loading(metrics: Option<PrometheusHandle>) -> Router {
    let paths = Router::new()
        .route("/v1/{*path}", any(status::loading))
        .route("/health", get(status::health))
        .route("/ready", get(status::not_loaded))
        .method_not_allowed_fallback(status::not_allowed)
        .fallback(status::unknown);
    with_metrics(paths, metrics)
}

fn with_metrics<S: Clone + Send + Sync + 'static>(
    paths: Router<S>,
    metrics: Option<PrometheusHandle>,
) -> Router<S> {
    match metrics {
        Some(metrics) => paths.merge(openledger_http::metrics::page(metrics)),
        None => paths,
    }
}

/// Lets in who has a key, and says on whose behalf the request is.
async fn admit(
    State(service): State<Service>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let path = request.uri().path();
    let mut tenant = Tenant::default();
    if path.starts_with("/v1/") && ![LOAD, UNLOAD].contains(&path) {
        if let Some(keys) = &service.options().keys {
            let holder = keys.holder(request.headers());
            // Holders of different keys share the engine evenly and learn nothing of each other.
            tenant = Tenant(holder.ok_or_else(ApiError::unauthorized)?);
        }
    }
    request.extensions_mut().insert(tenant);
    Ok(next.run(request).await)
}

/// Lets in the operator.
async fn operate(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    admin::check(&service, request.headers())?;
    Ok(next.run(request).await)
}

/// Reads the body within its bounds.
async fn read(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        // A web page of another origin can send anything else without asking first.
        return Err(ApiError::new(
            415,
            "invalid_request_error",
            "unsupported_media_type",
            "Send the body with the header `content-type: application/json`.",
        )
        .into());
    }
    if service.is_stopping() {
        return Err(ApiError::unavailable("The server is shutting down.").into());
    }
    let patience = service.options().body_timeout;
    let request = openledger_http::read(request, BODY_BYTES, patience).await?;
    Ok(next.run(request).await)
}
