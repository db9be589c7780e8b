//! The server-sent events of an answer.

use super::{bytes, describe, Limits};
use crate::GatewayError;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use openledger_metering::SignedReceipt;
use openledger_primitives::receipt::Attribution;
use serde::Deserialize;
use serde_json::Value;
use std::pin::Pin;
use tokio::time::Instant;

/// Bytes of one event at most.
const MAX_EVENT: usize = 4 << 20;
/// Bytes of one stream at most: a receipt, and events of a few hundred bytes for 256 tokens.
const MAX_STREAM: usize = 16 << 20;
/// Characters of a worker's message that are passed on.
const MAX_MESSAGE: usize = 500;

/// What comes back on a request, piece by piece.
#[derive(Debug)]
pub enum Event {
    /// More of the answer.
    Delta(Part),
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

/// More of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Text; it may be empty where log-probabilities are not.
    pub text: String,
    /// Log-probabilities of the tokens in it, in the shape of the endpoint; null without.
    pub logprobs: Value,
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Part {
            text: text.to_owned(),
            logprobs: Value::Null,
        }
    }
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

/// Bytes as they come from the worker.
type Pieces = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// The stream of an answer. Dropping it cancels the request at the worker.
pub struct Answering {
    url: String,
    pieces: Pieces,
    limits: Limits,
    /// When the whole answer must have come: a worker that only says that it lives is not waited for.
    end: Instant,
    received: usize,
    buffer: Buffer,
}

impl Answering {
    pub(super) fn new(url: String, pieces: Pieces, limits: Limits) -> Self {
        Answering {
            url,
            pieces,
            end: Instant::now() + limits.answer,
            limits,
            received: 0,
            buffer: Buffer::default(),
        }
    }

    /// The next event; nothing at the end of the stream.
    ///
    /// # Errors
    /// [`GatewayError::Worker`] when the worker falls silent, takes too long, or sends too much or
    /// nonsense.
    pub async fn next(&mut self) -> Result<Option<Event>, GatewayError> {
        loop {
            while let Some(data) = self.buffer.take_event() {
                if data == "[DONE]" {
                    return Ok(None);
                }
                let value: Value = serde_json::from_str(&data)
                    .map_err(|_| self.problem("sends an event that is not JSON"))?;
                if let Some(event) = parse_event(&value) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.bytes.len() > MAX_EVENT || self.received > MAX_STREAM {
                return Err(self.problem("sends more than an answer can be"));
            }
            let silence = Instant::now() + self.limits.silence;
            match tokio::time::timeout_at(silence.min(self.end), self.pieces.next()).await {
                Ok(Some(Ok(bytes))) => {
                    self.received = self.received.saturating_add(bytes.len());
                    self.buffer.bytes.extend_from_slice(&bytes);
                }
                Ok(Some(Err(error))) => return Err(self.problem(describe(&error))),
                Ok(None) => return Ok(None),
                Err(_) if Instant::now() >= self.end => {
                    return Err(self.problem("does not come to the end of an answer"))
                }
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

/// What came and is no whole event yet.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// No event ends before here: bytes are looked at once, however small the pieces are.
    searched: usize,
}

impl Buffer {
    /// Takes the first whole event and returns its data; comments and other fields of server-sent
    /// events are skipped.
    fn take_event(&mut self) -> Option<String> {
        loop {
            let found = (self.searched..self.bytes.len()).find_map(|at| {
                let rest = &self.bytes[at..];
                if rest.starts_with(b"\n\n") {
                    Some((at, 2))
                } else if rest.starts_with(b"\r\n\r\n") {
                    Some((at, 4))
                } else {
                    None
                }
            });
            let Some((end, separator)) = found else {
                self.searched = self.bytes.len().saturating_sub(3);
                return None;
            };
            self.searched = 0;
            let event: Vec<u8> = self.bytes.drain(..end + separator).take(end).collect();
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
}

/// A worker's words, cut to a length that fits an error.
pub(super) fn message(value: Option<&Value>) -> String {
    let text = value.and_then(Value::as_str).unwrap_or("no reason given");
    text.chars().take(MAX_MESSAGE).collect()
}

fn parse_event(value: &Value) -> Option<Event> {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Some(Event::Error {
            message: message(error.get("message")),
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
    let logprobs = choice.get("logprobs").cloned().unwrap_or(Value::Null);
    (!text.is_empty() || !logprobs.is_null()).then(|| {
        Event::Delta(Part {
            text: text.to_owned(),
            logprobs,
        })
    })
}

pub(super) fn parse_receipt(value: &Value) -> Option<ReceiptEvent> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::time::Duration;

    #[test]
    fn events_are_taken_whole_however_they_arrive() {
        let mut buffer = Buffer::default();
        let mut events = Vec::new();
        for byte in b": ping\n\ndata: {\"a\":1}\n\ndata: part\r\n\r\ndata: [DONE]\n\n" {
            buffer.bytes.push(*byte);
            events.extend(buffer.take_event());
        }
        assert_eq!(events, ["{\"a\":1}", "part", "[DONE]"]);
        assert!(buffer.bytes.is_empty());
        // And all at once.
        buffer
            .bytes
            .extend_from_slice(b": ping\n\ndata: a\n\ndata: b\n\n");
        assert_eq!(buffer.take_event().as_deref(), Some("a"));
        assert_eq!(buffer.take_event().as_deref(), Some("b"));
        assert_eq!(buffer.take_event(), None);
    }

    #[test]
    fn text_comes_from_chat_and_text_events_alike() {
        let text = |json: &str| match parse_event(&serde_json::from_str(json).unwrap()) {
            Some(Event::Delta(part)) => Some(part.text),
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
        let value = serde_json::json!({"error": {"message": "out of memory".repeat(1_000)}});
        assert!(matches!(
            parse_event(&value),
            Some(Event::Error { message, receipt: None })
                if message.starts_with("out of memory") && message.len() == MAX_MESSAGE
        ));
    }

    fn answering(pieces: Pieces, silence: u64, answer: u64) -> Answering {
        let limits = Limits {
            silence: Duration::from_millis(silence),
            answer: Duration::from_millis(answer),
            ..Limits::default()
        };
        Answering::new("http://worker".into(), pieces, limits)
    }

    #[tokio::test]
    async fn a_worker_that_only_says_that_it_lives_is_not_waited_for() {
        let pings = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok(Bytes::from(": ping\n\n")), ()))
        });
        let mut pinging = answering(Box::pin(pings), 60_000, 100);
        let error = pinging.next().await.unwrap_err();
        assert!(error.to_string().contains("does not come"), "{error}");
        let mut silent = answering(Box::pin(stream::pending()), 50, 60_000);
        let error = silent.next().await.unwrap_err();
        assert!(error.to_string().contains("fell silent"), "{error}");
    }

    #[tokio::test]
    async fn an_endless_stream_is_given_up() {
        for piece in ["data: x", ": comment\n\n"] {
            let piece = Bytes::from(piece.repeat(10_000));
            let endless = stream::repeat_with(move || Ok(piece.clone()));
            let error = answering(Box::pin(endless), 60_000, 60_000)
                .next()
                .await
                .unwrap_err();
            assert!(error.to_string().contains("more than an answer"), "{error}");
        }
    }
}
