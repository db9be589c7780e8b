//! An honest worker and honest consumers, for tests to corrupt.

use crate::{mock::*, Channels, Lanes};
use frame_support::dispatch::DispatchResult;
use openledger_economics::receipt_fee;
use openledger_primitives::{
    batch::{BatchHeader, Claim, Credit, Usage},
    crypto::signing_payloads,
    receipt::{CreditReason, ReceiptLeaf},
    sum_tree::{self, SumNode},
    voucher::{EvidenceClass, Voucher},
    Balance, ChannelId, ContributionId, LaneIndex, PublicKey, RevisionId, Signature, TermsIndex,
    FORMAT_VERSION,
};
use sp_core::{sr25519, Pair};
use sp_runtime::AccountId32;
use std::collections::BTreeMap;

/// A signer's key pair, by number.
pub fn pair(number: u8) -> sr25519::Pair {
    sr25519::Pair::from_seed(&[number; 32])
}

/// Its public key.
pub fn key(number: u8) -> PublicKey {
    pair(number).public().0
}

/// Opens a channel from `consumer` to [`WORKER`] with signer 1, without limits.
pub fn open(consumer: AccountId32, deposit: Balance, lanes: LaneIndex) -> ChannelId {
    let id = crate::NextChannel::<Test>::get();
    Settlement::open_channel(
        RuntimeOrigin::signed(consumer),
        WORKER,
        deposit,
        lanes,
        key(1),
        Balance::MAX,
        u32::MAX,
        EvidenceClass::Open,
    )
    .unwrap();
    id
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub channel: ChannelId,
    pub lane: LaneIndex,
    pub revision: RevisionId,
    pub terms: TermsIndex,
    pub tokens_in: u32,
    pub tokens_out: u32,
    pub credits: Vec<(ContributionId, Balance)>,
}

impl Answer {
    /// What it costs.
    pub fn fee(&self) -> Balance {
        let factor = Balance::from(self.terms + 1);
        receipt_fee(
            self.tokens_in,
            self.tokens_out,
            factor * PRICE_IN,
            factor * PRICE_OUT,
        )
        .unwrap()
    }
}

/// An answer of the adapter on lane 0: 100 tokens in, 450 out, which costs one OPEN.
pub fn answer(channel: ChannelId) -> Answer {
    Answer {
        channel,
        lane: 0,
        revision: ADAPTER,
        terms: 0,
        tokens_in: 100,
        tokens_out: 450,
        credits: vec![],
    }
}

/// The arguments of `submit_batch`.
#[derive(Clone, Debug)]
pub struct Submission {
    pub header: BatchHeader,
    pub claims: Vec<Claim>,
    pub usage: Vec<Usage>,
    pub credits: Vec<Credit>,
}

/// The voucher of a claim of `channel`, valid in every respect.
pub fn voucher(channel: ChannelId, lane: LaneIndex) -> Voucher {
    Voucher {
        version: FORMAT_VERSION,
        domain: Settlement::signing_domain(),
        channel,
        lane,
        sequence: 1,
        prev_receipt: [9; 32],
        prev_cum: 0,
        max_fee: 0,
        revision: ADAPTER,
        terms: 0,
        agent: None,
        request_commit: [8; 32],
        chunk: 256,
        max_in: 4_096,
        max_out: 4_096,
        evidence: EvidenceClass::Open,
        expiry: System::block_number() as u32 + 5,
    }
}

/// Signs a claim's voucher with a key.
pub fn sign(claim: &mut Claim, number: u8) {
    let [raw, _] = signing_payloads(&claim.voucher.hash());
    claim.signature = Signature(pair(number).sign(&raw).0);
}

