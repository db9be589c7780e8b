//! One request, from its prompt to its checked receipts.

use crate::{
    catalogue::Model,
    check::{check, check_undelivered, Delivery, Rejection},
    gateway::{Ask, Gateway},
    lanes::{Came, LaneGuard, LaneState, Owed, Pending, UNDER_WAY},
    metrics,
    upstream::{AskError, Endpoint, Event, Part, ReceiptEvent},
    voucher::{voucher, Order, CHUNK},
    GatewayError,
};
use bytes::Bytes;
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{
    receipt::Outcome, voucher::EvidenceClass, Balance, Digest, LaneIndex, Sequence,
};
use rand::RngCore;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Bytes of text of one token at most.
const MAX_TOKEN_BYTES: usize = 256;
/// Time without any text after which it is the worker that keeps the client waiting.
const STALLED: Duration = Duration::from_secs(30);
/// How often a lane that is busy at the worker is asked for again, and how many times.
const BUSY_EVERY: Duration = Duration::from_millis(50);
const BUSY_TRIES: u32 = 20;

/// A request that is ready to be asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Endpoint.
    pub endpoint: Endpoint,
    /// Model.
    pub model: Model,
    /// The gateway's own canonical body.
    pub body: Bytes,
    /// Prompt tokens, counted here.
    pub tokens_in: u32,
    /// Output tokens at most.
    pub max_tokens: u32,
    /// Whether the request itself may be why an answer breaks off.
    pub is_excused: bool,
}

/// A receipt that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its hash: the receipt's name.
    pub id: Digest,
    /// Lane.
    pub lane: LaneIndex,
    /// Position on the lane.
    pub sequence: Sequence,
    /// Receipt and signature.
    pub signed: SignedReceipt,
    /// The voucher that it stands on.
    pub voucher: SignedVoucher,
    /// Salt of the receipt's output commitment.
    pub output_salt: [u8; 32],
}

/// An answer whose receipts all passed.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Receipts, one a chunk.
    pub receipts: Vec<Accepted>,
    /// Whether the model ended it, and not the token limit.
    pub complete: bool,
    /// Sources as the worker words them.
    pub sources: Vec<Value>,
    /// Attributions of all chunks.
    pub attributions: Vec<Value>,
}

impl Answer {
    /// Prompt tokens charged.
    pub fn tokens_in(&self) -> u32 {
        self.sum(|accepted| accepted.signed.receipt.tokens_in)
    }

    /// Output tokens charged.
    pub fn tokens_out(&self) -> u32 {
        self.sum(|accepted| accepted.signed.receipt.tokens_out)
    }

    /// Planck.
    pub fn fee(&self) -> Balance {
        self.receipts.iter().fold(0, |sum: Balance, accepted| {
            sum.saturating_add(accepted.signed.receipt.fee)
        })
    }

    fn sum(&self, of: impl Fn(&Accepted) -> u32) -> u32 {
        self.receipts
            .iter()
            .fold(0, |sum, accepted| sum.saturating_add(of(accepted)))
    }
}

/// One chunk of an answer.
struct Chunk {
    accepted: Accepted,
    delivered: bool,
    receipt: ReceiptEvent,
}

/// Asks the worker, chunk by chunk, and sends the text to `sink` as it comes. When the sink closes,
/// the worker is told to stop and what it charges for the part delivered is settled.
pub async fn answer(
    gateway: &Gateway,
    question: &Question,
    sink: &mpsc::Sender<Part>,
) -> Result<Answer, GatewayError> {
    let _in_flight = metrics::InFlight::begin();
    let result = run(gateway, question, sink).await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(error) => error.code(),
    };
    metrics::request(&question.model.info.label(), outcome);
    if let Err(error) = &result {
        tracing::warn!(model = %question.model.info.label(), %error, "request failed");
    }
    result
}

