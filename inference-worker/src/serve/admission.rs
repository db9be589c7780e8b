//! From a request with a voucher to a promise that it can be paid.
//!
//! The order matters: nothing that costs work, and no lane, is given to somebody who has not shown the
//! signature of the lane's signer; and what a voucher may charge is held against deposit, limit and
//! bond, and kept back, in one step.

use super::{
    answer::openledger_object,
    catalog::Served,
    facts::{Channel, Lane},
    journal,
    promises::{Outstanding, Promise},
    sentence, Service,
};
use crate::api::error::ApiError;
use openledger_chain::AccountId;
use openledger_metering::{
    admit as admit_voucher, journal::LaneGuard, verify, LaneHead, Refusal, SignedVoucher,
    VoucherContext,
};
use openledger_openai::Completion;
use openledger_primitives::{
    voucher::{request_commit, EvidenceClass, Voucher},
    Balance, BlockNumber, Digest, PublicKey,
};
use openledger_serving::ask::prompts;
use serde_json::Value;
use std::sync::Arc;

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

/// A request that will be paid, whatever it costs up to what its voucher says.
pub struct Admitted {
    /// The model.
    pub served: Arc<Served>,
    /// The prompt; on a continued answer, with what was generated.
    pub prompt: Vec<u32>,
    /// Tokens at the prompt's end that were generated.
    pub answered: usize,
    /// Prompt tokens to charge.
    pub tokens_in: u32,
    /// Most output tokens that the voucher pays for.
    pub limit: u32,
    /// Best block.
    pub start_block: BlockNumber,
    /// What the voucher may charge, kept back.
    pub promise: Promise,
    /// The lane, held.
    pub lane: LaneGuard,
    /// Who pays.
    pub consumer: AccountId,
}

/// Admits a request, or says why not. A refusal consumes nothing.
pub async fn admit(
    service: &Service,
    request: &Completion,
    body: &[u8],
    payment: &Payment,
) -> Result<Admitted, ApiError> {
    let served = service
        .catalog
        .find(&request.model)
        .ok_or_else(|| ApiError::unknown_model(&request.model))?;
    if !service.facts.is_fresh() {
        return Err(ApiError::busy(
            "This worker has seen no new block for a while, and takes no work that it might not be paid for. Try again, or elsewhere.",
            30,
        ));
    }
    if !service.journal.is_writable() {
        return Err(ApiError::internal(
            "The worker's journal cannot be written; it delivers nothing until its operator restarts it.",
        ));
    }
    let voucher = &payment.voucher.voucher;
    let channel = channel_of(service, voucher).await?;
    let on_chain = *channel.lane(voucher.lane).ok_or_else(|| {
        ApiError::payment(
            "voucher_lane",
            format!("Channel {} has no lane {}.", voucher.channel, voucher.lane),
        )
    })?;
    if !verify(
        &on_chain.signer,
        &voucher.hash(),
        &payment.voucher.signature,
    ) {
        return Err(refusal(&Refusal::Signature));
    }
    // Vouchers become public; the salt of their request does not. Only who made the request may take
    // its lane, or have its receipt and the salt of its answer again.
    if voucher.request_commit != request_commit(&payment.salt, body) {
        return Err(refusal(&Refusal::Request));
    }
    if channel.evidence != EvidenceClass::Open {
        return Err(ApiError::payment(
            "voucher_evidence",
            "This worker serves channels of the evidence class open, whose answers any auditor may \
             compute again. Open a channel of that class.",
        ));
    }
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
    if journal(service.journal.is_refused(voucher.channel, voucher.lane))? {
        return Err(ApiError::payment(
            "voucher_lane_lost",
            "The chain accepts no claim of this worker on the lane. Use another lane.",
        ));
    }
    let (prompt, answered, tokens_in) = prompt_of(service, &served, request, payment).await?;
    let exposure_room = service
        .facts
        .exposure_room()
        .await
        .map_err(|error| unavailable(&error))?;

    // Between reading what is promised and promising, nobody else may promise.
    let _turn = service.promises.turn().await;
    // Promises first: an answer that is journaled between the two readings counts twice, not never.
    let promised = service
        .promises
        .outstanding(voucher.channel, on_chain.signer);
    let (head, lost) = lane_head(service, voucher, &on_chain)?;
    let unsettled = |signer: Option<PublicKey>| {
        let settled = channel
            .lanes()
            .iter()
            .filter(|lane| signer.is_none_or(|signer| lane.signer == signer))
            .map(|lane| (lane.index, lane.cumulative));
        journal(service.journal.unsettled_fees(voucher.channel, settled))
    };
    let now = service.facts.best_block();
    let room = Room::left(
        &channel,
        &on_chain,
        exposure_room,
        &Spoken {
            signer: unsettled(Some(on_chain.signer))?,
            channel: unsettled(None)?,
            all: service.journal.unsubmitted_fees(),
            promised,
        },
        now.saturating_add(service.rules.claim_margin),
    );
    let limit = admit_voucher(
        &payment.voucher,
        &VoucherContext {
            domain: service.facts.domain(),
            now,
            signer: room.signer,
            signer_room: room.of_signer,
            free_deposit: room.of_deposit,
            exposure_room: room.of_bond,
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
    .map_err(|error| refusal(&error))?;
    if lost {
        journal(service.journal.adopt(voucher.channel, voucher.lane, &head))?;
    }
    let promise = service
        .promises
        .make(voucher.channel, on_chain.signer, voucher.max_fee);
    Ok(Admitted {
        served,
        prompt,
        answered,
        tokens_in,
        limit,
        start_block: now,
        promise,
        lane,
        consumer: channel.consumer,
    })
}

/// Fees that are owed already, planck: the chain knows of none of them.
struct Spoken {
    /// Answered on vouchers of the signer and not settled.
    signer: Balance,
    /// Answered on the channel and not settled.
    channel: Balance,
    /// Answered on all channels and not submitted.
    all: Balance,
    /// Of requests in flight.
    promised: Outstanding,
}

/// What a voucher may still charge, planck.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    /// The lane's signer, as long as what it signs can surely be claimed.
    signer: Option<PublicKey>,
    of_signer: Balance,
    of_deposit: Balance,
    of_bond: Balance,
}

impl Room {
    /// What is left of signer's limit, deposit and bond. `claimed_by` is the block by which an answer
    /// given now is surely claimed: work for a signer that ends before would be given away.
    fn left(
        channel: &Channel,
        lane: &Lane,
        bond: Balance,
        spoken: &Spoken,
        claimed_by: BlockNumber,
    ) -> Self {
        let promised = &spoken.promised;
        let less = |room: Balance, owed: Balance, promised: Balance| {
            room.saturating_sub(owed).saturating_sub(promised)
        };
        Room {
            signer: Some(lane.signer).filter(|_| claimed_by <= lane.valid_until),
            of_signer: less(lane.signer_room, spoken.signer, promised.signer),
            of_deposit: less(channel.free_deposit, spoken.channel, promised.channel),
            of_bond: less(bond, spoken.all, promised.all),
        }
    }
}

/// The voucher's channel, open and with this worker.
async fn channel_of(service: &Service, voucher: &Voucher) -> Result<Channel, ApiError> {
    if !service.facts.admits_stranger(voucher.channel) {
        return Err(ApiError::busy(
            "Too many unknown channels were named in this block. Try again in the next one.",
            5,
        ));
    }
    service
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
        })
}

