//! `bench settlement`: what a batch weighs, by the receipts that it stands for.
//!
//! Lines and bytes are those of batches built here as a serving worker builds them. The weight is the
//! runtime's own account of each, asked of a node.

use super::args::SettlementBenchArgs;
use anyhow::{ensure, Context, Result};
use openledger_chain::{
    calls::{settlement::SubmitBatch, Call},
    AccountId, CallWeight, ChainClient,
};
use openledger_metering::{
    batching::{prepare, PreparedBatch},
    record::CreditLine,
    BatchLimits, ChainLane, DeliveredReceipt, LaneHead, SignedReceipt, SignedVoucher,
};
use openledger_primitives::{
    receipt::{BackendClass, CreditReason, Outcome, Receipt},
    voucher::{EvidenceClass, Voucher},
    Balance, LaneIndex, Signature, FORMAT_VERSION,
};
use serde::Serialize;
use std::fmt;

/// Receipts of the batches that are compared.
const RECEIPTS: [u32; 3] = [10, 1_000, 100_000];
/// Lanes of one channel that they are spread over, and revisions that they used: the same for all.
const LANES: u16 = 5;
const REVISIONS: u64 = 2;
/// Contributions that each answer credits.
const CREDITS: u64 = 3;

/// One batch.
#[derive(Debug, Serialize)]
struct Measured {
    receipts: u32,
    claims: usize,
    usage: usize,
    credits: usize,
    bytes: Option<u32>,
    ref_time: Option<u64>,
    proof_size: Option<u64>,
    fee: Option<String>,
}

/// All of them.
#[derive(Debug, Serialize)]
struct Batches(Vec<Measured>);

pub async fn run(args: SettlementBenchArgs) -> Result<()> {
    let node = match &args.chain {
        Some(url) => Some(ChainClient::connect(url).await?),
        None => None,
    };
    let batches = measure(node.as_ref()).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&batches)?);
    } else {
        print!("{batches}");
    }
    Ok(())
}

/// Builds the batches and asks `node` what they weigh.
async fn measure(node: Option<&ChainClient>) -> Result<Batches> {
    let mut measured = Vec::new();
    for receipts in RECEIPTS {
        let batch = batch(receipts).context("a batch of these receipts")?;
        let weight = match node {
            Some(client) => Some(client.call_weight(&call(&batch).encoded()).await?),
            None => None,
        };
        measured.push(Measured::new(receipts, &batch, weight));
    }
    let batches = Batches(measured);
    ensure!(
        batches.weigh_the_same(),
        "batches over the same lanes and revisions differ in weight: {batches}"
    );
    Ok(batches)
}

fn call(batch: &PreparedBatch) -> SubmitBatch {
    SubmitBatch {
        worker: AccountId([1; 32]),
        header: batch.header,
        claims: batch.claims.clone(),
        usage: batch.usage.clone(),
        credits: batch.credits.clone(),
    }
}

/// A batch of so many answers of one token at one OPEN per 1,000.
fn batch(receipts: u32) -> Option<PreparedBatch> {
    let mut heads = [LaneHead::default(); LANES as usize];
    let mut delivered = Vec::with_capacity(receipts as usize);
    for number in 0..receipts {
        let lane = number % u32::from(LANES);
        let head = heads.get_mut(lane as usize)?;
        let one = answer(
            lane as LaneIndex,
            head,
            u64::from(number / u32::from(LANES)),
        );
        *head = one.head();
        delivered.push(one);
    }
    delivered.sort_by_key(|one| (one.voucher.voucher.lane, one.voucher.voucher.sequence));
    let limits = BatchLimits {
        sequence: 1,
        parent: [0; 32],
        epoch: 0,
        now: 1,
        voucher_grace: 100,
        room: Balance::MAX,
        max_claims: u32::MAX,
    };
    let start = ChainLane {
        next_sequence: 1,
        cumulative: 0,
        deposit: Balance::MAX,
        signer: [0; 32],
        signer_room: Balance::MAX,
        claim_until: u32::MAX,
        cut_from: None,
    };
    prepare(
        &[1; 32],
        &limits,
        |_, _| Some(start),
        |_, _| u32::MAX,
        delivered.iter(),
    )
}

