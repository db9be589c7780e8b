//! Models, health and readiness.

use crate::models::Target;
use crate::server::Service;
use axum::body::{to_bytes, Body};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::Json;
use openledger_http::Failure;
use openledger_openai::ApiError;
use serde_json::{json, Value};
use std::time::Duration;

/// Seconds after which to ask again while the model is being loaded.
pub const LOADING: u64 = 5;

/// Bytes of a body at most that are read and forgotten.
const FORGOTTEN: usize = 64 << 10;

/// How long they are waited for.
const MOMENT: Duration = Duration::from_secs(1);

fn describe(service: &Service, name: &str, target: Target) -> Value {
    let models = service.models();
    let (parent, root) = match target {
        Target::Base => (Value::Null, json!(name)),
        Target::Adapter(id) => (json!(models.base()), json!(id.to_string())),
    };
    json!({
        "id": name,
        "object": "model",
        "created": models.created(),
        "owned_by": "openledger",
        "root": root,
        "parent": parent,
        "max_model_len": service.engine().context(),
    })
}

pub(crate) async fn models(State(service): State<Service>) -> Json<Value> {
    let base = service.models().base();
    let mut data = vec![describe(&service, base, Target::Base)];
    for (name, id) in service.models().adapters() {
        data.push(describe(&service, &name, Target::Adapter(id)));
    }
    Json(json!({"object": "list", "data": data}))
}

pub(crate) async fn model(
    State(service): State<Service>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let target = service.models().find(&name);
    let target = target.ok_or_else(|| service.models().unknown(&name))?;
    Ok(Json(describe(&service, &name, target)))
}

pub(crate) async fn health() -> &'static str {
    "ok\n"
}

pub(crate) async fn ready(State(service): State<Service>) -> Response {
    match service.not_ready() {
        None => Json(json!({"ready": true})).into_response(),
        Some(why) => unready(why),
    }
}

fn unready(why: &str) -> Response {
    let body = Json(json!({"ready": false, "why": why}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

/// `/ready` while there is no model yet.
pub(crate) async fn not_loaded() -> Response {
    unready("loading the base model")
}

/// The API while there is no model yet. What is sent on is read for a moment and forgotten: closing with
/// something unread may take the answer from the client.
pub(crate) async fn loading(body: Body) -> Failure {
    let read = tokio::time::timeout(MOMENT, to_bytes(body, FORGOTTEN)).await;
    tracing::debug!(all = matches!(read, Ok(Ok(_))), "asked while loading");
    ApiError::loading(LOADING).into()
}

pub(crate) async fn unknown() -> Failure {
    ApiError::no_such_path().into()
}

pub(crate) async fn not_allowed() -> Failure {
    ApiError::new(
        405,
        "invalid_request_error",
        "method_not_allowed",
        "This path does not take this method.",
    )
    .into()
}
