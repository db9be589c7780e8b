//! Which receipts the gateway acknowledges. Receipts are made as a worker makes them, by
//! `openledger-metering`, and then bent.

use openledger_chain::Key;
use openledger_gateway::{
    check::{check, check_undelivered, Delivery, Rejection, Signer},
    lanes::{adopt, release, settle, Breakage, Came, LaneState, Owed, Pending, Reconciled},
    upstream::LaneReport,
    voucher::{voucher, Order, Position, Terms},
};
use openledger_metering::{Charge, ReceiptFault, SignedReceipt, SignedVoucher};
use openledger_primitives::{
    receipt::{
        attribution_root, output_commit, Attribution, BackendClass, CreditReason, Outcome, Receipt,
    },
    voucher::EvidenceClass,
    FORMAT_VERSION,
};

const WORKER: [u8; 32] = [7; 32];
const SALT: [u8; 32] = [3; 32];
const TEXT: &str = "Ilse Marn built it in 1874.";
const TOKENS_OUT: u32 = 9;
const TERMS: Terms = Terms {
    index: 2,
    price_in: 1_500,
    price_out: 40_000,
};
const POSITION: Position = Position {
    sequence: 4,
    receipt: [4; 32],
    cumulative: 1_000,
};

fn own() -> Key {
    Key::from_uri("//Consumer").unwrap()
}

fn service() -> Key {
    Key::from_uri("//Service").unwrap()
}

fn signer() -> Signer {
    Signer {
        worker: WORKER,
        key: Some(service().public()),
    }
}

fn pending() -> Pending {
    pending_of(64)
}

/// A voucher of as many output tokens as there can be.
fn long() -> Pending {
    pending_of(256)
}

fn pending_of(max_out: u32) -> Pending {
    let voucher = voucher(
        &POSITION,
        &Order {
            domain: [1; 32],
            channel: 8,
            lane: 1,
            revision: 5,
            terms: TERMS,
            tokens_in: 21,
            max_out,
            evidence: EvidenceClass::Open,
            expiry: 100,
            body: b"{}",
            salt: [9; 32],
        },
    )
    .unwrap();
    Pending {
        voucher,
        signature: own().sign_hash(&voucher.hash()),
        terms: TERMS,
        tokens_in: 21,
        owed: Owed::Signed,
    }
}

fn attributions() -> Vec<Attribution> {
    vec![
        Attribution {
            contribution: 3,
            ppm: 700_000,
            reason: CreditReason::Span,
        },
        Attribution {
            contribution: 9,
            ppm: 100_000,
            reason: CreditReason::Span,
        },
    ]
}

fn honest(outcome: Outcome) -> Receipt {
    let pending = pending();
    let charge = Charge::of(outcome, 21, 11, TOKENS_OUT, TERMS.price_in, TERMS.price_out).unwrap();
    Receipt {
        version: FORMAT_VERSION,
        domain: [1; 32],
        voucher: pending.voucher.hash(),
        worker: WORKER,
        key: 0,
        outcome,
        tokens_in: charge.tokens_in,
        tokens_out: charge.tokens_out,
        fee: charge.fee,
        cum: POSITION.cumulative + charge.fee,
        output_commit: output_commit(&SALT, TEXT.as_bytes()),
        fingerprint_root: [0; 32],
        attribution_root: attribution_root(&attributions()),
        retrieval_root: [0; 32],
        start_block: 1,
        first_token_ms: 1,
        total_ms: 2,
        backend: BackendClass::CpuF32,
    }
}

fn signed(receipt: Receipt) -> SignedReceipt {
    SignedReceipt::sign(receipt, |hash| service().sign_hash(hash))
}

fn verdict(receipt: Receipt) -> Result<(), Rejection> {
    check(
        &signed(receipt),
        &pending(),
        &signer(),
        &Delivery {
            text: TEXT,
            tokens_out: TOKENS_OUT,
            salt: SALT,
            attributions: &attributions(),
        },
    )
}

