//! Models, lanes, health.

use super::error::ApiError;
use crate::serve::{answer::lane_state, Service};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    Json,
};
use openledger_serving::LOADING;
use serde_json::{json, Value};

/// `GET /v1/models`: what is served, each with its parent and revision. The id is the name where the
/// name means just this revision, else the revision's number.
pub async fn models(State(service): State<Service>) -> Json<Value> {
    let data: Vec<Value> = service
        .catalog
        .listed()
        .into_iter()
        .map(|(id, served)| {
            json!({
                "id": id,
                "object": "model",
                "created": 0,
                "owned_by": served.developer.to_string(),
                "parent": served.parent,
                "openledger": {
                    "name": served.alias,
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
    let missing = missing(
        service.engine.is_running(),
        !service.catalog.all().is_empty(),
        service.facts.is_fresh(),
    );
    match missing {
        None => (StatusCode::OK, Json(json!({ "ready": true }))),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "ready": false, "why": why })),
        ),
    }
}

/// What a request would lack.
fn missing(engine_runs: bool, something_served: bool, blocks_come: bool) -> Option<&'static str> {
    if !engine_runs {
        Some("the engine has stopped; the worker must be started again")
    } else if !something_served {
        Some("no revision is served yet")
    } else if !blocks_come {
        Some("no new block was seen for a while")
    } else {
        None
    }
}

/// Any path of the protocol while the model is being loaded.
pub async fn loading() -> ApiError {
    openledger_openai::ApiError::loading(LOADING).into()
}

/// Any other path.
pub async fn nothing_here() -> ApiError {
    ApiError::not_found("There is nothing at this path. The API is that of OpenAI, under /v1.")
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_worker_is_ready_only_with_engine_models_and_blocks() {
        assert_eq!(missing(true, true, true), None);
        assert!(missing(false, true, true).unwrap().contains("engine"));
        assert!(missing(true, false, true).unwrap().contains("revision"));
        assert!(missing(true, true, false).unwrap().contains("block"));
    }
}
