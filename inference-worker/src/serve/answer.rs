//! One request, from voucher to journaled receipt.

use super::{
    catalog::Served, continuations::Continuation, facts::Lane, promises::Promise, sources, Service,
};
use crate::api::{
    error::ApiError,
    openai::{CompletionRequest, Prompt},
};
use openledger_engine::{Event, FinishReason, Request, Sampling, SubmitError, TokenStream};
use openledger_metering::{
    admit, journal::LaneGuard, Charge, DeliveredReceipt, JournalError, LaneHead, SignedReceipt,
    SignedVoucher, VoucherContext,
};
use openledger_primitives::{
    receipt::{attribution_root, output_commit, BackendClass, Outcome, Receipt},
    voucher::Voucher,
    BlockNumber, Digest, PublicKey, FORMAT_VERSION,
};
use serde_json::{json, Value};
use std::{sync::Arc, time::Instant};
use tokio::sync::mpsc;

/// What pays for a request.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The voucher.
    pub voucher: SignedVoucher,
    /// Salt of its request commitment.
    pub salt: [u8; 32],
    /// On a continued answer: hash of the receipt it goes on from.
    pub continues: Option<Digest>,
}

/// What an answer consists of, in order: deltas, then one end.
#[derive(Clone, Debug)]
pub enum Piece {
    /// More text.
    Delta(String),
    /// The end; the receipt is on disk.
    End(Box<End>),
}

/// The end of an answer.
#[derive(Clone, Debug)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// Prompt tokens charged.
    pub tokens_in: u32,
    /// Output tokens charged.
    pub tokens_out: u32,
    /// The `openledger` object: receipt, salt, attributions, sources.
    pub openledger: Value,
}

impl End {
    /// OpenAI's `finish_reason`.
    pub fn finish_reason(&self) -> &'static str {
        match self.outcome {
            Outcome::Length => "length",
            _ => "stop",
        }
    }
}

/// A request that was admitted and is being computed.
struct Work {
    service: Service,
    served: Arc<Served>,
    payment: Payment,
    tokens_in: u32,
    /// Prompt, then what is generated.
    tokens: Vec<u32>,
    started: Instant,
    start_block: BlockNumber,
    stream: TokenStream,
    _promise: Promise,
    _lane: LaneGuard,
}

/// Admits a request and starts computing it. The pieces come on the channel; when its receiver is
/// dropped the computation ends, and what was delivered until then is charged.
pub async fn begin(
    service: &Service,
    request: &CompletionRequest,
    body: &[u8],
    payment: Payment,
) -> Result<mpsc::Receiver<Piece>, ApiError> {
    let served = service
        .catalog
        .find(&request.model)
        .ok_or_else(|| ApiError::unknown_model(&request.model))?;
    let prompt = tokens_of(service, &request.prompt)?;
    let voucher = payment.voucher.voucher;
    let lane = service
        .journal
        .take_lane(voucher.channel, voucher.lane)
        .map_err(|error| ApiError::conflict("voucher_lane_busy", sentence(&error)))?;
    // The same voucher again, after a lost connection: the receipt it has, not new work.
    if let Some(delivered) = journal(service.journal.by_voucher(&voucher.hash()))? {
        return Err(ApiError::payment(
            "voucher_already_served",
            "This voucher was served. Its receipt is enclosed; sign the next voucher on top of it.",
        )
        .with_receipt(openledger_object(&delivered, Value::Null, &[])));
    }
    let (prompt, tokens_in) = match &payment.continues {
        None => {
            let count = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
            (prompt, count)
        }
        // The prompt was charged with the first voucher.
        Some(receipt) => {
            let stopped = service
                .continuations
                .find(receipt)
                .filter(|stopped| stopped.revision == served.revision)
                .ok_or_else(|| {
                    ApiError::invalid(
                        "continuation_unknown",
                        "This worker does not remember that answer. Ask again from the start.",
                    )
                })?;
            (stopped.tokens, 0)
        }
    };
    let context = service.engine.context();
    if prompt.len() >= context {
        return Err(ApiError::invalid(
            "context_length_exceeded",
            format!(
                "The prompt has {} tokens; this model's context is {context}, answer included. Shorten the prompt.",
                prompt.len()
            ),
        ));
    }
    let (limit, promise, start_block) =
        admitted(service, &served, body, &payment, tokens_in).await?;
    let limit = request.max_tokens.map_or(limit, |asked| asked.min(limit));
    let mut engine_request = Request::new(prompt.clone(), limit as usize);
    engine_request.adapter = served.adapter;
    engine_request.sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        ..Sampling::GREEDY
    };
    engine_request.seed = match request.seed {
        Some(seed) => client_seed(seed),
        None => voucher.seed(),
    };
    engine_request.stop_tokens = service.engine.config().eos_token_ids.clone();
    let started = Instant::now();
    let stream = service.engine.submit(engine_request).map_err(refused)?;
    let work = Work {
        service: service.clone(),
        served,
        payment,
        tokens_in,
        tokens: prompt,
        started,
        start_block,
        stream,
        _promise: promise,
        _lane: lane,
    };
    let (pieces, receiver) = mpsc::channel(64);
    tokio::spawn(work.run(pieces));
    Ok(receiver)
}