async fn run(
    gateway: &Gateway,
    question: &Question,
    sink: &mpsc::Sender<Part>,
) -> Result<Answer, GatewayError> {
    // A lane is worth waiting for only when the first voucher can be paid.
    let first = question
        .model
        .terms
        .fee(question.tokens_in, question.max_tokens.min(CHUNK))?;
    drop(gateway.budget.reserve(&gateway.funds().await?, first)?);
    let mut moved = 0;
    loop {
        let (guard, state) = tokio::select! {
            lane = gateway.lane() => lane?,
            () = sink.closed() => return Err(GatewayError::Cancelled),
        };
        let mut run = Run {
            gateway,
            question,
            sink,
            guard,
            state,
            shown: false,
        };
        match run.answer().await {
            // The lane is taken: another one may be free.
            Err(error) if error.is_lane_busy() && moved < gateway.pool.usable() => {
                moved = moved.saturating_add(1);
                drop(run);
                tokio::time::sleep(BUSY_EVERY).await;
            }
            result => return result,
        }
    }
}

/// A request on its lane.
struct Run<'a> {
    gateway: &'a Gateway,
    question: &'a Question,
    sink: &'a mpsc::Sender<Part>,
    guard: LaneGuard,
    state: LaneState,
    /// Whether the client was sent any of the answer.
    shown: bool,
}