fn answer(lane: LaneIndex, head: &LaneHead, number: u64) -> DeliveredReceipt {
    const FEE: Balance = 1_000_000_000;
    let voucher = Voucher {
        version: FORMAT_VERSION,
        domain: [0; 32],
        channel: 0,
        lane,
        sequence: head.sequence.saturating_add(1),
        prev_receipt: head.receipt,
        prev_cum: head.cumulative,
        max_fee: FEE,
        revision: number % REVISIONS,
        terms: 0,
        agent: None,
        request_commit: [0; 32],
        chunk: 1,
        max_in: 0,
        max_out: 1,
        evidence: EvidenceClass::Open,
        expiry: 100,
    };
    let receipt = Receipt {
        version: FORMAT_VERSION,
        domain: voucher.domain,
        voucher: voucher.hash(),
        worker: [1; 32],
        key: 0,
        outcome: Outcome::Complete,
        tokens_in: 0,
        tokens_out: 1,
        fee: FEE,
        cum: head.cumulative.saturating_add(FEE),
        output_commit: [0; 32],
        fingerprint_root: [0; 32],
        attribution_root: [0; 32],
        retrieval_root: [0; 32],
        start_block: 1,
        first_token_ms: 0,
        total_ms: 0,
        backend: BackendClass::CpuF32,
    };
    // Signatures weigh the same whatever they say; these batches are weighed, not submitted.
    let unsigned = Signature([0; 64]);
    DeliveredReceipt {
        voucher: SignedVoucher {
            voucher,
            signature: unsigned,
        },
        receipt: SignedReceipt::sign(receipt, |_| unsigned),
        output_salt: [0; 32],
        credits: (0..CREDITS)
            .map(|contribution| CreditLine {
                contribution,
                reason: CreditReason::Span,
                amount: 1,
            })
            .collect(),
    }
}

impl Measured {
    fn new(receipts: u32, batch: &PreparedBatch, weight: Option<CallWeight>) -> Self {
        Measured {
            receipts,
            claims: batch.claims.len(),
            usage: batch.usage.len(),
            credits: batch.credits.len(),
            bytes: weight.map(|weight| weight.bytes),
            ref_time: weight.map(|weight| weight.ref_time),
            proof_size: weight.map(|weight| weight.proof_size),
            fee: weight.map(|weight| weight.fee.to_string()),
        }
    }
}

impl Batches {
    fn weigh_the_same(&self) -> bool {
        let what = |one: &Measured| {
            (
                (one.claims, one.usage, one.credits),
                (one.ref_time, one.proof_size),
            )
        };
        self.0.windows(2).all(|pair| match pair {
            [one, other] => what(one) == what(other),
            _ => true,
        })
    }
}

impl fmt::Display for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "batches over the same {LANES} lanes and {REVISIONS} revisions:"
        )?;
        for one in &self.0 {
            write!(
                f,
                "  {:>7} receipts: {} claims, {} usage lines, {} credits",
                one.receipts, one.claims, one.usage, one.credits
            )?;
            match (one.ref_time, one.bytes) {
                (Some(time), Some(bytes)) => {
                    writeln!(f, "; weight {:.3} ms, {bytes} bytes", time as f64 / 1e9)?;
                }
                _ => writeln!(f)?,
            }
        }
        if self.0.iter().all(|one| one.ref_time.is_none()) {
            writeln!(f, "  (give --chain URL to have a node weigh them)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_should_add_no_lines() {
        let lines = |receipts| {
            let batch = batch(receipts).unwrap();
            assert_eq!(batch.header.count, receipts);
            (batch.claims.len(), batch.usage.len(), batch.credits.len())
        };
        assert_eq!(lines(10), (5, 2, 6));
        assert_eq!(lines(1_000), (5, 2, 6));
    }
}
