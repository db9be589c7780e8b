//! One request, from its prompt to its checked receipts.

use crate::{
    catalogue::Model,
    check::{check, check_undelivered, Delivery, Rejection},
    gateway::Gateway,
    lanes::{LaneGuard, LaneState, Pending},
    metrics,
    upstream::{AskError, Endpoint, Event, ReceiptEvent},
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
use tokio::sync::mpsc;

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
    sink: &mpsc::Sender<String>,
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
    sink: &mpsc::Sender<String>,
) -> Result<Answer, GatewayError> {
    // A lane is worth waiting for only when the first voucher can be paid.
    let first = question
        .model
        .terms
        .fee(question.tokens_in, question.max_tokens.min(CHUNK))?;
    drop(gateway.budget.reserve(&gateway.funds().await?, first)?);
    let (mut guard, mut state) = tokio::select! {
        lane = gateway.lane() => lane?,
        () = sink.closed() => return Err(GatewayError::Cancelled),
    };
    let mut answer = Answer {
        receipts: Vec::new(),
        complete: false,
        sources: Vec::new(),
        attributions: Vec::new(),
    };
    let mut retried = false;
    // A voucher that ran out generated all it paid for, though fewer tokens may be charged.
    let mut left = question.max_tokens;
    loop {
        let continued = answer.receipts.last().map(|last| last.id);
        let before = state.position.sequence;
        let chunk = chunk(
            gateway, question, sink, &mut guard, &mut state, left, continued,
        )
        .await;
        let chunk = match chunk {
            // The worker went away without using the voucher or showing anything: once more.
            Err(GatewayError::Worker { .. })
                if !retried && state.pending.is_none() && state.position.sequence == before =>
            {
                retried = true;
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

/// One voucher, its part of the answer, its receipt.
async fn chunk(
    gateway: &Gateway,
    question: &Question,
    sink: &mpsc::Sender<String>,
    guard: &mut LaneGuard,
    state: &mut LaneState,
    left: u32,
    continued: Option<Digest>,
) -> Result<Chunk, GatewayError> {
    let lane = guard.lane();
    let tokens_in = match continued {
        Some(_) => 0,
        None => question.tokens_in,
    };
    let mut salt = [0; 32];
    rand::rng().fill_bytes(&mut salt);
    let terms = question.model.terms;
    let voucher = voucher(
        &state.position,
        &Order {
            domain: gateway.domain,
            channel: gateway.channel,
            lane,
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
    let _reservation = gateway
        .budget
        .reserve(&gateway.funds().await?, voucher.max_fee)?;
    let signature = gateway.key.sign_hash(&voucher.hash());
    // On disk before it leaves: after a crash the lane's doubt is known.
    let pending = Pending {
        voucher,
        signature,
        terms,
        tokens_in,
        delivered: None,
    };
    state.pending = Some(pending.clone());
    gateway.store.put(gateway.channel, lane, state)?;
    let worker = gateway.upstream().await?;
    let signed = SignedVoucher { voucher, signature };
    let asked = tokio::select! {
        asked = worker.ask(
            question.endpoint,
            question.body.clone(),
            &signed,
            &salt,
            continued.as_ref(),
        ) => asked,
        () = sink.closed() => {
            doubt(gateway, guard, state, 0).await;
            return Err(GatewayError::Cancelled);
        }
    };
    let mut stream = match asked {
        Ok(stream) => stream,
        Err(AskError::NotSent(error)) => {
            state.pending = None;
            gateway.store.put(gateway.channel, lane, state)?;
            if error.code().starts_with("voucher") {
                // Gateway and worker disagree about the lane: its next user compares them anew.
                gateway.store.forget(gateway.channel, lane)?;
            }
            return Err(error);
        }
        Err(AskError::Unknown(error)) => {
            doubt(gateway, guard, state, 0).await;
            return Err(error);
        }
        Err(AskError::Failed { message, receipt }) => {
            return Err(failed(gateway, question, guard, state, message, receipt).await)
        }
    };
    let mut text = String::new();
    let receipt = loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = sink.closed() => {
                // Dropping the stream is what tells the worker.
                drop(stream);
                let delivered = question.model.base.count_output(&text)?;
                doubt(gateway, guard, state, delivered).await;
                return Err(GatewayError::Cancelled);
            }
        };
        match event {
            Ok(Some(Event::Delta(delta))) => {
                text.push_str(&delta);
                // A closed sink is noticed above.
                let _ = sink.send(delta).await;
            }
            Ok(Some(Event::Receipt(receipt))) => break *receipt,
            Ok(Some(Event::Error { message, receipt })) => {
                return Err(failed(gateway, question, guard, state, message, receipt).await)
            }
            Ok(None) => {
                let delivered = question.model.base.count_output(&text)?;
                doubt(gateway, guard, state, delivered).await;
                return Err(GatewayError::Rejected(refuse(Rejection::Missing(
                    "the stream ended".into(),
                ))));
            }
            Err(error) => {
                let delivered = question.model.base.count_output(&text)?;
                doubt(gateway, guard, state, delivered).await;
                return Err(error);
            }
        }
    };
    let signer = gateway.signer(receipt.signed.receipt.key).await?;
    let counted = question.model.base.count_output(&text)?;
    let verdict = check(
        &receipt.signed,
        &pending,
        &signer,
        &Delivery {
            text: &text,
            tokens_out: counted,
            salt: receipt.output_salt,
            attributions: &receipt.attributions,
        },
    );
    if let Err(rejection) = verdict {
        let rejection = refuse(rejection);
        gateway.park(guard, state, format!("receipt refused: {rejection}"))?;
        return Err(rejection.into());
    }
    let accepted = take(gateway, question, lane, state, &receipt.signed)?;
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
    gateway: &Gateway,
    question: &Question,
    lane: LaneIndex,
    state: &mut LaneState,
    signed: &SignedReceipt,
) -> Result<Accepted, GatewayError> {
    gateway.accept(lane, state, signed)?;
    let receipt = &signed.receipt;
    let outcome = match receipt.outcome {
        Outcome::Complete => "complete",
        Outcome::Length => "length",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed => "failed",
    };
    metrics::accepted(
        &question.model.info.label(),
        outcome,
        receipt.tokens_in,
        receipt.tokens_out,
        receipt.fee,
    );
    Ok(Accepted {
        id: receipt.hash(),
        lane,
        sequence: state.position.sequence,
        signed: *signed,
    })
}

/// A failure after the voucher was taken: its receipt must charge nothing.
async fn failed(
    gateway: &Gateway,
    question: &Question,
    guard: &mut LaneGuard,
    state: &mut LaneState,
    message: String,
    receipt: Option<Box<ReceiptEvent>>,
) -> GatewayError {
    let (Some(receipt), Some(pending)) = (receipt, state.pending.clone()) else {
        doubt(gateway, guard, state, 0).await;
        return GatewayError::Failed(message);
    };
    let signed = receipt.signed;
    let settled = async {
        let signer = gateway.signer(signed.receipt.key).await?;
        // Whatever was shown before it failed: a failure charges nothing.
        let verdict = match signed.receipt.fee {
            0 => check_undelivered(&signed, &pending, &signer, 0),
            fee => Err(Rejection::FailureCharged(fee)),
        };
        match verdict {
            Ok(()) => take(gateway, question, guard.lane(), state, &signed).map(|_| ()),
            Err(rejection) => {
                let rejection = refuse(rejection);
                gateway.park(guard, state, format!("receipt refused: {rejection}"))?;
                Err(rejection.into())
            }
        }
    };
    match settled.await {
        Ok(()) => GatewayError::Failed(message),
        Err(error) => error,
    }
}

/// Counts a refusal.
fn refuse(rejection: Rejection) -> Rejection {
    metrics::rejected(rejection.code());
    rejection
}

/// Tries to settle a voucher in doubt right away; the next user of the lane tries again.
async fn doubt(gateway: &Gateway, guard: &mut LaneGuard, state: &mut LaneState, delivered: u32) {
    if let Some(pending) = &mut state.pending {
        pending.delivered = Some(delivered);
    }
    let settled = match gateway.store.put(gateway.channel, guard.lane(), state) {
        Ok(()) => gateway.resolve(guard, state, Some(delivered)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = settled {
        tracing::warn!(lane = guard.lane(), %error, "lane stays in doubt until the worker can be asked");
    }
}
