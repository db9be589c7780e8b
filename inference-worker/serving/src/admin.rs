//! `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, for the operator.

use crate::server::Service;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use openledger_http::Failure;
use openledger_openai::adapters::{LoadAdapter, UnloadAdapter};
use openledger_openai::ApiError;

/// Whether the operator asks.
pub(crate) fn check(service: &Service, headers: &HeaderMap) -> Result<(), ApiError> {
    let keys = service.options().admin.as_ref().ok_or_else(|| {
        ApiError::new(
            403,
            "invalid_request_error",
            "admin_disabled",
            "Adapters cannot be loaded by requests here: the server was started without --admin-key-file.",
        )
    })?;
    keys.holder(headers)
        .map(|_| ())
        .ok_or_else(ApiError::unauthorized)
}

pub(crate) async fn load(State(service): State<Service>, body: Bytes) -> Result<String, Failure> {
    let request = LoadAdapter::parse(&body)?;
    let name = request.name.clone();
    let engine = service.engine().clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let models = service.models();
        let folder = models.folder(&request.path)?;
        models.load(&request.name, &folder, request.in_place)
    });
    let id = loaded
        .await
        .map_err(|error| {
            tracing::error!(%error, "loading an adapter");
            ApiError::internal("The adapter could not be loaded.")
        })?
        .map_err(ApiError::from)?;
    // The first request should find it on the device.
    if let Err(error) = engine.prefetch_adapter(id) {
        tracing::debug!(%error, "prefetch");
    }
    tracing::info!(name, %id, "adapter loaded");
    Ok(format!(
        "Success: LoRA adapter '{name}' added successfully."
    ))
}

pub(crate) async fn unload(State(service): State<Service>, body: Bytes) -> Result<String, Failure> {
    let name = UnloadAdapter::parse(&body)?.name;
    service.models().unload(&name).map_err(ApiError::from)?;
    tracing::info!(name, "adapter unloaded");
    Ok(format!(
        "Success: LoRA adapter '{name}' removed successfully."
    ))
}