impl Run<'_> {
    async fn answer(&mut self) -> Result<Answer, GatewayError> {
        let mut answer = Answer {
            receipts: Vec::new(),
            complete: false,
            sources: Vec::new(),
            attributions: Vec::new(),
        };
        let mut retried = false;
        let mut busy = 0;
        // A voucher that ran out generated all it paid for, though fewer tokens may be charged.
        let mut left = self.question.max_tokens;
        loop {
            let continued = answer.receipts.last().map(|last| last.id);
            let before = self.state.position.sequence;
            let chunk = match self.chunk(left, continued).await {
                // The worker went away without using the voucher or showing anything: once more.
                Err(GatewayError::Worker { .. })
                    if !retried
                        && !self.shown
                        && self.state.pending.is_none()
                        && self.state.position.sequence == before =>
                {
                    retried = true;
                    continue;
                }
                // The worker may not have put the last part of the answer away yet.
                Err(error)
                    if error.is_lane_busy()
                        && continued.is_some()
                        && self.state.pending.is_none()
                        && busy < BUSY_TRIES =>
                {
                    busy += 1;
                    tokio::time::sleep(BUSY_EVERY).await;
                    continue;
                }
                // What is answered stands; the worker does not go on (context full, or it forgot).
                Err(GatewayError::Refused { code, .. }) if continued.is_some() => {
                    tracing::warn!(%code, "the worker does not go on with an answer");
                    return Ok(answer);
                }
                chunk => chunk?,
            };
            let outcome = chunk.accepted.signed.receipt.outcome;
            left = left.saturating_sub(CHUNK);
            let ended = outcome != Outcome::Length || !chunk.delivered || left == 0;
            answer.receipts.push(chunk.accepted);
            if let Value::Array(sources) = chunk.receipt.sources {
                answer.sources.extend(sources);
            }
            answer.attributions.extend(
                chunk
                    .receipt
                    .attributions
                    .iter()
                    .filter_map(|line| serde_json::to_value(line).ok()),
            );
            if ended {
                answer.complete = outcome == Outcome::Complete;
                return Ok(answer);
            }
        }
    }

    /// Signs the next voucher of the lane; it is on disk before it leaves, so that after a crash the
    /// lane's doubt is known.
    fn sign(
        &mut self,
        left: u32,
        continued: Option<Digest>,
        salt: [u8; 32],
    ) -> Result<Pending, GatewayError> {
        let (gateway, question) = (self.gateway, self.question);
        let terms = question.model.terms;
        let tokens_in = match continued {
            Some(_) => 0,
            None => question.tokens_in,
        };
        let voucher = voucher(
            &self.state.position,
            &Order {
                domain: gateway.domain,
                channel: gateway.channel,
                lane: self.guard.lane(),
                revision: question.model.info.revision,
                terms,
                tokens_in,
                max_out: left.min(CHUNK),
                evidence: EvidenceClass::Open,
                expiry: gateway.best_block().saturating_add(gateway.voucher_life),
                body: &question.body,
                salt,
            },
        )?;
        Ok(Pending {
            voucher,
            signature: gateway.key.sign_hash(&voucher.hash()),
            terms,
            tokens_in,
            owed: Owed::Signed,
        })
    }

    /// One voucher, its part of the answer, its receipt.
    async fn chunk(&mut self, left: u32, continued: Option<Digest>) -> Result<Chunk, GatewayError> {
        let (gateway, sink, base) = (self.gateway, self.sink, &self.question.model.base);
        let mut salt = [0; 32];
        rand::rng().fill_bytes(&mut salt);
        let pending = self.sign(left, continued, salt)?;
        let voucher = pending.voucher;
        let _reservation = gateway
            .budget
            .reserve(&gateway.funds().await?, voucher.max_fee)?;
        let worker = gateway.upstream().await?;
        self.state.pending = Some(pending.clone());
        gateway
            .store
            .put(gateway.channel, self.guard.lane(), &self.state)?;
        let signed = SignedVoucher {
            voucher,
            signature: pending.signature,
        };
        let begun = Instant::now();
        let asked = tokio::select! {
            asked = worker.ask(
                self.question.endpoint,
                self.question.body.clone(),
                &signed,
                &salt,
                continued.as_ref(),
            ) => asked,
            () = sink.closed() => {
                self.doubt(cut_off(0, voucher.max_out, begun.elapsed())).await;
                return Err(GatewayError::Cancelled);
            }
        };
        let mut stream = match asked {
            Ok(stream) => stream,
            Err(AskError::NotSent(error)) => {
                self.state.pending = None;
                gateway
                    .store
                    .put(gateway.channel, self.guard.lane(), &self.state)?;
                return Err(error);
            }
            Err(AskError::Refused(error)) => {
                self.refused(&error).await?;
                return Err(error);
            }
            Err(AskError::Unknown(error)) => {
                return Err(self.broken_off(0, error).await);
            }
            Err(AskError::Failed { message, receipt }) => {
                return Err(self.failed(message, receipt).await)
            }
        };
        let mut heard = begun;
        let longest = (voucher.max_out as usize).saturating_mul(MAX_TOKEN_BYTES);
        let mut text = String::new();
        let mut is_excused = self.question.is_excused;
        let receipt = loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = sink.closed() => {
                    // Dropping the stream is what tells the worker.
                    drop(stream);
                    let delivered = base.count_output(&text)?;
                    self.doubt(cut_off(delivered, voucher.max_out, heard.elapsed())).await;
                    return Err(GatewayError::Cancelled);
                }
            };
            let broken = match event {
                Ok(Some(Event::Delta(delta))) if text.len() + delta.text.len() <= longest => {
                    text.push_str(&delta.text);
                    self.shown = true;
                    // A closed sink is noticed above.
                    let sent = Instant::now();
                    let _ = sink.send(delta).await;
                    heard = Instant::now();
                    // A client that reads nothing keeps the worker waiting, which may end the answer.
                    is_excused |= heard.duration_since(sent) > STALLED;
                    continue;
                }
                Ok(Some(Event::Receipt(receipt))) => break *receipt,
                Ok(Some(Event::Error { message, receipt })) => {
                    return Err(self.failed(message, receipt).await)
                }
                Ok(Some(Event::Delta(_))) => GatewayError::Worker {
                    url: worker.url().to_owned(),
                    problem: "sends more text than was paid for".into(),
                },
                Ok(None) => {
                    GatewayError::Rejected(refuse(Rejection::Missing("the stream ended".into())))
                }
                Err(error) => error,
            };
            drop(stream);
            let delivered = base.count_output(&text)?;
            return Err(self.broken_off(delivered, broken).await);
        };
        self.received(text, receipt, &pending, is_excused).await
    }

    /// Holds the receipt at the end of a stream against what came before it.
    async fn received(
        &mut self,
        text: String,
        receipt: ReceiptEvent,
        pending: &Pending,
        is_excused: bool,
    ) -> Result<Chunk, GatewayError> {
        let counted = self.question.model.base.count_output(&text)?;
        let signer = match self.gateway.signer(&receipt.signed.receipt).await {
            Ok(signer) => signer,
            Err(error) => {
                self.leave(Owed::AtMost(counted))?;
                return Err(error);
            }
        };
        let verdict = check(
            &receipt.signed,
            pending,
            &signer,
            &Delivery {
                text: &text,
                tokens_out: counted,
                salt: receipt.output_salt,
                attributions: &receipt.attributions,
            },
        );
        match verdict {
            Ok(()) => {}
            // The node may be late with a key that the worker has just set.
            Err(rejection @ Rejection::Key(_)) => {
                self.leave(Owed::AtMost(counted))?;
                return Err(refuse(rejection).into());
            }
            Err(rejection) => return Err(self.reject(rejection)),
        }
        let outcome = receipt.signed.receipt.outcome;
        let came = Came::received(outcome, counted, pending, is_excused);
        let accepted = match self.take(&receipt, pending, &came) {
            Err(GatewayError::Overdrawn(overdrawn)) => {
                self.leave(Owed::Broken(counted))?;
                let reason = overdrawn.to_string();
                self.gateway
                    .park(&mut self.guard, &mut self.state, reason.clone())?;
                return Err(GatewayError::Parked {
                    lane: self.guard.lane(),
                    reason,
                    cause: Box::new(GatewayError::Overdrawn(overdrawn)),
                });
            }
            accepted => accepted?,
        };
        if receipt.signed.receipt.outcome == Outcome::Failed {
            return Err(GatewayError::Failed("it says so in its receipt".into()));
        }
        Ok(Chunk {
            accepted,
            delivered: !text.is_empty(),
            receipt,
        })
    }

    /// Accepts a receipt: on disk before anyone is told.
    fn take(
        &mut self,
        received: &ReceiptEvent,
        pending: &Pending,
        came: &Came,
    ) -> Result<Accepted, GatewayError> {
        let lane = self.guard.lane();
        let signed = &received.signed;
        self.gateway.accept(lane, &mut self.state, signed, came)?;
        let receipt = &signed.receipt;
        let outcome = match receipt.outcome {
            Outcome::Complete => "complete",
            Outcome::Length => "length",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed => "failed",
        };
        metrics::accepted(
            &self.question.model.info.label(),
            outcome,
            receipt.tokens_in,
            receipt.tokens_out,
            receipt.fee,
        );
        Ok(Accepted {
            id: receipt.hash(),
            lane,
            sequence: self.state.position.sequence,
            signed: *signed,
            voucher: SignedVoucher {
                voucher: pending.voucher,
                signature: pending.signature,
            },
            output_salt: received.output_salt,
        })
    }

    /// Does not acknowledge a receipt, and signs nothing more on the lane.
    fn reject(&mut self, rejection: Rejection) -> GatewayError {
        let rejection = refuse(rejection);
        let reason = format!("receipt refused: {rejection}");
        match self.gateway.park(&mut self.guard, &mut self.state, reason) {
            Ok(()) => rejection.into(),
            Err(error) => error,
        }
    }

    /// The worker has the voucher and refuses the request. It may have used it all the same: what it
    /// says of the lane is believed only as far as nothing is charged.
    async fn refused(&mut self, error: &GatewayError) -> Result<(), GatewayError> {
        self.leave(Owed::Nothing)?;
        let settled = self
            .gateway
            .resolve(&mut self.guard, &mut self.state, Ask::Once)
            .await;
        if let Err(error) = settled {
            self.in_doubt(&error);
        } else if error.is_lane_lost() && self.state.parked.is_none() {
            self.gateway
                .park(&mut self.guard, &mut self.state, error.to_string())?;
        }
        Ok(())
    }

    /// A failure after the voucher was taken: its receipt must charge nothing.
    async fn failed(
        &mut self,
        message: String,
        receipt: Option<Box<ReceiptEvent>>,
    ) -> GatewayError {
        let (Some(receipt), Some(pending)) = (receipt, self.state.pending.clone()) else {
            self.doubt(Owed::Nothing).await;
            return GatewayError::Failed(message);
        };
        let signed = receipt.signed;
        let signer = match self.gateway.signer(&signed.receipt).await {
            Ok(signer) => signer,
            Err(error) => return self.leave(Owed::Nothing).err().unwrap_or(error),
        };
        // Whatever was shown before it failed: a failure charges nothing.
        let verdict = match signed.receipt.fee {
            0 => check_undelivered(&signed, &pending, &signer, 0),
            fee => Err(Rejection::FailureCharged(fee)),
        };
        match verdict {
            Ok(()) => match self.take(&receipt, &pending, &Came::Whole) {
                Ok(_) => GatewayError::Failed(message),
                Err(error) => error,
            },
            Err(rejection @ Rejection::Key(_)) => self
                .leave(Owed::Nothing)
                .err()
                .unwrap_or_else(|| refuse(rejection).into()),
            Err(rejection) => self.reject(rejection),
        }
    }

    /// Leaves the voucher in doubt to the lane's next user.
    fn leave(&mut self, owed: Owed) -> Result<(), GatewayError> {
        if let Some(pending) = &mut self.state.pending {
            pending.owed = owed;
        }
        let gateway = self.gateway;
        gateway
            .store
            .put(gateway.channel, self.guard.lane(), &self.state)
    }

    /// Tries to settle a voucher in doubt right away; the next user of the lane tries again.
    async fn doubt(&mut self, owed: Owed) {
        let settled = match self.leave(owed) {
            Ok(()) => {
                self.gateway
                    .resolve(&mut self.guard, &mut self.state, Ask::Patiently)
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            self.in_doubt(&error);
        }
    }

    /// Settles an answer of which so many tokens came before it broke off; what the client is told.
    async fn broken_off(&mut self, delivered: u32, cause: GatewayError) -> GatewayError {
        self.doubt(Owed::Broken(delivered)).await;
        match &self.state.parked {
            Some(reason) => GatewayError::Parked {
                lane: self.guard.lane(),
                reason: reason.clone(),
                cause: Box::new(cause),
            },
            None => cause,
        }
    }

    fn in_doubt(&self, error: &GatewayError) {
        tracing::warn!(lane = self.guard.lane(), %error, "lane stays in doubt until the worker can be asked");
    }
}

