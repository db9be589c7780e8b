//! The worker's HTTP API as the gateway uses it.

use crate::GatewayError;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{receipt::Attribution, ChannelId, Digest, LaneIndex, Sequence};
use parity_scale_codec::Encode;
use serde::Deserialize;
use serde_json::Value;
use std::{pin::Pin, time::Duration};

/// Voucher and signature, SCALE in hex.
pub const VOUCHER: &str = "openledger-voucher";
/// Salt of the request's commitment, hex.
pub const SALT: &str = "openledger-salt";
/// Hash of the previous receipt when an answer goes on, hex.
pub const CONTINUE: &str = "openledger-continue";

/// Silence after which a worker counts as gone.
const IDLE: Duration = Duration::from_secs(120);
/// Bytes of one event at most.
const MAX_EVENT: usize = 4 << 20;

/// Which endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

impl Endpoint {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Text => "/v1/completions",
        }
    }
}

/// A worker.
#[derive(Clone, Debug)]
pub struct Worker {
    url: String,
    http: reqwest::Client,
}

/// What comes back on a request, piece by piece.
#[derive(Debug)]
pub enum Event {
    /// Text.
    Delta(String),
    /// The receipt and what belongs to it.
    Receipt(Box<ReceiptEvent>),
    /// The worker failed; a receipt may say so.
    Error {
        /// Why.
        message: String,
        /// The receipt of fee zero.
        receipt: Option<Box<ReceiptEvent>>,
    },
}

/// A receipt as it arrives.
#[derive(Clone, Debug)]
pub struct ReceiptEvent {
    /// Receipt and signature.
    pub signed: SignedReceipt,
    /// Salt of the output commitment.
    pub output_salt: [u8; 32],
    /// Attributions.
    pub attributions: Vec<Attribution>,
    /// Sources as the worker words them.
    pub sources: Value,
}

/// The worker's state of a lane.
#[derive(Clone, Debug)]
pub struct LaneReport {
    /// Last sequence accepted.
    pub sequence: Sequence,
    /// Cumulative charge, planck.
    pub cumulative: u128,
    /// The voucher at that sequence.
    pub voucher: Option<SignedVoucher>,
    /// The receipt under it.
    pub receipt: Option<SignedReceipt>,
}

#[derive(Deserialize)]
struct RawOpenledger {
    receipt: String,
    #[serde(default)]
    output_salt: Option<String>,
    #[serde(default)]
    attributions: Vec<Attribution>,
    #[serde(default)]
    sources: Value,
}

#[derive(Deserialize)]
struct RawLane {
    sequence: Sequence,
    cumulative: String,
    voucher: Option<String>,
    receipt: Option<String>,
}

