//! Every call of the project's pallets has a measured weight, and a batch weighs what its lines weigh.

use frame_support::{dispatch::GetDispatchInfo, weights::Weight};
use openledger_primitives::{
    batch::{BatchHeader, Claim, Credit, Usage},
    receipt::CreditReason,
    voucher::{EvidenceClass, Voucher},
    Signature, FORMAT_VERSION,
};
use openledger_runtime::{AccountId, Runtime, RuntimeCall};
use std::{any::type_name, fs, path::Path};

type Bonds = pallet_bonds::Instance1;

/// What each receipt of a batch costs, planck.
const FEE: u128 = 1_000;

/// Name of the pallet's crate, the weights that the runtime takes, and the calls.
fn pallets() -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    use frame_support::traits::GetCallName;
    macro_rules! pallet {
        ($crate_name:ident $(, $instance:ty)?) => {
            (
                stringify!($crate_name),
                type_name::<<Runtime as $crate_name::Config $(<$instance>)?>::WeightInfo>(),
                $crate_name::Call::<Runtime $(, $instance)?>::get_call_names(),
            )
        };
    }
    vec![
        pallet!(pallet_protocol),
        pallet!(pallet_datanets),
        pallet!(pallet_models),
        pallet!(pallet_bonds, Bonds),
        pallet!(pallet_workers),
        pallet!(pallet_settlement),
        pallet!(pallet_payouts),
    ]
}

#[test]
fn every_call_has_a_measured_weight() {
    for (pallet, weights, calls) in pallets() {
        assert!(
            weights.starts_with(&format!("openledger_runtime::weights::{pallet}::")),
            "{pallet} takes its weights from {weights}"
        );
        let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
            .join(format!("src/weights/{pallet}.rs"));
        let file = fs::read_to_string(&path).expect("scripts/weights writes the file");
        for said in ["// Executed Command:", "//! DATE: ", "CPU: `"] {
            assert!(file.contains(said), "{pallet}: no `{said}`");
        }
        let number = |name: &str| -> u32 {
            let (_, rest) = file.split_once(&format!("{name}: `")).expect(name);
            rest.split('`').next().expect(name).parse().expect(name)
        };
        assert!(
            number("STEPS") >= 10 && number("REPEAT") >= 4,
            "{pallet}: too few points to be a measurement"
        );
        // Calls that set one group of parameters each share a benchmark.
        let shared = |call: &str| pallet == "pallet_protocol" && call.starts_with("set_");
        for call in calls {
            let name = if shared(call) { "set" } else { call };
            let (_, body) = file
                .split_once(&format!("fn {name}("))
                .unwrap_or_else(|| panic!("{pallet}: {call} has no benchmark"));
            let (_, time) = body
                .split_once("Minimum execution time: ")
                .unwrap_or_else(|| panic!("{pallet}: {call} was not measured"));
            let time: String = time.chars().take_while(|c| *c != ' ').collect();
            let picoseconds: u64 = time.replace('_', "").parse().expect("picoseconds");
            assert!(picoseconds > 1_000_000, "{pallet}: {call} measured nothing");
        }
    }
}

/// A batch of `receipts` over eight lanes of one channel, two revisions and `credits` contributions.
fn batch(receipts: u32, credits: u64) -> RuntimeCall {
    let on_lane = |lane: u16| receipts / 8 + u32::from(u32::from(lane) < receipts % 8);
    let voucher = |lane: u16| Voucher {
        version: FORMAT_VERSION,
        domain: [1; 32],
        channel: 0,
        lane,
        sequence: u64::from(on_lane(lane)),
        prev_receipt: [2; 32],
        prev_cum: 0,
        max_fee: 1,
        revision: 1,
        terms: 0,
        agent: None,
        request_commit: [3; 32],
        chunk: 256,
        max_in: 1,
        max_out: 1,
        evidence: EvidenceClass::Open,
        expiry: 100,
    };
    let claim = |lane: u16| Claim {
        channel: 0,
        lane,
        sequence_to: u64::from(on_lane(lane)),
        cumulative: u128::from(on_lane(lane)) * FEE,
        voucher: voucher(lane),
        signature: Signature([4; 64]),
        subroot: [5; 32],
        count: on_lane(lane),
    };
    let usage = |revision: u64| Usage {
        revision,
        terms: 0,
        fee: u128::from(receipts / 2) * FEE,
        tokens_in: u64::from(receipts / 2),
        tokens_out: u64::from(receipts / 2),
        count: receipts / 2,
        subroot: [6; 32],
    };
    let credit = |contribution: u64| Credit {
        revision: 1,
        contribution,
        amount: u128::from(receipts),
        reason: CreditReason::Span,
        subroot: [7; 32],
        count: receipts / 2,
    };
    RuntimeCall::Settlement(pallet_settlement::Call::submit_batch {
        worker: AccountId::from([7; 32]),
        header: BatchHeader {
            version: FORMAT_VERSION,
            sequence: 1,
            parent: [0; 32],
            epoch: 0,
            fee: u128::from(receipts) * FEE,
            count: receipts,
        },
        claims: (0..8)
            .map(claim)
            .collect::<Vec<_>>()
            .try_into()
            .expect("few"),
        usage: vec![usage(1), usage(2)].try_into().expect("few"),
        credits: (0..credits)
            .map(credit)
            .collect::<Vec<_>>()
            .try_into()
            .expect("few"),
    })
}

fn weight(call: &RuntimeCall) -> Weight {
    call.get_dispatch_info().call_weight
}

#[test]
fn a_batch_weighs_the_same_whatever_it_stands_for() {
    let few = weight(&batch(10, 3));
    assert_eq!(few, weight(&batch(1_000, 3)));
    assert_eq!(few, weight(&batch(100_000, 3)));
    // And not because it weighed nothing: a contribution more is a credit more, and a lane more is a
    // claim more.
    assert!(weight(&batch(10, 4)).ref_time() > few.ref_time());
    let RuntimeCall::Settlement(pallet_settlement::Call::submit_batch {
        worker,
        header,
        claims,
        usage,
        credits,
    }) = batch(1_000, 3)
    else {
        unreachable!("a batch is a batch")
    };
    let mut fewer = claims.into_inner();
    fewer.pop();
    let lighter = RuntimeCall::Settlement(pallet_settlement::Call::submit_batch {
        worker,
        header,
        claims: fewer.try_into().expect("few"),
        usage,
        credits,
    });
    assert!(weight(&lighter).ref_time() < few.ref_time());
}

/// Two usage lines and 62 credits fill a page; the next credit is written to another.
#[test]
fn a_batch_weighs_the_pages_that_its_lines_fill() {
    let of = |credits| weight(&batch(1_000, credits)).ref_time();
    let one_write = <Runtime as frame_system::Config>::DbWeight::get().writes(1);
    let (within, beyond) = (of(62) - of(61), of(63) - of(62));
    assert_eq!(beyond - within, one_write.ref_time());
}
