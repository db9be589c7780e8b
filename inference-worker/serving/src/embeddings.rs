//! `/v1/embeddings`.

use crate::ask::tokens;
use crate::failure::{failed, refused, stopped, within_places};
use crate::server::Service;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::Json;
use openledger_engine::{AdapterId, EmbedRequest, PendingEmbedding, Pooling, Tenant};
use openledger_http::Failure;
use openledger_openai::{ApiError, EmbeddingsRequest};
use serde_json::Value;
use std::time::Instant;

pub(crate) async fn embed(
    State(service): State<Service>,
    Extension(tenant): Extension<Tenant>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let begun = tokio::task::spawn_blocking(move || begin(&service, tenant, &body));
    let (request, pending, adapter, tokens) = begun.await.map_err(|error| {
        tracing::error!(%error, "a request could not be begun");
        ApiError::internal("The request could not be begun.")
    })??;
    let mut vectors = Vec::with_capacity(pending.len());
    for pending in pending {
        match pending.wait().await {
            Some(Ok(vector)) => vectors.push(vector),
            Some(Err(error)) => return Err(failed(&error, &request.model, adapter).into()),
            None => return Err(stopped().into()),
        }
    }
    Ok(Json(request.answer(&vectors, tokens)))
}

fn begin(
    service: &Service,
    tenant: Tenant,
    body: &[u8],
) -> Result<
    (
        EmbeddingsRequest,
        Vec<PendingEmbedding>,
        Option<AdapterId>,
        u64,
    ),
    ApiError,
> {
    let request = EmbeddingsRequest::parse(body)?;
    // Said first, before what is wrong with the rest.
    if service.models().find(&request.model).is_none() {
        return Err(service.models().unknown(&request.model));
    }
    request.check_dimensions(service.engine().config().hidden_size)?;
    within_places(service.engine(), request.inputs.len(), "input")?;
    let start_by = Instant::now() + service.options().queue_timeout;
    let mut count = 0;
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in &request.inputs {
        let mut asked = EmbedRequest::new(tokens(service.text(), input)?);
        count += asked.input.len() as u64;
        asked.pooling = Pooling::Last;
        asked.tenant = tenant;
        asked.cache_salt = tenant.0;
        asked.start_by = Some(start_by);
        inputs.push(asked);
    }
    let (pending, adapter) = service.models().ask(&request.model, |target| {
        let taken = inputs.into_iter().map(|mut asked| {
            asked.adapter = target.adapter();
            let taken = service.engine().embed(asked);
            taken.map_err(|error| refused(error, &request.model))
        });
        let taken: Result<Vec<_>, ApiError> = taken.collect();
        Ok((taken?, target.adapter()))
    })?;
    Ok((request, pending, adapter, count))
}