impl Worker {
    /// The worker at an endpoint (`http://…`, without a slash at its end).
    pub fn new(url: String) -> Result<Self, GatewayError> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            // A kept connection to a worker that was restarted fails only after the voucher is sent.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| GatewayError::Worker {
                url: url.clone(),
                problem: error.to_string(),
            })?;
        Ok(Worker { url, http })
    }

    /// Its endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn problem(&self, problem: impl Into<String>) -> GatewayError {
        GatewayError::Worker {
            url: self.url.clone(),
            problem: problem.into(),
        }
    }

    /// Sends a request under a voucher. A refusal comes before the voucher is used; everything after
    /// it comes as events.
    pub async fn ask(
        &self,
        endpoint: Endpoint,
        body: Bytes,
        voucher: &SignedVoucher,
        salt: &[u8; 32],
        continued: Option<&Digest>,
    ) -> Result<Answering, AskError> {
        let mut request = self
            .http
            .post(format!("{}{}", self.url, endpoint.path()))
            .header("content-type", "application/json")
            .header(VOUCHER, hex::encode(voucher.encode()))
            .header(SALT, hex::encode(salt))
            .body(body);
        if let Some(receipt) = continued {
            request = request.header(CONTINUE, hex::encode(receipt));
        }
        let response = match tokio::time::timeout(IDLE, request.send()).await {
            Ok(Ok(response)) => response,
            // Nothing reached the worker when the connection could not be made.
            Ok(Err(error)) if error.is_connect() => {
                return Err(AskError::NotSent(self.problem(describe(&error))))
            }
            Ok(Err(error)) => return Err(AskError::Unknown(self.problem(describe(&error)))),
            Err(_) => return Err(AskError::Unknown(self.problem("does not answer"))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Answering {
                url: self.url.clone(),
                bytes: Box::pin(response.bytes_stream()),
                buffer: Vec::new(),
            });
        }
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let body: Value = match response.json().await {
            Ok(body) => body,
            Err(error) => return Err(AskError::Unknown(self.problem(describe(&error)))),
        };
        let text = |key: &str| {
            body.pointer(&format!("/error/{key}"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        match body.get("openledger").filter(|value| !value.is_null()) {
            Some(openledger) => Err(AskError::Failed {
                message: text("message"),
                receipt: parse_receipt(openledger).map(Box::new),
            }),
            // A server error without a receipt leaves open whether the voucher was used.
            None if status.is_server_error() && status.as_u16() != 503 => Err(AskError::Unknown(
                self.problem(format!("failed with status {status}: {}", text("message"))),
            )),
            None => Err(AskError::NotSent(GatewayError::Refused {
                status: status.as_u16(),
                code: text("code"),
                message: text("message"),
                retry_after,
            })),
        }
    }

    /// The worker's state of a lane.
    pub async fn lane(
        &self,
        channel: ChannelId,
        lane: LaneIndex,
    ) -> Result<LaneReport, GatewayError> {
        let url = format!("{}/openledger/channels/{channel}/lanes/{lane}", self.url);
        let response = self
            .http
            .get(url)
            .timeout(Duration::from_secs(10))
            .send()
            .await
            .map_err(|error| self.problem(describe(&error)))?;
        if !response.status().is_success() {
            return Err(self.problem(format!(
                "answers {} when asked for lane {lane}",
                response.status()
            )));
        }
        let raw: RawLane = response
            .json()
            .await
            .map_err(|error| self.problem(describe(&error)))?;
        let nonsense = || self.problem("reports a lane that cannot be read");
        Ok(LaneReport {
            sequence: raw.sequence,
            cumulative: raw.cumulative.parse().map_err(|_| nonsense())?,
            voucher: raw
                .voucher
                .map(|text| {
                    bytes(&text)
                        .and_then(|bytes| SignedVoucher::from_bytes(&bytes))
                        .ok_or_else(nonsense)
                })
                .transpose()?,
            receipt: raw
                .receipt
                .map(|text| {
                    bytes(&text)
                        .and_then(|bytes| SignedReceipt::from_bytes(&bytes))
                        .ok_or_else(nonsense)
                })
                .transpose()?,
        })
    }

    /// Whether the worker answers at all.
    pub async fn is_alive(&self) -> bool {
        self.http
            .get(format!("{}/v1/models", self.url))
            .timeout(Duration::from_secs(5))
            .send()
            .await
            .is_ok_and(|response| response.status().is_success())
    }
}

/// Why a request got no stream.
#[derive(Debug)]
pub enum AskError {
    /// The voucher was not used.
    NotSent(GatewayError),
    /// The voucher was used and the worker failed.
    Failed {
        /// Why.
        message: String,
        /// The receipt of fee zero.
        receipt: Option<Box<ReceiptEvent>>,
    },
    /// It is not known whether the voucher was used.
    Unknown(GatewayError),
}

/// The stream of an answer. Dropping it cancels the request at the worker.
pub struct Answering {
    url: String,
    bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    buffer: Vec<u8>,
}

impl Answering {
    /// The next event; nothing at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Event>, GatewayError> {
        loop {
            while let Some(data) = take_event(&mut self.buffer) {
                if data == "[DONE]" {
                    return Ok(None);
                }
                let value: Value = serde_json::from_str(&data)
                    .map_err(|_| self.problem("sends an event that is not JSON"))?;
                if let Some(event) = parse_event(&value) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(self.problem("sends an event that is too large"));
            }
            match tokio::time::timeout(IDLE, self.bytes.next()).await {
                Ok(Some(Ok(bytes))) => self.buffer.extend_from_slice(&bytes),
                Ok(Some(Err(error))) => return Err(self.problem(describe(&error))),
                Ok(None) => return Ok(None),
                Err(_) => return Err(self.problem("fell silent")),
            }
        }
    }

    fn problem(&self, problem: impl Into<String>) -> GatewayError {
        GatewayError::Worker {
            url: self.url.clone(),
            problem: problem.into(),
        }
    }
}

/// The innermost cause: reqwest's own words hide it, and show the URL, which is known.
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("cannot be reached: {cause}")
}