/// Holds the voucher against lane, deposit, bond and terms; gives the most output tokens it pays for.
async fn admitted(
    service: &Service,
    served: &Served,
    body: &[u8],
    payment: &Payment,
    tokens_in: u32,
) -> Result<(u32, Promise, BlockNumber), ApiError> {
    let voucher = &payment.voucher.voucher;
    let unavailable = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "the chain could not be read");
        ApiError::busy("The chain cannot be read right now. Try again.", 5)
    };
    let channel = service
        .facts
        .channel(voucher.channel)
        .await
        .map_err(|error| unavailable(&error))?
        .filter(|channel| channel.worker == service.worker && channel.open)
        .ok_or_else(|| {
            ApiError::payment(
                "voucher_channel",
                format!(
                    "Channel {} is not open with this worker ({}).",
                    voucher.channel, service.worker
                ),
            )
        })?;
    let lane = channel.lane(voucher.lane).ok_or_else(|| {
        ApiError::payment(
            "voucher_lane",
            format!("Channel {} has no lane {}.", voucher.channel, voucher.lane),
        )
    })?;
    let exposure_room = service
        .facts
        .exposure_room()
        .await
        .map_err(|error| unavailable(&error))?;
    let (head, lost) = lane_head(service, voucher, lane)?;
    let unsettled_from = |signer: Option<PublicKey>| {
        let lanes = channel
            .lanes()
            .iter()
            .filter(|lane| signer.is_none_or(|signer| lane.signer == signer))
            .map(|lane| (lane.index, lane.next_sequence));
        journal(service.journal.unsettled_fees(voucher.channel, lanes))
    };
    let unsettled = unsettled_from(None)?;
    let unsettled_of_signer = unsettled_from(Some(lane.signer))?;
    let promised = service.promises.outstanding(voucher.channel, lane.signer);
    let now = service.facts.best_block();
    // Work that could not be claimed any more when the next batch is due would be given away.
    let claimable = now.saturating_add(service.rules.claim_margin) <= lane.valid_until;
    let limit = admit(
        &payment.voucher,
        &VoucherContext {
            domain: service.facts.domain(),
            now,
            signer: Some(lane.signer).filter(|_| claimable),
            signer_room: lane
                .signer_room
                .saturating_sub(unsettled_of_signer)
                .saturating_sub(promised.signer),
            free_deposit: channel
                .free_deposit
                .saturating_sub(unsettled)
                .saturating_sub(promised.channel),
            exposure_room: exposure_room
                .saturating_sub(service.journal.unsubmitted_fees())
                .saturating_sub(promised.all),
            head,
            revision: served.revision,
            terms: served.terms_index,
            price_in: served.price_in,
            price_out: served.price_out,
            tokens_in,
            evidence: channel.evidence,
            salt: &payment.salt,
            body,
        },
    )
    .map_err(|refusal| ApiError::payment(refusal.code(), sentence(&refusal)))?;
    if lost {
        journal(service.journal.adopt(voucher.channel, voucher.lane, &head))?;
    }
    let promise = service
        .promises
        .make(voucher.channel, lane.signer, voucher.max_fee);
    Ok((limit, promise, now))
}

