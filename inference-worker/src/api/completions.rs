//! `/v1/chat/completions` and `/v1/completions`, whole and as server-sent events.

use super::error::ApiError;
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
use openledger_openai::{
    answer::{Choice, Head, Usage},
    Completion, Endpoint, Prompt,
};
use openledger_serving::reader::Delta;
use serde_json::Value;
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
    let request = Completion::parse(endpoint, &body)?;
    one_answer(&request)?;
    let payment = payment(&headers)?;
    let pieces = answer::begin(&service, &request, &body, payment).await?;
    let head = Head {
        endpoint,
        id: Head::id_of(endpoint, &hex::encode(rand::random::<[u8; 12]>())),
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        model: request.model,
        fingerprint: None,
    };
    let scored = request.logprobs.is_some();
    if request.stream {
        Ok(stream(head, scored, pieces))
    } else {
        whole(&head, scored, pieces).await
    }
}

/// Refuses what one voucher does not pay for.
fn one_answer(request: &Completion) -> Result<(), ApiError> {
    let inputs = match &request.prompt {
        Prompt::Messages(_) => 1,
        Prompt::Inputs(inputs) => inputs.len(),
    };
    if request.n != 1 || inputs != 1 {
        return Err(ApiError::invalid(
            "unsupported_value",
            "`n` must be 1, and `prompt` one prompt: each answer has a voucher of its own.",
        ));
    }
    if request.echo {
        return Err(ApiError::invalid(
            "unsupported_value",
            "`echo` is not supported: a receipt is for what the model writes.",
        ));
    }
    Ok(())
}

/// Reads voucher and salt from the headers.
pub(super) fn payment(headers: &HeaderMap) -> Result<Payment, ApiError> {
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

fn stream(head: Head, scored: bool, mut pieces: mpsc::Receiver<Piece>) -> Response {
    let events = async_stream::stream! {
        if let Some(opening) = head.opening(0) {
            yield event(&opening);
        }
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Delta(delta) => {
                    let logprobs = scored.then_some(delta.logprobs.as_slice());
                    yield event(&head.delta(0, &delta.text, logprobs));
                }
                Piece::End(end) if end.outcome == openledger_primitives::receipt::Outcome::Failed => {
                    yield event(&failure(&end).body());
                    yield Ok(Event::default().data("[DONE]"));
                }
                Piece::End(end) => {
                    yield event(&head.ending(0, end.finish()));
                    // Usage is always sent: it is what the receipt charges.
                    let mut last = head.usage(usage(&end));
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

/// What the receipt charges.
fn usage(end: &End) -> Usage {
    Usage {
        prompt_tokens: end.tokens_in.into(),
        completion_tokens: end.tokens_out.into(),
    }
}

async fn whole(
    head: &Head,
    scored: bool,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<Response, ApiError> {
    let mut all = Delta::default();
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Delta(delta) => {
                all.text.push_str(&delta.text);
                all.logprobs.extend(delta.logprobs);
            }
            Piece::End(end) if end.outcome == openledger_primitives::receipt::Outcome::Failed => {
                return Err(failure(&end));
            }
            Piece::End(end) => {
                // Calls of tools stay text: the receipt is for what the model wrote, and the gateway
                // takes them out.
                let choice = Choice {
                    index: 0,
                    text: all.text,
                    tool_calls: Vec::new(),
                    logprobs: scored.then_some(all.logprobs),
                    finish: end.finish(),
                };
                let mut body = head.whole(&[choice], usage(&end));
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
