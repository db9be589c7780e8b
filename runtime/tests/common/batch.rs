//! Batches that an honest worker makes of answers, with vouchers that honest consumers signed; for
//! tests to corrupt.

use super::account;
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
use openledger_runtime::{Models, Runtime, RuntimeCall, Settlement, System};
use pallet_settlement::Lanes;
use sp_core::{sr25519, Pair};
use sp_keyring::Sr25519Keyring;
use std::collections::BTreeMap;

/// Signers of vouchers are numbered from 1.
pub const SIGNERS: u8 = 9;

/// A signer's key pair.
pub fn pair(number: u8) -> sr25519::Pair {
    sr25519::Pair::from_seed(&[number; 32])
}

/// Its public key.
pub fn key(number: u8) -> PublicKey {
    pair(number).public().0
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
    /// An answer on lane 0 at terms 0 that credits nobody.
    pub fn new(channel: ChannelId, revision: RevisionId, tokens: (u32, u32)) -> Self {
        Answer {
            channel,
            lane: 0,
            revision,
            terms: 0,
            tokens_in: tokens.0,
            tokens_out: tokens.1,
            credits: vec![],
        }
    }

    /// The same on another lane.
    pub fn on(self, lane: LaneIndex) -> Self {
        Answer { lane, ..self }
    }

    /// The same with credits.
    pub fn crediting(self, credits: &[(ContributionId, Balance)]) -> Self {
        Answer {
            credits: credits.to_vec(),
            ..self
        }
    }

    /// What it costs by the terms on chain.
    pub fn fee(&self) -> Balance {
        let model = pallet_models::Revisions::<Runtime>::get(self.revision)
            .expect("the revision is known")
            .model;
        let terms = Models::terms_at(model, self.terms).expect("the terms are known");
        let (tokens_in, tokens_out) = (self.tokens_in, self.tokens_out);
        receipt_fee(tokens_in, tokens_out, terms.price_in, terms.price_out).expect("affordable")
    }
}

/// The arguments of `submit_batch`.
#[derive(Clone, Debug)]
pub struct Submission {
    pub worker: Sr25519Keyring,
    pub header: BatchHeader,
    pub claims: Vec<Claim>,
    pub usage: Vec<Usage>,
    pub credits: Vec<Credit>,
}

impl Submission {
    /// The call that submits it.
    pub fn call(&self) -> RuntimeCall {
        RuntimeCall::Settlement(pallet_settlement::Call::submit_batch {
            worker: account(self.worker),
            header: self.header,
            claims: self.claims.clone().try_into().expect("few"),
            usage: self.usage.clone().try_into().expect("few"),
            credits: self.credits.clone().try_into().expect("few"),
        })
    }

    /// Changes the first claim's voucher and has the lane's signer sign the result.
    pub fn resign(&mut self, change: impl FnOnce(&mut Voucher)) {
        change(&mut self.claims[0].voucher);
        let settled = Lanes::<Runtime>::get(self.claims[0].channel, self.claims[0].lane);
        sign(
            &mut self.claims[0],
            number_of(&settled.expect("the lane exists").signer),
        );
    }
}

/// Signs a claim's voucher.
pub fn sign(claim: &mut Claim, number: u8) {
    let [raw, _] = signing_payloads(&claim.voucher.hash());
    claim.signature = Signature(pair(number).sign(&raw).0);
}

/// What one revision earned at one entry of its terms, as it is being summed up.
#[derive(Default)]
struct Sum {
    fee: Balance,
    tokens_in: u64,
    tokens_out: u64,
    nodes: Vec<SumNode>,
}