/// What may be charged for an answer that the client did not wait for, `quiet` after the last text or,
/// before any came, after the request. The worker notices late: where text was coming it may have
/// written all it was paid for before it does. Where nothing came, nothing waits in between. A worker
/// that let the client wait until it left has broken off itself.
fn cut_off(delivered: u32, max_out: u32, quiet: Duration) -> Owed {
    match delivered {
        _ if quiet > STALLED => Owed::Broken(delivered),
        0 => Owed::AtMost(UNDER_WAY.min(max_out)),
        _ => Owed::AtMost(max_out),
    }
}

/// Counts a refusal.
fn refuse(rejection: Rejection) -> Rejection {
    metrics::rejected(rejection.code());
    rejection
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_answer_may_cost_what_was_signed_for_while_text_was_coming() {
        let soon = Duration::from_secs(1);
        assert_eq!(cut_off(3, 256, soon), Owed::AtMost(256));
        assert_eq!(cut_off(0, 256, soon), Owed::AtMost(UNDER_WAY));
        assert_eq!(cut_off(0, 8, soon), Owed::AtMost(8));
    }

    #[test]
    fn a_worker_that_lets_the_client_wait_until_it_leaves_has_broken_off() {
        assert_eq!(cut_off(0, 256, STALLED * 2), Owed::Broken(0));
        assert_eq!(cut_off(3, 256, STALLED * 2), Owed::Broken(3));
    }
}
