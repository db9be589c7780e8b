//! `/v1/chat/completions` and `/v1/completions`, whole and as server-sent events.

use super::{
    error::ApiError,
    openai::{usage, CompletionRequest, Endpoint},
};
use crate::serve::{
    admission::Payment,
    answer::{self, End, Piece},
    Service,
};
use axum::{
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{
        sse::{Event, KeepAlive, Sse},
        IntoResponse, Response,
    },
    Json,
};
use openledger_metering::SignedVoucher;
use serde_json::{json, Value};
use std::{
    convert::Infallible,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// `POST /v1/chat/completions`.
pub async fn chat(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    complete(service, Endpoint::Chat, headers, body).await
}

/// `POST /v1/completions`.
pub async fn text(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    complete(service, Endpoint::Text, headers, body).await
}

async fn complete(
    service: Service,
    endpoint: Endpoint,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request = CompletionRequest::parse(endpoint, &body)?;
    let payment = payment(&headers)?;
    let pieces = answer::begin(&service, &request, &body, payment).await?;
    let head = Head {
        endpoint,
        id: format!(
            "{}-{}",
            endpoint.id_prefix(),
            hex::encode(rand::random::<[u8; 12]>())
        ),
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        model: request.model,
    };
    if request.stream {
        Ok(stream(head, pieces))
    } else {
        whole(head, pieces).await
    }
}

/// Reads voucher and salt from the headers.
fn payment(headers: &HeaderMap) -> Result<Payment, ApiError> {
    let bytes = |name: &'static str| -> Result<Option<Vec<u8>>, ApiError> {
        let Some(value) = headers.get(name) else {
            return Ok(None);
        };
        value
            .to_str()
            .ok()
            .and_then(|text| hex::decode(text.trim_start_matches("0x")).ok())
            .map(Some)
            .ok_or_else(|| {
                ApiError::payment(
                    "voucher_encoding",
                    format!("The header `{name}` must be hex."),
                )
            })
    };
    let digest = |name: &'static str| -> Result<Option<[u8; 32]>, ApiError> {
        bytes(name)?
            .map(|bytes| {
                bytes.try_into().map_err(|_| {
                    ApiError::payment(
                        "voucher_encoding",
                        format!("The header `{name}` must be 32 bytes of hex."),
                    )
                })
            })
            .transpose()
    };
    let voucher = bytes("openledger-voucher")?.ok_or_else(|| {
        ApiError::payment(
            "voucher_missing",
            "Requests are paid by vouchers. Send them through openledger-gateway, which signs them.",
        )
    })?;
    Ok(Payment {
        voucher: SignedVoucher::from_bytes(&voucher).ok_or_else(|| {
            ApiError::payment(
                "voucher_encoding",
                "The header `openledger-voucher` is not a voucher and its signature.",
            )
        })?,
        salt: digest("openledger-salt")?.ok_or_else(|| {
            ApiError::payment(
                "voucher_salt_missing",
                "The header `openledger-salt` is missing.",
            )
        })?,
        continues: digest("openledger-continue")?,
    })
}

/// What every chunk of an answer repeats.
struct Head {
    endpoint: Endpoint,
    id: String,
    created: u64,
    model: String,
}

impl Endpoint {
    fn id_prefix(self) -> &'static str {
        match self {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Text => "cmpl",
        }
    }

    fn object(self, chunk: bool) -> &'static str {
        match (self, chunk) {
            (Endpoint::Chat, true) => "chat.completion.chunk",
            (Endpoint::Chat, false) => "chat.completion",
            (Endpoint::Text, _) => "text_completion",
        }
    }
}

impl Head {
    fn object(&self, chunk: bool, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": self.endpoint.object(chunk),
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn delta(&self, text: &str, first: bool) -> Value {
        let choice = match self.endpoint {
            Endpoint::Chat if first => json!({
                "index": 0, "delta": { "role": "assistant", "content": text }, "finish_reason": null
            }),
            Endpoint::Chat => {
                json!({ "index": 0, "delta": { "content": text }, "finish_reason": null })
            }
            Endpoint::Text => json!({ "index": 0, "text": text, "finish_reason": null }),
        };
        self.object(true, json!([choice]))
    }

    fn finish(&self, end: &End) -> Value {
        let reason = end.finish_reason();
        let choice = match self.endpoint {
            Endpoint::Chat => json!({ "index": 0, "delta": {}, "finish_reason": reason }),
            Endpoint::Text => json!({ "index": 0, "text": "", "finish_reason": reason }),
        };
        self.object(true, json!([choice]))
    }
}

fn stream(head: Head, mut pieces: mpsc::Receiver<Piece>) -> Response {
    let events = async_stream::stream! {
        let mut first = true;
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Delta(text) => {
                    yield event(&head.delta(&text, first));
                    first = false;
                }
                Piece::End(end) if end.outcome == openledger_primitives::receipt::Outcome::Failed => {
                    yield event(&failure(&end).body());
                    yield Ok(Event::default().data("[DONE]"));
                }
                Piece::End(end) => {
                    yield event(&head.finish(&end));
                    // Usage is always sent: it is what the receipt charges.
                    let mut last = head.object(true, json!([]));
                    last["usage"] = usage(end.tokens_in, end.tokens_out);
                    last["openledger"] = end.openledger.clone();
                    yield event(&last);
                    yield Ok(Event::default().data("[DONE]"));
                }
            }
        }
    };
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

async fn whole(head: Head, mut pieces: mpsc::Receiver<Piece>) -> Result<Response, ApiError> {
    let mut text = String::new();
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Delta(delta) => text.push_str(&delta),
            Piece::End(end) if end.outcome == openledger_primitives::receipt::Outcome::Failed => {
                return Err(failure(&end));
            }
            Piece::End(end) => {
                let reason = end.finish_reason();
                let choice = match head.endpoint {
                    Endpoint::Chat => json!({
                        "index": 0,
                        "message": { "role": "assistant", "content": text },
                        "finish_reason": reason,
                    }),
                    Endpoint::Text => json!({ "index": 0, "text": text, "finish_reason": reason }),
                };
                let mut body = head.object(false, json!([choice]));
                body["usage"] = usage(end.tokens_in, end.tokens_out);
                body["openledger"] = end.openledger.clone();
                return Ok(Json(body).into_response());
            }
        }
    }
    Err(ApiError::internal(
        "The answer was interrupted before its receipt. It costs nothing; send the same voucher again.",
    ))
}

fn failure(end: &End) -> ApiError {
    let message = match end.failure {
        Some(why) => format!("{why} It costs nothing."),
        None => "The answer failed. It costs nothing.".to_owned(),
    };
    ApiError::internal(message).with_receipt(end.openledger.clone())
}

fn event(value: &Value) -> Result<Event, Infallible> {
    Ok(Event::default().data(value.to_string()))
}