/// The batch that an honest worker makes of answers, in the state of the chain.
pub fn batch(worker: Sr25519Keyring, answers: &[Answer]) -> Submission {
    let mut lanes = BTreeMap::<_, Vec<(&Answer, ReceiptLeaf)>>::new();
    for (index, answer) in answers.iter().enumerate() {
        let settled = Lanes::<Runtime>::get(answer.channel, answer.lane).expect("the lane exists");
        let on_lane = lanes.entry((answer.channel, answer.lane)).or_default();
        on_lane.push((
            answer,
            ReceiptLeaf {
                channel: answer.channel,
                lane: answer.lane,
                sequence: settled.next_sequence + on_lane.len() as u64,
                receipt: [index as u8; 32],
                fee: answer.fee(),
            },
        ));
    }
    let claims = lanes.values().map(|on_lane| claim(on_lane)).collect();
    let mut sums = BTreeMap::<_, Sum>::new();
    let mut credited = BTreeMap::<_, Vec<SumNode>>::new();
    for (answer, leaf) in lanes.values().flatten() {
        let sum = sums.entry((answer.revision, answer.terms)).or_default();
        sum.fee += leaf.fee;
        sum.tokens_in += u64::from(answer.tokens_in);
        sum.tokens_out += u64::from(answer.tokens_out);
        sum.nodes.push(leaf.node());
        for (contribution, amount) in answer.credits.iter().filter(|(_, amount)| *amount > 0) {
            let nodes = credited.entry((answer.revision, *contribution));
            nodes.or_default().push(leaf.credit_node(*amount));
        }
    }
    let (sequence, parent) = Settlement::next_batch(&account(worker));
    Submission {
        worker,
        header: BatchHeader {
            version: FORMAT_VERSION,
            sequence,
            parent,
            epoch: pallet_babe::EpochIndex::<Runtime>::get(),
            fee: sums.values().map(|sum| sum.fee).sum(),
            count: answers.len() as u32,
        },
        claims,
        usage: sums.into_iter().map(usage).collect(),
        credits: credited.into_iter().map(credit).collect(),
    }
}

/// The claim of a lane's answers, by the voucher of the last.
fn claim(on_lane: &[(&Answer, ReceiptLeaf)]) -> Claim {
    let (answer, leaf) = on_lane.last().expect("a lane that answered");
    let settled = Lanes::<Runtime>::get(leaf.channel, leaf.lane).expect("the lane exists");
    let nodes: Vec<_> = on_lane.iter().map(|(_, leaf)| leaf.node()).collect();
    let root = sum_tree::root(&nodes).expect("fees that exist");
    let cumulative = settled.cumulative + root.sum;
    let mut claim = Claim {
        channel: leaf.channel,
        lane: leaf.lane,
        sequence_to: leaf.sequence,
        cumulative,
        voucher: Voucher {
            version: FORMAT_VERSION,
            domain: Settlement::signing_domain(),
            channel: leaf.channel,
            lane: leaf.lane,
            sequence: leaf.sequence,
            prev_receipt: [9; 32],
            prev_cum: cumulative - leaf.fee,
            max_fee: leaf.fee,
            revision: answer.revision,
            terms: answer.terms,
            agent: None,
            request_commit: [8; 32],
            chunk: 256,
            max_in: 4_096,
            max_out: 4_096,
            evidence: EvidenceClass::Open,
            expiry: System::block_number() + 5,
        },
        signature: Signature([0; 64]),
        subroot: root.hash,
        count: on_lane.len() as u32,
    };
    sign(&mut claim, number_of(&settled.signer));
    claim
}

fn usage(((revision, terms), sum): ((RevisionId, TermsIndex), Sum)) -> Usage {
    Usage {
        revision,
        terms,
        fee: sum.fee,
        tokens_in: sum.tokens_in,
        tokens_out: sum.tokens_out,
        count: sum.nodes.len() as u32,
        subroot: sum_tree::root(&sum.nodes).expect("fees that exist").hash,
    }
}

fn credit(
    ((revision, contribution), nodes): ((RevisionId, ContributionId), Vec<SumNode>),
) -> Credit {
    let root = sum_tree::root(&nodes).expect("amounts that exist");
    Credit {
        revision,
        contribution,
        amount: root.sum,
        reason: CreditReason::Span,
        subroot: root.hash,
        count: nodes.len() as u32,
    }
}

fn number_of(signer: &PublicKey) -> u8 {
    (1..=SIGNERS)
        .find(|number| key(*number) == *signer)
        .expect("one of the signers")
}