#[test]
fn an_honest_receipt_is_acknowledged() {
    assert_eq!(verdict(honest(Outcome::Complete)), Ok(()));
    assert_eq!(verdict(honest(Outcome::Length)), Ok(()));
    // Charging less than was delivered is the worker's business, at the right price.
    let mut generous = honest(Outcome::Complete);
    generous.tokens_out -= 1;
    generous.fee = TERMS.fee(21, generous.tokens_out).unwrap();
    generous.cum = POSITION.cumulative + generous.fee;
    assert_eq!(verdict(generous), Ok(()));
}

/// A change to an honest receipt, and the code under which it is refused.
type Bend = (fn(&mut Receipt), &'static str);

#[test]
fn a_receipt_that_does_not_follow_is_refused_by_name() {
    let bends: [Bend; 10] = [
        (|r| r.version = 9, "receipt_domain"),
        (|r| r.domain = [2; 32], "receipt_domain"),
        (|r| r.voucher = [2; 32], "receipt_voucher"),
        (|r| r.worker = [2; 32], "receipt_worker"),
        (|r| r.tokens_in += 1, "receipt_tokens_in"),
        (|r| r.tokens_out += 1, "receipt_tokens_out"),
        (|r| r.fee += 1, "receipt_fee"),
        (|r| r.cum += 1, "receipt_cumulative"),
        (|r| r.output_commit = [2; 32], "receipt_output"),
        (|r| r.attribution_root = [2; 32], "receipt_attribution"),
    ];
    for (bend, code) in bends {
        let mut receipt = honest(Outcome::Complete);
        bend(&mut receipt);
        assert_eq!(verdict(receipt).unwrap_err().code(), code);
    }
}

#[test]
fn a_token_more_at_its_right_price_is_still_refused() {
    // token_inflate: tokens, fee and sum agree with one another and not with the text.
    let mut receipt = honest(Outcome::Complete);
    receipt.tokens_out += 1;
    receipt.fee = TERMS.fee(receipt.tokens_in, receipt.tokens_out).unwrap();
    receipt.cum = POSITION.cumulative + receipt.fee;
    assert_eq!(
        verdict(receipt),
        Err(Rejection::Fault(ReceiptFault::TokensOut {
            charged: TOKENS_OUT + 1,
            counted: TOKENS_OUT
        }))
    );
}

#[test]
fn only_the_workers_key_in_force_counts() {
    let receipt = honest(Outcome::Complete);
    let delivery = Delivery {
        text: TEXT,
        tokens_out: TOKENS_OUT,
        salt: SALT,
        attributions: &attributions(),
    };
    let other = SignedReceipt::sign(receipt, |hash| own().sign_hash(hash));
    assert_eq!(
        check(&other, &pending(), &signer(), &delivery)
            .unwrap_err()
            .code(),
        "receipt_signature"
    );
    let gone = Signer {
        key: None,
        ..signer()
    };
    assert_eq!(
        check(&signed(receipt), &pending(), &gone, &delivery),
        Err(Rejection::Key(0))
    );
}

#[test]
fn a_failure_is_acknowledged_when_it_charges_nothing() {
    let mut failed = honest(Outcome::Failed);
    failed.output_commit = output_commit(&SALT, b"");
    failed.attribution_root = [0; 32];
    assert_eq!(verdict(failed), Ok(()));
    failed.fee = 1;
    failed.cum += 1;
    assert_eq!(verdict(failed), Err(Rejection::FailureCharged(1)));
}

#[test]
fn an_answer_that_the_worker_cancels_of_itself_is_no_whole_one() {
    let account = |outcome, is_excused| {
        let receipt = honest(outcome);
        let came = Came::received(outcome, TOKENS_OUT, &pending(), is_excused);
        Breakage::default().after(&receipt, &came).unwrap()
    };
    let (prompt, text) = (TERMS.fee(21, 0).unwrap(), TERMS.fee(0, TOKENS_OUT).unwrap());
    assert!(prompt > 0 && text > 0);
    // The text came and is paid; the prompt earns the worker nothing more to lose.
    let cancelled = account(Outcome::Cancelled, false);
    assert_eq!(cancelled.delivered.fee, text);
    assert!((1..=prompt + 1).contains(&cancelled.lost.fee));
    assert_eq!(cancelled.answers, 1);
    assert_eq!(account(Outcome::Complete, false).answers, 0);
    // What the request may have done is nobody's merit and nobody's fault.
    assert_eq!(account(Outcome::Cancelled, true), Breakage::default());

    // So a worker that only ever takes prompts is stopped after the answers that are put up with.
    let mut receipt = honest(Outcome::Cancelled);
    receipt.tokens_out = 0;
    receipt.fee = prompt;
    let came = Came::received(Outcome::Cancelled, 0, &pending(), false);
    let mut account = Breakage::default();
    let mut taken = 0;
    while let Ok(after) = account.after(&receipt, &came) {
        (account, taken) = (after, taken + 1);
        assert!(taken < 10_000, "it never ends");
    }
    assert!(taken >= 8);
}

fn report(receipt: Receipt) -> LaneReport {
    let pending = pending();
    LaneReport {
        sequence: pending.voucher.sequence,
        cumulative: receipt.cum,
        in_flight: false,
        voucher: Some(SignedVoucher {
            voucher: pending.voucher,
            signature: pending.signature,
        }),
        receipt: Some(signed(receipt)),
    }
}

#[test]
fn a_request_broken_off_is_settled_by_the_workers_report() {
    let receipt = self::honest(Outcome::Cancelled);
    let honest = report(receipt);
    let accepted = honest.receipt.map(Box::new).map(Reconciled::Accepted);
    assert_eq!(
        Some(settle(&POSITION, &pending(), &honest, &signer())),
        accepted
    );
    let unused = LaneReport {
        sequence: POSITION.sequence,
        cumulative: POSITION.cumulative,
        in_flight: false,
        voucher: None,
        receipt: None,
    };
    assert_eq!(
        settle(&POSITION, &pending(), &unused, &signer()),
        Reconciled::Unused
    );
    // More than the voucher covers, or a lane that is elsewhere: parked, not paid.
    let mut greedy = receipt;
    greedy.tokens_out = 65;
    greedy.fee = TERMS.fee(21, 65).unwrap();
    greedy.cum = POSITION.cumulative + greedy.fee;
    for report in [
        report(greedy),
        LaneReport {
            sequence: POSITION.sequence + 2,
            ..report(receipt)
        },
    ] {
        assert!(matches!(
            settle(&POSITION, &pending(), &report, &signer()),
            Reconciled::Parked(_)
        ));
    }
}

#[test]
fn what_was_not_received_is_not_paid_without_bound() {
    let receipt = signed(honest(Outcome::Cancelled));
    assert_eq!(
        check_undelivered(&receipt, &pending(), &signer(), 9),
        Ok(())
    );
    assert!(check_undelivered(&receipt, &pending(), &signer(), 8).is_err());
}

#[test]
fn a_lane_is_taken_over_only_when_the_worker_proves_it() {
    let receipt = honest(Outcome::Complete);
    let adopted = |settled, report: &LaneReport, key: &Key| {
        adopt(8, 1, settled, report, &key.public(), &signer())
    };
    let good = report(receipt);
    assert_eq!(
        adopted((0, 0), &good, &own()),
        Ok(LaneState {
            position: Position {
                sequence: 5,
                receipt: receipt.hash(),
                cumulative: receipt.cum
            },
            pending: None,
            parked: None
        })
    );
    // A voucher by another key, a receipt by another worker, a lane older than the chain's.
    assert!(adopted((0, 0), &good, &service()).is_err());
    let mut forged = good.clone();
    forged.receipt = Some(SignedReceipt::sign(receipt, |hash| own().sign_hash(hash)));
    assert!(adopted((0, 0), &forged, &own()).is_err());
    assert!(adopted((6, 0), &good, &own()).is_err());
    assert!(adopted((5, receipt.cum + 1), &good, &own()).is_err());
    let nothing = LaneReport {
        sequence: 0,
        cumulative: 0,
        in_flight: false,
        voucher: None,
        receipt: None,
    };
    assert_eq!(adopted((0, 0), &nothing, &own()), Ok(LaneState::default()));
    assert!(adopted((3, 10), &nothing, &own()).is_err());
}

/// A voucher in doubt under which so much may be charged.
fn owing(owed: Owed) -> Pending {
    Pending { owed, ..pending() }
}

fn settled(owed: Owed, report: &LaneReport) -> Reconciled {
    settle(&POSITION, &owing(owed), report, &signer())
}

#[test]
fn a_refused_request_that_is_charged_all_the_same_parks_the_lane() {
    // bill_without_delivery: the worker keeps the voucher, answers with an error, and shows its own
    // receipt of all that the voucher covers.
    let charge = TERMS.fee(21, 64).unwrap();
    let mut receipt = honest(Outcome::Complete);
    receipt.tokens_out = 64;
    receipt.fee = charge;
    receipt.cum = POSITION.cumulative + charge;
    assert!(matches!(
        settled(Owed::Nothing, &report(receipt)),
        Reconciled::Parked(reason) if reason.contains("did not answer")
    ));
    // Nor the prompt alone.
    receipt.tokens_out = 0;
    receipt.fee = TERMS.fee(21, 0).unwrap();
    receipt.cum = POSITION.cumulative + receipt.fee;
    assert!(matches!(
        settled(Owed::Nothing, &report(receipt)),
        Reconciled::Parked(_)
    ));
    // A failure that charges nothing keeps the sequence going.
    let failed = report(honest(Outcome::Failed));
    assert!(matches!(
        settled(Owed::Nothing, &failed),
        Reconciled::Accepted(_)
    ));
}

#[test]
fn a_broken_off_answer_is_charged_for_what_could_have_come() {
    let receipt = report(honest(Outcome::Cancelled));
    for (owed, accepted) in [
        (Owed::Signed, true),
        (Owed::AtMost(TOKENS_OUT), true),
        (Owed::AtMost(TOKENS_OUT - 1), false),
        // What was under way is the worker's as far as its account allows.
        (Owed::Broken(0), true),
        // The whole chunk, however much was under way when the client left.
        (Owed::AtMost(64), true),
    ] {
        let settled = settled(owed, &receipt);
        assert_eq!(
            matches!(settled, Reconciled::Accepted(_)),
            accepted,
            "{owed:?}: {settled:?}"
        );
    }
}

#[test]
fn no_more_than_128_tokens_are_under_way_when_an_answer_breaks_off() {
    let charging = |tokens_out| {
        let mut receipt = honest(Outcome::Cancelled);
        receipt.voucher = long().voucher.hash();
        receipt.tokens_out = tokens_out;
        receipt.fee = TERMS.fee(21, tokens_out).unwrap();
        receipt.cum = POSITION.cumulative + receipt.fee;
        LaneReport {
            voucher: None,
            ..report(receipt)
        }
    };
    let pending = Pending {
        owed: Owed::Broken(40),
        ..long()
    };
    let settled = |report| settle(&POSITION, &pending, &report, &signer());
    assert!(matches!(settled(charging(168)), Reconciled::Accepted(_)));
    assert!(matches!(settled(charging(169)), Reconciled::Parked(_)));
}

#[test]
fn a_worker_that_is_not_done_is_asked_again() {
    let unused = LaneReport {
        sequence: POSITION.sequence,
        cumulative: POSITION.cumulative,
        in_flight: false,
        voucher: None,
        receipt: None,
    };
    let working = LaneReport {
        in_flight: true,
        ..unused.clone()
    };
    assert_eq!(settled(Owed::Signed, &working), Reconciled::Working);
    assert_eq!(settled(Owed::Signed, &unused), Reconciled::Unused);
    // A worker that lost its records has not used it either.
    let blank = LaneReport {
        sequence: 0,
        cumulative: 0,
        ..unused.clone()
    };
    assert_eq!(settled(Owed::Nothing, &blank), Reconciled::Unused);
    // Used, but without anything to show for it.
    let silent = LaneReport {
        sequence: POSITION.sequence + 1,
        ..unused
    };
    assert!(matches!(
        settled(Owed::Signed, &silent),
        Reconciled::Parked(_)
    ));
}

#[test]
fn a_key_that_the_node_does_not_know_yet_leaves_the_lane_in_doubt() {
    let late = Signer {
        key: None,
        ..signer()
    };
    let mut receipt = honest(Outcome::Complete);
    receipt.key = 3;
    assert_eq!(
        settle(&POSITION, &pending(), &report(receipt), &late),
        Reconciled::KeyUnknown(3)
    );
}

#[test]
fn what_was_not_signed_for_is_not_taken_over() {
    // Within max_fee, at another price or another length.
    let bends: [fn(&mut Receipt); 2] = [|r| r.tokens_out = 65, |r| r.tokens_in = 22];
    for bend in bends {
        let mut receipt = honest(Outcome::Complete);
        bend(&mut receipt);
        let report = report(receipt);
        assert!(adopt(8, 1, (0, 0), &report, &own().public(), &signer()).is_err());
    }
}

#[test]
fn a_parked_lane_is_released_for_what_the_worker_can_show() {
    let parked = LaneState {
        position: POSITION,
        pending: Some(pending()),
        parked: Some("receipt refused".into()),
    };
    let free = |position| LaneState {
        position,
        pending: None,
        parked: None,
    };
    let look = |state: &LaneState, settled, report: &LaneReport| {
        release(8, 1, state, settled, report, &own().public(), &signer())
    };
    // The worker's receipt is acknowledged though it was refused, as far as it was signed for.
    let receipt = honest(Outcome::Complete);
    let used = report(receipt);
    let released = look(&parked, (0, 0), &used).unwrap();
    assert_eq!(released.costs, receipt.fee);
    assert_eq!(released.pays, used.voucher.zip(used.receipt));
    assert_eq!(
        released.state,
        free(Position {
            sequence: 5,
            receipt: receipt.hash(),
            cumulative: receipt.cum
        })
    );
    // A worker that did not use the voucher, or lost its records after the chain settled the lane.
    let unused = LaneReport {
        sequence: POSITION.sequence,
        cumulative: POSITION.cumulative,
        in_flight: false,
        voucher: None,
        receipt: None,
    };
    assert!(look(&parked, (0, 0), &unused).is_err());
    let start = LaneState {
        position: Position::default(),
        ..parked.clone()
    };
    let blank = LaneReport {
        sequence: 0,
        cumulative: 0,
        ..unused.clone()
    };
    let free_of_charge = |released: Result<_, String>, position| {
        let released: openledger_gateway::lanes::Release = released.unwrap();
        assert_eq!((released.costs, released.pays), (0, None));
        assert_eq!(released.state, free(position));
    };
    free_of_charge(look(&start, (0, 0), &blank), Position::default());
    free_of_charge(
        look(&parked, (POSITION.sequence, POSITION.cumulative), &blank),
        POSITION,
    );
    // Not parked; not done; not signed for; not this gateway's key.
    assert!(look(&free(POSITION), (0, 0), &used).is_err());
    let working = LaneReport {
        in_flight: true,
        ..used.clone()
    };
    assert!(look(&parked, (0, 0), &working).is_err());
    let mut greedy = receipt;
    greedy.fee += TERMS.fee(21, 64).unwrap();
    greedy.cum = POSITION.cumulative + greedy.fee;
    assert!(look(&parked, (0, 0), &report(greedy)).is_err());
    let other = service().public();
    assert!(release(8, 1, &parked, (0, 0), &used, &other, &signer()).is_err());
}