/// The batch that an honest [`WORKER`] makes of answers, in the state of the chain.
pub fn batch(answers: &[Answer]) -> Submission {
    let mut lanes = BTreeMap::<_, Vec<(&Answer, SumNode, ReceiptLeaf)>>::new();
    for (index, answer) in answers.iter().enumerate() {
        let settled = Lanes::<Test>::get(answer.channel, answer.lane).unwrap();
        let on_lane = lanes.entry((answer.channel, answer.lane)).or_default();
        let leaf = ReceiptLeaf {
            channel: answer.channel,
            lane: answer.lane,
            sequence: settled.next_sequence + on_lane.len() as u64,
            receipt: [index as u8; 32],
            fee: answer.fee(),
        };
        on_lane.push((answer, leaf.node(), leaf));
    }
    let mut claims = Vec::new();
    let mut usage = BTreeMap::<_, (Balance, u64, u64, Vec<SumNode>)>::new();
    let mut credits = BTreeMap::<_, Vec<SumNode>>::new();
    for ((channel, lane), on_lane) in &lanes {
        let settled = Lanes::<Test>::get(channel, lane).unwrap();
        let nodes: Vec<_> = on_lane.iter().map(|(_, node, _)| *node).collect();
        let root = sum_tree::root(&nodes).unwrap();
        let (last, _, leaf) = on_lane.last().unwrap();
        let cumulative = settled.cumulative + root.sum;
        let mut claim = Claim {
            channel: *channel,
            lane: *lane,
            sequence_to: leaf.sequence,
            cumulative,
            voucher: Voucher {
                sequence: leaf.sequence,
                prev_cum: cumulative - leaf.fee,
                max_fee: leaf.fee,
                revision: last.revision,
                terms: last.terms,
                ..voucher(*channel, *lane)
            },
            signature: Signature([0; 64]),
            subroot: root.hash,
            count: on_lane.len() as u32,
        };
        let number = (1..=9)
            .find(|number| key(*number) == settled.signer)
            .unwrap();
        sign(&mut claim, number);
        claims.push(claim);
        for (answer, node, leaf) in on_lane {
            let line = usage.entry((answer.revision, answer.terms)).or_default();
            line.0 += leaf.fee;
            line.1 += u64::from(answer.tokens_in);
            line.2 += u64::from(answer.tokens_out);
            line.3.push(*node);
            for (contribution, amount) in &answer.credits {
                credits
                    .entry((answer.revision, *contribution))
                    .or_default()
                    .push(leaf.credit_node(*amount));
            }
        }
    }
    let usage: Vec<_> = usage
        .into_iter()
        .map(
            |((revision, terms), (fee, tokens_in, tokens_out, nodes))| Usage {
                revision,
                terms,
                fee,
                tokens_in,
                tokens_out,
                count: nodes.len() as u32,
                subroot: sum_tree::root(&nodes).unwrap().hash,
            },
        )
        .collect();
    let credits = credits
        .into_iter()
        .map(|((revision, contribution), nodes)| {
            let root = sum_tree::root(&nodes).unwrap();
            Credit {
                revision,
                contribution,
                amount: root.sum,
                reason: CreditReason::Span,
                subroot: root.hash,
                count: nodes.len() as u32,
            }
        })
        .collect();
    let (sequence, parent) = Settlement::next_batch(&WORKER);
    Submission {
        header: BatchHeader {
            version: FORMAT_VERSION,
            sequence,
            parent,
            epoch: <Epoch as frame_support::traits::Get<u64>>::get(),
            fee: usage.iter().map(|line| line.fee).sum(),
            count: answers.len() as u32,
        },
        claims,
        usage,
        credits,
    }
}

/// Submits with the worker's service key.
pub fn submit(batch: &Submission) -> DispatchResult {
    submit_as(WORKER_KEY, batch)
}

/// Submits for [`WORKER`] as another account.
pub fn submit_as(caller: AccountId32, batch: &Submission) -> DispatchResult {
    Settlement::submit_batch(
        RuntimeOrigin::signed(caller),
        WORKER,
        batch.header,
        batch.claims.clone().try_into().unwrap(),
        batch.usage.clone().try_into().unwrap(),
        batch.credits.clone().try_into().unwrap(),
    )
}

/// Asserts that a batch is refused for `error`, and that nothing at all has changed.
#[track_caller]
pub fn refused(batch: &Submission, error: crate::Error<Test>) {
    frame_support::assert_noop!(submit(batch), error);
}

/// Settles every page of a batch of [`WORKER`].
pub fn settle(sequence: u64) {
    while Settlement::settle_page(RuntimeOrigin::signed(BOB), WORKER, sequence).is_ok() {}
}

/// What is left of a channel's deposit.
pub fn deposit_of(channel: ChannelId) -> Balance {
    Channels::<Test>::get(channel).unwrap().deposit
}
