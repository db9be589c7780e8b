//! Every call of the project's pallets has a measured weight, and a batch weighs what its lines weigh.

use frame_support::dispatch::GetDispatchInfo;
use openledger_primitives::{
    batch::{BatchHeader, Claim, Usage},
    voucher::{EvidenceClass, Voucher},
    Signature, FORMAT_VERSION,
};
use openledger_runtime::{AccountId, Runtime, RuntimeCall};
use std::{any::type_name, fs, path::Path};

type Bonds = pallet_bonds::Instance1;

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

/// A batch of `receipts` over eight lanes of one channel and two revisions.
fn batch(receipts: u32) -> RuntimeCall {
    let voucher = |lane: u16| Voucher {
        version: FORMAT_VERSION,
        domain: [1; 32],
        channel: 0,
        lane,
        sequence: u64::from(receipts / 8),
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
        sequence_to: u64::from(receipts / 8),
        cumulative: u128::from(receipts),
        voucher: voucher(lane),
        signature: Signature([4; 64]),
        subroot: [5; 32],
        count: receipts / 8,
    };
    let usage = |revision: u64| Usage {
        revision,
        terms: 0,
        fee: u128::from(receipts),
        tokens_in: u64::from(receipts),
        tokens_out: u64::from(receipts),
        count: receipts / 2,
        subroot: [6; 32],
    };
    RuntimeCall::Settlement(pallet_settlement::Call::submit_batch {
        worker: AccountId::from([7; 32]),
        header: BatchHeader {
            version: FORMAT_VERSION,
            sequence: 1,
            parent: [0; 32],
            epoch: 0,
            fee: u128::from(receipts),
            count: receipts,
        },
        claims: (0..8)
            .map(claim)
            .collect::<Vec<_>>()
            .try_into()
            .expect("few"),
        usage: vec![usage(1), usage(2)].try_into().expect("few"),
        credits: Default::default(),
    })
}

#[test]
fn a_batch_weighs_the_same_whatever_it_stands_for() {
    let weight = |receipts| batch(receipts).get_dispatch_info().call_weight;
    let few = weight(16);
    assert_eq!(few, weight(1_000));
    assert_eq!(few, weight(100_000));
    // And not because it weighed nothing: one lane more is one claim more.
    let RuntimeCall::Settlement(pallet_settlement::Call::submit_batch {
        worker,
        header,
        claims,
        usage,
        credits,
    }) = batch(1_000)
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
    assert!(lighter.get_dispatch_info().call_weight.ref_time() < few.ref_time());
}