/// Where the lane stands: as the journal has it, or as chain and consumer agree where the chain is
/// ahead of a journal that was lost, which is told beside it.
fn lane_head(
    service: &Service,
    voucher: &Voucher,
    lane: &Lane,
) -> Result<(LaneHead, bool), ApiError> {
    let known = journal(service.journal.head(voucher.channel, voucher.lane))?;
    if lane.next_sequence <= known.sequence.saturating_add(1) {
        return Ok((known, false));
    }
    if voucher.sequence != lane.next_sequence || voucher.prev_cum != lane.cumulative {
        return Err(ApiError::payment(
            "voucher_lane_lost",
            "This worker lost its records of the lane, and the voucher stands on an answer that was not settled. Use another lane.",
        ));
    }
    let head = LaneHead {
        sequence: lane.next_sequence.saturating_sub(1),
        cumulative: lane.cumulative,
        receipt: voucher.prev_receipt,
    };
    Ok((head, true))
}

impl Work {
    async fn run(mut self, pieces: mpsc::Sender<Piece>) {
        let mut decoder = self.service.text.stream();
        let mut text = String::new();
        let mut generated = 0u32;
        let mut first_token_ms = None;
        let (outcome, fingerprint) = loop {
            let event = tokio::select! {
                event = self.stream.next() => event,
                () = pieces.closed() => break (Outcome::Cancelled, [0; 32]),
            };
            match event {
                Some(Event::Token(token)) => {
                    first_token_ms.get_or_insert_with(|| millis(self.started));
                    generated = generated.saturating_add(1);
                    self.tokens.push(token.id);
                    match decoder.push(token.id) {
                        Ok(delta) if delta.is_empty() => {}
                        Ok(delta) => {
                            text.push_str(&delta);
                            if pieces.send(Piece::Delta(delta)).await.is_err() {
                                break (Outcome::Cancelled, [0; 32]);
                            }
                        }
                        Err(error) => {
                            tracing::error!(%error, "a token could not be decoded");
                            break (Outcome::Failed, [0; 32]);
                        }
                    }
                }
                Some(Event::Finished(end)) => {
                    let outcome = match end.reason {
                        FinishReason::Length => Outcome::Length,
                        _ => Outcome::Complete,
                    };
                    break (outcome, end.fingerprint);
                }
                Some(Event::Failed(error)) => {
                    tracing::error!(%error, "the engine failed a request");
                    break (Outcome::Failed, [0; 32]);
                }
                None => break (Outcome::Failed, [0; 32]),
            }
        };
        if let Ok(tail) = decoder.finish() {
            if !tail.is_empty() && outcome != Outcome::Failed {
                text.push_str(&tail);
                let _ = pieces.send(Piece::Delta(tail)).await;
            }
        }
        let first_token_ms = first_token_ms.unwrap_or_else(|| millis(self.started));
        match self
            .settle(outcome, text, generated, fingerprint, first_token_ms)
            .await
        {
            Ok(end) => {
                let _ = pieces.send(Piece::End(Box::new(end))).await;
            }
            // Without a journaled receipt there must be no end: the client sees a broken stream and
            // presents the same voucher again.
            Err(error) => tracing::error!(error, "an answer could not be journaled"),
        }
    }