/// The tokens to go on from, how many of them at the end were generated, and how many are charged.
async fn prompt_of(
    service: &Service,
    served: &Served,
    request: &Completion,
    payment: &Payment,
) -> Result<(Vec<u32>, usize, u32), ApiError> {
    let (prompt, answered, tokens_in) = match &payment.continues {
        None => {
            let prompt = tokenize(service, request.clone()).await?;
            let count = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
            (prompt, 0, count)
        }
        // The prompt was charged with the first voucher.
        Some(receipt) => {
            let voucher = &payment.voucher.voucher;
            let stopped = service
                .continuations
                .find(receipt)
                .filter(|stopped| {
                    *receipt == voucher.prev_receipt
                        && (stopped.channel, stopped.lane) == (voucher.channel, voucher.lane)
                        && stopped.revision == served.revision
                })
                .ok_or_else(|| {
                    ApiError::invalid(
                        "continuation_unknown",
                        "This worker has no such answer on this lane to go on from. Ask again from the start.",
                    )
                })?;
            (stopped.tokens, stopped.answered, 0)
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
    Ok((prompt, answered, tokens_in))
}

/// Tokenizes off the threads that serve connections: a long prompt takes its time.
async fn tokenize(service: &Service, request: Completion) -> Result<Vec<u32>, ApiError> {
    let text = service.text.clone();
    let prompts = tokio::task::spawn_blocking(move || prompts(&text, &request));
    let mut prompts = prompts.await.map_err(|error| {
        tracing::error!(%error, "the tokenizer");
        ApiError::internal("The prompt could not be read.")
    })??;
    // One: more were refused before.
    Ok(prompts.pop().unwrap_or_default())
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

fn refusal(refusal: &Refusal) -> ApiError {
    ApiError::payment(refusal.code(), sentence(refusal))
}

fn unavailable(error: &dyn std::fmt::Display) -> ApiError {
    tracing::error!(%error, "the chain could not be read");
    ApiError::busy("The chain cannot be read right now. Try again.", 5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{facts, promises::Promises};

    /// Room of a channel with 100 planck of deposit and of signer's limit, and 100 of bond.
    fn room(spoken: Spoken, claimed_by: BlockNumber) -> Room {
        let channel = facts::tests::channel(BlockNumber::MAX, 50);
        let lane = channel.lanes()[0];
        Room::left(&channel, &lane, 100, &spoken, claimed_by)
    }

    fn spoken(signer: Balance, channel: Balance, all: Balance) -> Spoken {
        Spoken {
            signer,
            channel,
            all,
            promised: Outstanding::default(),
        }
    }

    #[test]
    fn what_is_owed_should_be_kept_back_from_limit_deposit_and_bond() {
        let left = room(spoken(10, 20, 30), 50);
        let signer = Some([2; 32]);
        assert_eq!(
            left,
            Room {
                signer,
                of_signer: 90,
                of_deposit: 80,
                of_bond: 70,
            }
        );
        assert_eq!(room(spoken(101, 0, 0), 50).of_signer, 0);
    }

    #[test]
    fn two_requests_at_once_should_not_be_promised_the_same_planck() {
        let promises = Promises::default();
        let channel = 0;
        let first = promises.make(channel, [2; 32], 60);
        let _elsewhere = promises.make(9, [3; 32], 5);
        let _other_signer = promises.make(channel, [4; 32], 7);
        let left = |promises: &Promises| {
            let promised = promises.outstanding(channel, [2; 32]);
            room(
                Spoken {
                    promised,
                    ..spoken(10, 20, 30)
                },
                50,
            )
        };
        let held = left(&promises);
        assert_eq!((held.of_signer, held.of_deposit, held.of_bond), (30, 13, 0));
        drop(first);
        assert_eq!(left(&promises).of_signer, 90);
    }

    #[test]
    fn a_signer_that_ends_before_the_claim_should_pay_for_nothing() {
        assert_eq!(room(spoken(0, 0, 0), 50).signer, Some([2; 32]));
        assert_eq!(room(spoken(0, 0, 0), 51).signer, None);
    }
}