/// Takes the first whole event off the buffer and returns its data; comments and other fields of
/// server-sent events are skipped.
fn take_event(buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let (end, separator) = (0..buffer.len()).find_map(|at| {
            let rest = &buffer[at..];
            if rest.starts_with(b"\n\n") {
                Some((at, 2))
            } else if rest.starts_with(b"\r\n\r\n") {
                Some((at, 4))
            } else {
                None
            }
        })?;
        let event: Vec<u8> = buffer.drain(..end + separator).take(end).collect();
        let text = String::from_utf8_lossy(&event);
        let data: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.strip_prefix(' ').unwrap_or(data))
            .collect();
        if !data.is_empty() {
            return Some(data.join("\n"));
        }
    }
}

fn parse_event(value: &Value) -> Option<Event> {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Some(Event::Error {
            message: error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("no reason given")
                .to_owned(),
            receipt: value
                .get("openledger")
                .and_then(parse_receipt)
                .map(Box::new),
        });
    }
    if let Some(receipt) = value.get("openledger").and_then(parse_receipt) {
        return Some(Event::Receipt(Box::new(receipt)));
    }
    let choice = value.pointer("/choices/0")?;
    let text = choice
        .pointer("/delta/content")
        .or_else(|| choice.get("text"))
        .and_then(Value::as_str)?;
    (!text.is_empty()).then(|| Event::Delta(text.to_owned()))
}

fn parse_receipt(value: &Value) -> Option<ReceiptEvent> {
    let raw: RawOpenledger = serde_json::from_value(value.clone()).ok()?;
    let mut output_salt = [0; 32];
    if let Some(salt) = &raw.output_salt {
        hex::decode_to_slice(salt.trim_start_matches("0x"), &mut output_salt).ok()?;
    }
    Some(ReceiptEvent {
        signed: SignedReceipt::from_bytes(&bytes(&raw.receipt)?)?,
        output_salt,
        attributions: raw.attributions,
        sources: raw.sources,
    })
}

fn bytes(hex_digits: &str) -> Option<Vec<u8>> {
    hex::decode(hex_digits.trim_start_matches("0x")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_however_they_arrive() {
        let mut buffer = b": ping\n\ndata: {\"a\":1}\n\ndata: par".to_vec();
        assert_eq!(take_event(&mut buffer).as_deref(), Some("{\"a\":1}"));
        assert_eq!(take_event(&mut buffer), None);
        buffer.extend_from_slice(b"t\r\n\r\ndata: [DONE]\n\n");
        assert_eq!(take_event(&mut buffer).as_deref(), Some("part"));
        assert_eq!(take_event(&mut buffer).as_deref(), Some("[DONE]"));
        assert!(buffer.is_empty());
    }

    #[test]
    fn text_comes_from_chat_and_text_events_alike() {
        let text = |json: &str| match parse_event(&serde_json::from_str(json).unwrap()) {
            Some(Event::Delta(text)) => Some(text),
            _ => None,
        };
        assert_eq!(
            text(r#"{"choices":[{"delta":{"content":"a"}}]}"#).as_deref(),
            Some("a")
        );
        assert_eq!(text(r#"{"choices":[{"text":"b"}]}"#).as_deref(), Some("b"));
        assert_eq!(
            text(r#"{"choices":[{"delta":{"role":"assistant"}}]}"#),
            None
        );
        assert_eq!(text(r#"{"choices":[]}"#), None);
    }

    #[test]
    fn an_error_event_is_an_error_with_or_without_a_receipt() {
        let value = serde_json::json!({"error": {"message": "out of memory"}});
        assert!(matches!(
            parse_event(&value),
            Some(Event::Error { message, receipt: None }) if message == "out of memory"
        ));
    }
}
