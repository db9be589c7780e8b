//! One request, from voucher to journaled receipt.

use super::{
    admission::{self, Admitted, Payment},
    catalog::{Opened, Served},
    computing::{millis, Computed, Computing, PATIENCE},
    continuations::Continuation,
    journal,
    promises::Promise,
    sentence,
    sources::{self, Found},
    Service,
};
use crate::api::error::ApiError;
use openledger_engine::{SubmitError, Tenant};
use openledger_metering::{journal::LaneGuard, Charge, DeliveredReceipt, LaneHead, SignedReceipt};
use openledger_openai::{answer::Finish, Completion};
use openledger_primitives::{
    receipt::{attribution_root, output_commit, Outcome, Receipt},
    BlockNumber, ChannelId, Digest, FORMAT_VERSION,
};
use openledger_serving::{
    ask::{client_seed, engine_request},
    reader::{Delta, Reader},
};
use serde_json::{json, Value};
use std::{sync::Arc, time::Instant};
use tokio::sync::mpsc;

/// Output tokens from which on an answer that used up its voucher can go on.
const CONTINUED_FROM: u32 = 64;

/// What an answer consists of, in order: deltas, then one end.
#[derive(Clone, Debug)]
pub enum Piece {
    /// More of it.
    Delta(Delta),
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
    /// What a client is told of a failure beside that it costs nothing.
    pub failure: Option<&'static str>,
}

/// What a client is told when index or rows of the model cannot be loaded.
const NO_SOURCES: &str =
    "The data that this model's sources are found in cannot be loaded now; try again \
                          later, or another worker.";

impl End {
    /// Why it ended, in OpenAI's words.
    pub fn finish(&self) -> Finish {
        match self.outcome {
            Outcome::Length | Outcome::Cancelled => Finish::Length,
            Outcome::Complete | Outcome::Failed => Finish::Stop,
        }
    }
}

/// A request that was admitted and is being computed.
struct Work {
    service: Service,
    served: Arc<Served>,
    payment: Payment,
    tokens_in: u32,
    /// Tokens of the answer that an earlier voucher paid for the generation of.
    answered: usize,
    start_block: BlockNumber,
    computing: Computing,
    /// See [`End::failure`].
    failure: Option<&'static str>,
    _promise: Promise,
    _lane: LaneGuard,
}

/// Admits a request and starts computing it. The pieces come on the channel; when its receiver is
/// dropped the computation ends, and what was delivered until then is charged.
pub async fn begin(
    service: &Service,
    request: &Completion,
    body: &[u8],
    payment: Payment,
) -> Result<mpsc::Receiver<Piece>, ApiError> {
    let Admitted {
        served,
        prompt,
        answered,
        tokens_in,
        limit,
        start_block,
        promise,
        lane,
        consumer,
    } = admission::admit(service, request, body, &payment).await?;
    let limit = request.max_tokens.map_or(limit, |asked| asked.min(limit));
    // Grammars take their time, which the threads of connections do not have.
    let prepared = {
        let (service, request, prompt) = (service.clone(), request.clone(), prompt.clone());
        // Whoever has many channels does not have the memory for forms of as many.
        let guides = service.guides.on_behalf_of(Tenant(consumer.0));
        tokio::task::spawn_blocking(move || {
            let (text, begun) = (&service.text, prompt.len().saturating_sub(answered));
            let before = text
                .tokenizer()
                .decode(prompt.get(begun..).unwrap_or_default());
            let before = before.unwrap_or_default();
            // A stop string ends the computation, and the gateway takes it out of the text: were it not
            // delivered, whoever asks for one that is the answer would have the answer for nothing.
            let reader = Reader::after(text, &request, &before)
                .map_err(|error| openledger_openai::ApiError::value("stop", error.to_string()))?;
            let asked = engine_request(
                &service.engine,
                text,
                &guides,
                &request,
                prompt,
                answered,
                Some(limit),
            )?;
            Ok::<_, openledger_openai::ApiError>((asked, reader))
        })
    };
    let (mut asked, reader) = prepared.await.map_err(|error| {
        tracing::error!(%error, "a request could not be prepared");
        ApiError::internal("The request could not be prepared.")
    })??;
    asked.adapter = served.adapter;
    asked.seed = match request.sampling.seed {
        Some(seed) => client_seed(seed),
        None => payment.voucher.voucher.seed(),
    };
    // Channels share the engine evenly, and none learns from its speed what another asked.
    let channel = channel_digest(payment.voucher.voucher.channel);
    asked.tenant = Tenant(channel);
    asked.cache_salt = channel;
    let started = Instant::now();
    // Longer than a client should have to wait for its turn.
    asked.start_by = Some(started + PATIENCE);
    let stream = service.engine.submit(asked).map_err(refused)?;
    if let Some(receipt) = &payment.continues {
        service.continuations.forget(receipt);
    }
    let data = served
        .training
        .clone()
        .map(|training| tokio::task::spawn_blocking(move || training.open()));
    let work = Work {
        computing: Computing {
            text: service.text.clone(),
            is_attributed: data.is_some(),
            data,
            tokens: prompt,
            reader,
            started,
            stream,
        },
        service: service.clone(),
        served,
        failure: None,
        payment,
        tokens_in,
        answered,
        start_block,
        _promise: promise,
        _lane: lane,
    };
    let (pieces, receiver) = mpsc::channel(64);
    tokio::spawn(work.run(pieces));
    Ok(receiver)
}

