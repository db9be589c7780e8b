//! The routes.

use super::{
    access::Access,
    ask,
    present::{append, Presenter},
    reply::{finish, receipt_id, Reply},
    request::{read, syntax},
};
use crate::{
    answer::{answer, Answer, Question},
    gateway::Gateway,
    metrics,
    upstream::{Endpoint, Part},
    GatewayError,
};
use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{header, HeaderMap, HeaderValue, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
    Json, Router,
};
use metrics_exporter_prometheus::PrometheusHandle;
use openledger_openai::{limits::BODY_BYTES, sse, Completion};
use serde_json::{json, Value};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Pieces of text that may wait for a slow client.
const PIECES: usize = 64;

/// The gateway's HTTP API for whom `access` lets in; `/metrics` renders `metrics`.
pub fn router(gateway: Arc<Gateway>, access: Access, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(text))
        .route_layer(middleware::from_fn(fetch))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/ready", get(ready))
        .route("/health", get(health))
        .with_state(gateway)
        .merge(openledger_http::metrics::page(metrics))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(Arc::new(access), admit))
}

/// Answers a request only when [`Access`] lets it in.
async fn admit(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, GatewayError> {
    access.check(request.method(), request.uri().path(), request.headers())?;
    Ok(next.run(request).await)
}

/// Reads the body within its bounds.
async fn fetch(request: Request, next: Next) -> Result<Response, GatewayError> {
    let request = openledger_http::read(request, BODY_BYTES, BODY_TIMEOUT).await?;
    Ok(next.run(request).await)
}

impl IntoResponse for GatewayError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

async fn chat(State(gateway): State<Arc<Gateway>>, body: Bytes) -> Result<Response, GatewayError> {
    complete(gateway, Endpoint::Chat, body).await
}

async fn text(State(gateway): State<Arc<Gateway>>, body: Bytes) -> Result<Response, GatewayError> {
    complete(gateway, Endpoint::Text, body).await
}

/// The answer as it is being made: pieces of text, then the result.
struct Running {
    pieces: mpsc::Receiver<Part>,
    result: JoinHandle<Result<Answer, GatewayError>>,
}

/// Starts to answer in a task of its own. When the client goes away the pieces are dropped; the task
/// notices, stops the worker and settles the lane.
fn start(gateway: Arc<Gateway>, question: Question) -> Running {
    let (sink, pieces) = mpsc::channel(PIECES);
    let result = tokio::spawn(async move { answer(&gateway, &question, &sink).await });
    Running { pieces, result }
}

async fn joined(result: JoinHandle<Result<Answer, GatewayError>>) -> Result<Answer, GatewayError> {
    result
        .await
        .unwrap_or_else(|error| Err(GatewayError::Data(error.to_string())))
}

async fn asked(
    gateway: &Gateway,
    endpoint: Endpoint,
    body: &[u8],
) -> Result<(Completion, Question), GatewayError> {
    let request = read(endpoint, body)?;
    let question = ask::question(gateway, &request).await?;
    Ok((request, question))
}

async fn complete(
    gateway: Arc<Gateway>,
    endpoint: Endpoint,
    body: Bytes,
) -> Result<Response, GatewayError> {
    let (request, question) = asked(&gateway, endpoint, &body)
        .await
        .inspect_err(|error| {
            // No label from what a client made up: only models that exist are counted by name.
            metrics::request("none", error.code());
        })?;
    let reply = Reply::new(&question, &request.model, gateway.channel());
    let mut headers = HeaderMap::new();
    headers.insert("openledger-channel", gateway.channel().into());
    headers.insert("openledger-revision", question.model.info.revision.into());
    headers.insert("openledger-terms", question.model.terms.index.into());
    let mut presenter = Presenter::new(&request, syntax(&question.model.base.text))?;
    let mut running = start(gateway, question);
    if request.stream {
        return stream(reply, presenter, request.include_usage, headers, running).await;
    }
    let mut whole = Part::default();
    while let Some(piece) = running.pieces.recv().await {
        if let Some(part) = presenter.push(piece) {
            whole.text.push_str(&part.text);
            append(&mut whole.logprobs, part.logprobs);
        }
    }
    let rest = presenter.end(|call| reply.call_id(call));
    whole.text.push_str(&rest.part.text);
    append(&mut whole.logprobs, rest.part.logprobs.clone());
    let answer = joined(running.result).await?;
    if let Some(id) = receipt_id(&answer) {
        if let Ok(value) = HeaderValue::from_str(&hex::encode(id)) {
            headers.insert("openledger-receipt", value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&answer.fee().to_string()) {
        headers.insert("openledger-fee", value);
    }
    let body = reply.whole(&whole, &rest.calls, finish(&answer, &rest), &answer);
    Ok((headers, Json(body)).into_response())
}

/// Streams the answer. What goes wrong before the first piece is an ordinary error with its status;
/// after it, an event with `error`, and the stream ends without `[DONE]`.
async fn stream(
    reply: Reply,
    mut presenter: Presenter,
    include_usage: bool,
    headers: HeaderMap,
    mut running: Running,
) -> Result<Response, GatewayError> {
    let first = running.pieces.recv().await;
    if first.is_none() {
        // Nothing will come: either it failed, or the answer is empty.
        let answer = joined(running.result).await?;
        let mut events: Vec<Value> = reply.opening().into_iter().collect();
        events.extend(last_events(&reply, presenter, include_usage, &answer));
        let body: String = events.iter().map(sse::event).collect();
        return Ok(event_stream(headers, Body::from(body + sse::DONE)));
    }
    let (out, events) = mpsc::channel::<Result<Bytes, Infallible>>(PIECES);
    tokio::spawn(async move {
        let send = |text: String| out.send(Ok(Bytes::from(text)));
        if let Some(opening) = reply.opening() {
            if send(sse::event(&opening)).await.is_err() {
                return;
            }
        }
        let mut next = first;
        while let Some(piece) = next {
            if let Some(part) = presenter.push(piece) {
                // The client is gone: dropping the pieces ends the answer.
                if send(sse::event(&reply.delta(&part))).await.is_err() {
                    return;
                }
            }
            next = tokio::select! {
                piece = running.pieces.recv() => piece,
                () = out.closed() => return,
            };
        }
        let last: String = match joined(running.result).await {
            Ok(answer) => {
                let events = last_events(&reply, presenter, include_usage, &answer);
                let text: String = events.iter().map(sse::event).collect();
                text + sse::DONE
            }
            Err(error) => sse::event(&error.body()),
        };
        // Whoever is gone now misses what was journaled anyway.
        let _ = send(last).await;
    });
    Ok(event_stream(
        headers,
        Body::from_stream(ReceiverStream::new(events)),
    ))
}

/// What comes after the last text of a stream.
fn last_events(
    reply: &Reply,
    presenter: Presenter,
    include_usage: bool,
    answer: &Answer,
) -> Vec<Value> {
    let rest = presenter.end(|call| reply.call_id(call));
    let mut events = Vec::new();
    if rest.part != Part::default() {
        events.push(reply.delta(&rest.part));
    }
    for (position, call) in rest.calls.iter().enumerate() {
        events.push(reply.call(position, call));
    }
    events.push(reply.ending(finish(answer, &rest), answer));
    if include_usage {
        events.push(reply.usage(answer));
    }
    events
}

fn event_stream(mut headers: HeaderMap, body: Body) -> Response {
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (headers, body).into_response()
}

async fn models(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, GatewayError> {
    let list: Vec<Value> = gateway
        .catalogue
        .list()
        .await?
        .iter()
        .map(|(id, info, terms)| describe(id, info, terms))
        .collect();
    Ok(Json(json!({"object": "list", "data": list})))
}

async fn model(
    State(gateway): State<Arc<Gateway>>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Json<Value>, GatewayError> {
    let model = gateway.catalogue.find(&name).await?;
    Ok(Json(describe(&name, &model.info, &model.terms)))
}

fn describe(
    id: &str,
    info: &openledger_chain::apis::models::RevisionInfo,
    terms: &crate::voucher::Terms,
) -> Value {
    json!({
        "id": id,
        "object": "model",
        "created": 0,
        "owned_by": info.developer,
        "parent": (info.revision != info.base_revision).then(|| info.base_label()),
        "openledger": {
            "revision": info.revision,
            "terms": terms.index,
            "price_in": terms.price_in.to_string(),
            "price_out": terms.price_out.to_string(),
        },
    })
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Ready when the chain, the worker and a lane can be used.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let report = gateway.readiness().await;
    let status = if report.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report.body())).into_response()
}

async fn unknown() -> Response {
    let body = json!({"error": {
        "message": "there is no such path; see /v1/models, /v1/chat/completions, /v1/completions",
        "type": "invalid_request_error",
        "param": null,
        "code": "not_found",
    }});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}