    /// Counts, attributes, signs and journals.
    async fn settle(
        &self,
        outcome: Outcome,
        text: String,
        generated: u32,
        fingerprint_root: Digest,
        first_token_ms: u32,
    ) -> Result<End, String> {
        let service = &self.service;
        let served = &self.served;
        let voucher = self.payment.voucher.voucher;
        let text = if outcome == Outcome::Failed {
            String::new()
        } else {
            text
        };
        let canonical_ids = service
            .text
            .tokenizer()
            .encode(&text, false)
            .map_err(|error| error.to_string())?;
        let canonical = u32::try_from(canonical_ids.len()).unwrap_or(u32::MAX);
        let charge = Charge::of(
            outcome,
            self.tokens_in,
            generated,
            canonical,
            served.price_in,
            served.price_out,
        )
        .ok_or("the fee does not fit")?;
        let found = sources::of(served, &canonical_ids, charge.tokens_out, charge.fee);
        let output_salt: [u8; 32] = rand::random();
        let receipt = Receipt {
            version: FORMAT_VERSION,
            domain: voucher.domain,
            voucher: voucher.hash(),
            worker: service.worker.0,
            key: service.key_index,
            outcome,
            tokens_in: charge.tokens_in,
            tokens_out: charge.tokens_out,
            fee: charge.fee,
            cum: voucher
                .prev_cum
                .checked_add(charge.fee)
                .ok_or("the cumulative charge does not fit")?,
            output_commit: output_commit(&output_salt, text.as_bytes()),
            fingerprint_root,
            attribution_root: attribution_root(&found.attributions),
            retrieval_root: [0; 32],
            start_block: self.start_block,
            first_token_ms,
            total_ms: millis(self.started),
            backend: BackendClass::CpuF32,
        };
        let delivered = DeliveredReceipt {
            voucher: self.payment.voucher,
            receipt: SignedReceipt::sign(receipt, |hash| service.key.sign_hash(hash)),
            output_salt,
            credits: found.credits,
        };
        let openledger = openledger_object(&delivered, found.sources, &found.attributions);
        let writer = service.clone();
        tokio::task::spawn_blocking(move || writer.journal.deliver(&delivered))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        metrics::counter!("openledger_receipts_total").increment(1);
        if outcome == Outcome::Length {
            let stopped = Continuation {
                revision: served.revision,
                tokens: self.tokens.clone(),
            };
            service.continuations.keep(receipt.hash(), stopped);
        }
        Ok(End {
            outcome,
            tokens_in: charge.tokens_in,
            tokens_out: charge.tokens_out,
            openledger,
        })
    }
}

/// Where a lane stands, for a gateway that lost its own record.
pub fn lane_state(service: &Service, channel: u64, lane: u16) -> Result<Value, ApiError> {
    let last = journal(service.journal.last(channel, lane))?;
    let head = last
        .as_ref()
        .map_or(LaneHead::default(), DeliveredReceipt::head);
    Ok(json!({
        "sequence": head.sequence,
        "cumulative": head.cumulative.to_string(),
        "voucher": last.as_ref().map(|d| hex_of(&d.voucher)),
        "receipt": last.as_ref().map(|d| hex_of(&d.receipt)),
        "output_salt": last.as_ref().map(|d| hex::encode(d.output_salt)),
    }))
}

fn tokens_of(service: &Service, prompt: &Prompt) -> Result<Vec<u32>, ApiError> {
    match prompt {
        Prompt::Messages(messages) => service.text.count_prompt(messages),
        Prompt::Text(text) => service.text.count_text(text),
    }
    .map_err(|error| ApiError::invalid("invalid_prompt", error.to_string()))
}

fn refused(error: SubmitError) -> ApiError {
    match error {
        SubmitError::QueueFull(_) => ApiError::busy("Too many requests wait. Try again.", 1),
        SubmitError::Stopped => ApiError::busy("The worker is shutting down.", 30),
        error => ApiError::invalid("invalid_request", sentence(&error)),
    }
}

fn journal<T>(result: Result<T, JournalError>) -> Result<T, ApiError> {
    result.map_err(|error| {
        tracing::error!(%error, "journal");
        ApiError::internal("The worker's journal cannot be used; it delivers nothing until it can.")
    })
}

fn openledger_object(
    delivered: &DeliveredReceipt,
    sources: Value,
    attributions: &[openledger_primitives::receipt::Attribution],
) -> Value {
    json!({
        "receipt": hex_of(&delivered.receipt),
        "output_salt": hex::encode(delivered.output_salt),
        "attributions": attributions,
        "sources": sources,
    })
}

fn hex_of<T: parity_scale_codec::Encode>(value: &T) -> String {
    hex::encode(value.encode())
}

/// The client's seed as the sampler's key: little-endian, padded with zeros.
fn client_seed(seed: i64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key
}

fn millis(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
}

/// An error's message as a sentence.
fn sentence(error: &dyn std::fmt::Display) -> String {
    let message = error.to_string();
    let mut letters = message.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => message,
    }
}
