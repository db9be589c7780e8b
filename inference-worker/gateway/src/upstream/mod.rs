//! The worker's HTTP API as the gateway uses it.

mod body;
mod events;

pub use events::{Answering, Event, Part, ReceiptEvent};
pub use openledger_openai::Endpoint;

use crate::GatewayError;
use bytes::Bytes;
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{ChannelId, Digest, LaneIndex, Sequence};
use parity_scale_codec::Encode;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Voucher and signature, SCALE in hex.
pub const VOUCHER: &str = "openledger-voucher";
/// Salt of the request's commitment, hex.
pub const SALT: &str = "openledger-salt";
/// Hash of the previous receipt when an answer goes on, hex.
pub const CONTINUE: &str = "openledger-continue";

/// How long a worker is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub silence: Duration,
    /// For the whole answer under one voucher.
    pub answer: Duration,
    /// For an answer that is no stream.
    pub short: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(120),
            answer: Duration::from_secs(600),
            short: Duration::from_secs(10),
        }
    }
}

/// A worker.
#[derive(Clone, Debug)]
pub struct Worker {
    url: String,
    http: reqwest::Client,
    limits: Limits,
}

/// The worker's state of a lane.
#[derive(Clone, Debug)]
pub struct LaneReport {
    /// Last sequence accepted.
    pub sequence: Sequence,
    /// Cumulative charge, planck.
    pub cumulative: u128,
    /// Whether the worker has work of this lane under way, so that the lane may still move.
    pub in_flight: bool,
    /// The voucher at that sequence.
    pub voucher: Option<SignedVoucher>,
    /// The receipt under it.
    pub receipt: Option<SignedReceipt>,
}

#[derive(Deserialize)]
struct RawLane {
    sequence: Sequence,
    cumulative: String,
    #[serde(default)]
    in_flight: bool,
    voucher: Option<String>,
    receipt: Option<String>,
}

impl Worker {
    /// The worker at an endpoint (`http://…`, without a slash at its end).
    pub fn new(url: String) -> Result<Self, GatewayError> {
        Self::with_limits(url, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(url: String, limits: Limits) -> Result<Self, GatewayError> {
        let http = reqwest::Client::builder()
            .connect_timeout(limits.connect)
            // The voucher is for the worker that the chain names and for no one it points to.
            .redirect(reqwest::redirect::Policy::none())
            // A kept connection to a worker that was restarted fails only after the voucher is sent.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| GatewayError::Worker {
                url: url.clone(),
                problem: error.to_string(),
            })?;
        Ok(Worker { url, http, limits })
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

    /// Sends a request under a voucher. What comes after it is taken comes as events.
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
        let response = match tokio::time::timeout(self.limits.silence, request.send()).await {
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
            return Ok(Answering::new(
                self.url.clone(),
                Box::pin(response.bytes_stream()),
                self.limits,
            ));
        }
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let body = match self.short(response).await {
            Ok(body) => body,
            Err(error) => return Err(AskError::Unknown(error)),
        };
        let message = events::message(body.pointer("/error/message"));
        match body.get("openledger").filter(|value| !value.is_null()) {
            Some(openledger) => Err(AskError::Failed {
                message,
                receipt: events::parse_receipt(openledger).map(Box::new),
            }),
            // A server error without a receipt leaves open whether the voucher was used.
            None if status.is_server_error() && status.as_u16() != 503 => Err(AskError::Unknown(
                self.problem(format!("failed with status {status}: {message}")),
            )),
            None => Err(AskError::Refused(GatewayError::Refused {
                status: status.as_u16(),
                code: body
                    .pointer("/error/code")
                    .and_then(Value::as_str)
                    .filter(|code| code.len() <= 64)
                    .unwrap_or("refused")
                    .to_owned(),
                message,
                retry_after,
            })),
        }
    }

    /// Reads a JSON answer that is no stream, within time and size.
    async fn short(&self, response: reqwest::Response) -> Result<Value, GatewayError> {
        let read = body::json(Box::pin(response.bytes_stream()));
        match tokio::time::timeout(self.limits.short, read).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.problem(error.to_string())),
            Err(_) => Err(self.problem("does not come to the end of a short answer")),
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
            .timeout(self.limits.short)
            .send()
            .await
            .map_err(|error| self.problem(describe(&error)))?;
        if !response.status().is_success() {
            return Err(self.problem(format!(
                "answers {} when asked for lane {lane}",
                response.status()
            )));
        }
        let nonsense = || self.problem("reports a lane that cannot be read");
        let raw = self.short(response).await?;
        let raw: RawLane = serde_json::from_value(raw).map_err(|_| nonsense())?;
        Ok(LaneReport {
            sequence: raw.sequence,
            cumulative: raw.cumulative.parse().map_err(|_| nonsense())?,
            in_flight: raw.in_flight,
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
    /// Nothing reached the worker.
    NotSent(GatewayError),
    /// The worker has the voucher and says that it does not use it.
    Refused(GatewayError),
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

/// The innermost cause: reqwest's own words hide it, and show the URL, which is known.
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("cannot be reached: {cause}")
}

fn bytes(hex_digits: &str) -> Option<Vec<u8>> {
    hex::decode(hex_digits.trim_start_matches("0x")).ok()
}
