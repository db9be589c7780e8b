//! Models, lanes, health.

use super::error::ApiError;
use crate::serve::{answer::lane_state, Service};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    Json,
};
use serde_json::{json, Value};

/// `GET /v1/models`: what is served, each with its parent and revision.
pub async fn models(State(service): State<Service>) -> Json<Value> {
    let data: Vec<Value> = service
        .catalog
        .all()
        .iter()
        .map(|served| {
            json!({
                "id": served.alias,
                "object": "model",
                "created": 0,
                "owned_by": served.developer.to_string(),
                "parent": served.parent,
                "openledger": {
                    "revision": served.revision,
                    "terms": served.terms_index,
                    "price_in": served.price_in.to_string(),
                    "price_out": served.price_out.to_string(),
                },
            })
        })
        .collect();
    Json(json!({ "object": "list", "data": data }))
}

/// `GET /openledger/channels/{channel}/lanes/{lane}`: where a lane stands here.
pub async fn lane(
    State(service): State<Service>,
    Path((channel, lane)): Path<(u64, u16)>,
) -> Result<Json<Value>, ApiError> {
    lane_state(&service, channel, lane).map(Json)
}

/// `GET /health`: the process lives.
pub async fn health() -> &'static str {
    "ok\n"
}

/// `GET /ready`: a request would be served now.
pub async fn ready(State(service): State<Service>) -> (StatusCode, Json<Value>) {
    let missing = if service.catalog.all().is_empty() {
        Some("no revision is served yet")
    } else if !service.facts.is_fresh() {
        Some("no new block was seen for a while")
    } else {
        None
    };
    match missing {
        None => (StatusCode::OK, Json(json!({ "ready": true }))),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "ready": false, "why": why })),
        ),
    }
}

/// Any other path.
pub async fn nothing_here() -> ApiError {
    ApiError::not_found("There is nothing at this path. The API is that of OpenAI, under /v1.")
}