impl Work {
    async fn run(mut self, pieces: mpsc::Sender<Piece>) {
        let mut computed = self.computing.run(&pieces).await;
        if let Some(error) = &computed.lacking {
            self.lacks_sources(error);
        }
        if computed.is_numberless {
            self.suspend();
        }
        let data = computed.data.take();
        match self.settle(computed, data).await {
            Ok(end) => {
                let _ = pieces
                    .send_timeout(Piece::End(Box::new(end)), PATIENCE)
                    .await;
            }
            // Without a journaled receipt there must be no end: the client sees a broken stream and
            // presents the same voucher again.
            Err(error) => tracing::error!(error, "an answer could not be journaled"),
        }
    }

    /// Counts, attributes, signs and journals.
    async fn settle(
        &mut self,
        mut computed: Computed,
        data: Option<Opened>,
    ) -> Result<End, String> {
        if computed.outcome == Outcome::Failed {
            computed.text.clear();
        }
        let (mut charge, output) = self.charge(&computed)?;
        let served = Arc::clone(&self.served);
        // Rows may have to be read.
        let found = tokio::task::spawn_blocking(move || {
            sources::of(
                &served,
                data.as_ref(),
                &output,
                charge.tokens_out,
                charge.fee,
            )
        });
        let found = match found.await.map_err(|error| error.to_string())? {
            Ok(found) => found,
            Err(error) => {
                // What cannot be attributed is not charged.
                self.lacks_sources(&error);
                computed.outcome = Outcome::Failed;
                computed.text.clear();
                charge = self.charge(&computed)?.0;
                Found::default()
            }
        };
        self.deliver(computed, charge, found).await
    }

    /// What an answer costs, and its canonical tokens.
    fn charge(&self, computed: &Computed) -> Result<(Charge, Vec<u32>), String> {
        let tokenizer = self.service.text.tokenizer();
        let output = tokenizer.encode(&computed.text, false);
        let output = output.map_err(|error| error.to_string())?;
        let charge = Charge::of(
            computed.outcome,
            self.tokens_in,
            computed.generated,
            u32::try_from(output.len()).unwrap_or(u32::MAX),
            self.served.price_in,
            self.served.price_out,
        );
        Ok((charge.ok_or("the fee does not fit")?, output))
    }

    /// Weights that answer with nothing would make each request free: no more of them for a while. The
    /// base is the operator's own choice, and everybody's.
    fn suspend(&self) {
        let revision = self.served.revision;
        if self.served.adapter.is_none() {
            tracing::error!("the base computes no numbers");
            return;
        }
        let wait = self.service.catalog.suspend(revision).as_secs();
        let alias = &self.served.alias;
        tracing::warn!(
            revision,
            alias,
            "its weights compute no numbers: not served for {wait} s"
        );
    }

    fn lacks_sources(&mut self, error: &anyhow::Error) {
        let revision = self.served.revision;
        tracing::error!(revision, "sources cannot be found: {error:#}");
        self.failure = Some(NO_SOURCES);
    }

    /// Signs and journals.
    async fn deliver(
        &self,
        computed: Computed,
        charge: Charge,
        found: Found,
    ) -> Result<End, String> {
        let Computed {
            outcome,
            text,
            generated,
            fingerprint_root,
            first_token_ms,
            ..
        } = computed;
        let service = &self.service;
        let served = &self.served;
        let voucher = self.payment.voucher.voucher;
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
            total_ms: millis(self.computing.started),
            backend: service.backend,
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
        // Going on costs no second prompt, though it is read again: not for an answer of a few tokens.
        if outcome == Outcome::Length && charge.tokens_out >= CONTINUED_FROM {
            let stopped = Continuation {
                channel: voucher.channel,
                lane: voucher.lane,
                revision: served.revision,
                tokens: self.computing.tokens.clone(),
                answered: self.answered.saturating_add(generated as usize),
            };
            service.continuations.keep(receipt.hash(), stopped);
        }
        Ok(End {
            outcome,
            tokens_in: charge.tokens_in,
            tokens_out: charge.tokens_out,
            openledger,
            failure: self.failure,
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
        "in_flight": service.journal.is_busy(channel, lane),
    }))
}

fn refused(error: SubmitError) -> ApiError {
    match error {
        SubmitError::QueueFull { retry_after, .. } => {
            ApiError::busy(sentence(&error), retry_after.as_secs())
        }
        SubmitError::Stopped => ApiError::busy("The worker is shutting down.", 30),
        error => ApiError::invalid("invalid_request", sentence(&error)),
    }
}

pub(super) fn openledger_object(
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

fn channel_digest(channel: ChannelId) -> Digest {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&channel.to_le_bytes());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_broke_off_should_not_be_called_whole() {
        let finish = |outcome| {
            let end = End {
                outcome,
                tokens_in: 1,
                tokens_out: 1,
                openledger: Value::Null,
                failure: None,
            };
            end.finish()
        };
        assert_eq!(finish(Outcome::Complete), Finish::Stop);
        assert_eq!(finish(Outcome::Length), Finish::Length);
        assert_eq!(finish(Outcome::Cancelled), Finish::Length);
    }
}
