//! What a consumer accepts as a receipt, and each way in which one is refused.

mod common;

use common::*;
use openledger_metering::{
    verify_receipt, Charge, Expected, LaneHead, ReceiptFault, SignedReceipt, SignedVoucher,
};
use openledger_primitives::{
    receipt::{output_commit, Outcome, Receipt},
    voucher::Voucher,
};
use parity_scale_codec::Encode;

fn check(
    voucher: &SignedVoucher,
    receipt: &SignedReceipt,
    canonical: u32,
) -> Result<(), ReceiptFault> {
    verify_receipt(
        receipt,
        &Expected {
            voucher,
            worker: WORKER,
            service_keys: &[keypair(5).public.to_bytes(), keypair(2).public.to_bytes()],
            tokens_in: 20,
            canonical_out: canonical,
            price_in: PRICE_IN,
            price_out: PRICE_OUT,
            output: OUTPUT,
            output_salt: &SALT,
        },
    )
}

fn good() -> SignedVoucher {
    let head = LaneHead {
        sequence: 2,
        cumulative: 40,
        receipt: [4; 32],
    };
    signed(voucher(3, 2, &head))
}

/// What becomes of the good receipt after a change that its worker signs.
fn changed(change: impl FnOnce(&mut Receipt)) -> Result<(), ReceiptFault> {
    let voucher = good();
    let mut receipt = receipt(&voucher.voucher, 20, 12);
    change(&mut receipt);
    check(&voucher, &signed_receipt(receipt), 12)
}

#[test]
fn a_good_receipt_is_accepted() {
    assert_eq!(changed(|_| {}), Ok(()));
    // Fewer tokens than the text has are the worker's loss.
    let voucher = good();
    let modest = signed_receipt(receipt(&voucher.voucher, 20, 11));
    assert_eq!(check(&voucher, &modest, 12), Ok(()));
}

#[test]
fn each_field_is_held_against_what_the_consumer_knows() {
    assert_eq!(changed(|r| r.version = 2), Err(ReceiptFault::Domain));
    assert_eq!(changed(|r| r.domain = [0; 32]), Err(ReceiptFault::Domain));
    assert_eq!(changed(|r| r.voucher[0] ^= 1), Err(ReceiptFault::Voucher));
    assert_eq!(changed(|r| r.worker = [1; 32]), Err(ReceiptFault::Worker));
    assert_eq!(
        changed(|r| r.tokens_in = 21),
        Err(ReceiptFault::TokensIn {
            charged: 21,
            counted: 20
        })
    );
    assert!(matches!(
        changed(|r| r.fee += 1),
        Err(ReceiptFault::Fee { .. })
    ));
    assert!(matches!(
        changed(|r| r.fee -= 1),
        Err(ReceiptFault::Fee { .. })
    ));
    assert_eq!(changed(|r| r.cum += 1), Err(ReceiptFault::Cumulative));
    assert_eq!(
        changed(|r| r.output_commit = output_commit(&SALT, b"Another text")),
        Err(ReceiptFault::Output)
    );
}

#[test]
fn token_inflate() {
    let voucher = good();
    let inflated = signed_receipt(receipt(&voucher.voucher, 20, 13));
    assert_eq!(
        check(&voucher, &inflated, 12),
        Err(ReceiptFault::TokensOut {
            charged: 13,
            counted: 12
        })
    );
}

#[test]
fn a_fee_above_the_voucher_is_refused() {
    let good = good();
    let poor = Voucher {
        max_fee: 100,
        ..good.voucher
    };
    let dear = signed_receipt(receipt(&poor, 20, 12));
    let SignedReceipt { receipt, .. } = dear;
    assert_eq!(
        check(&signed(poor), &dear, 12),
        Err(ReceiptFault::MaxFee {
            charged: receipt.fee,
            max_fee: 100
        })
    );
}

#[test]
fn a_receipt_of_another_key_is_refused() {
    let voucher = good();
    let receipt = receipt(&voucher.voucher, 20, 12);
    let forged = SignedReceipt::sign(receipt, |hash| sign(&keypair(9), hash));
    assert_eq!(check(&voucher, &forged, 12), Err(ReceiptFault::Signature));
    let mut altered = signed_receipt(receipt);
    altered.receipt.total_ms += 1;
    assert_eq!(check(&voucher, &altered, 12), Err(ReceiptFault::Signature));
}

#[test]
fn failure_costs_nothing() {
    let charge = Charge::of(Outcome::Failed, 20, 12, 12, PRICE_IN, PRICE_OUT).unwrap();
    assert_eq!(charge, Charge::default());
    let voucher = good();
    let mut failed = receipt(&voucher.voucher, 0, 0);
    failed.outcome = Outcome::Failed;
    assert_eq!(check(&voucher, &signed_receipt(failed), 12), Ok(()));
    let mut billed = receipt(&voucher.voucher, 20, 12);
    billed.outcome = Outcome::Failed;
    assert!(check(&voucher, &signed_receipt(billed), 12).is_err());
}

#[test]
fn the_charge_is_the_lesser_count_floored() {
    let charge = Charge::of(Outcome::Complete, 20, 12, 10, PRICE_IN, PRICE_OUT).unwrap();
    assert_eq!((charge.tokens_in, charge.tokens_out), (20, 10));
    assert_eq!(charge.fee, (20 * PRICE_IN + 10 * PRICE_OUT) / 1_000);
    let charge = Charge::of(Outcome::Length, 20, 9, 10, PRICE_IN, PRICE_OUT).unwrap();
    assert_eq!(charge.tokens_out, 9);
    assert!(Charge::of(Outcome::Complete, 2, 1, 1, u128::MAX, 1).is_none());
}

#[test]
fn bytes_that_travel_are_read_exactly() {
    let voucher = good();
    let bytes = voucher.encode();
    assert_eq!(SignedVoucher::from_bytes(&bytes), Some(voucher));
    assert_eq!(SignedVoucher::from_bytes(&bytes[1..]), None);
    assert_eq!(SignedVoucher::from_bytes(&[bytes, vec![0]].concat()), None);
    let receipt = signed_receipt(receipt(&voucher.voucher, 1, 1));
    let bytes = receipt.encode();
    assert_eq!(SignedReceipt::from_bytes(&bytes), Some(receipt));
    assert_eq!(SignedReceipt::from_bytes(&bytes[..bytes.len() - 1]), None);
    assert_eq!(SignedReceipt::from_bytes(&[bytes, vec![0]].concat()), None);
}

/// Keys are expanded from a seed as Substrate does: this is its well-known development key.
#[test]
fn keys_are_those_of_substrate() {
    let seed = "e5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a";
    let bytes: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let key = schnorrkel::MiniSecretKey::from_bytes(&bytes)
        .unwrap()
        .expand_to_keypair(schnorrkel::ExpansionMode::Ed25519);
    assert_eq!(&key.public.to_bytes()[..4], &[0xd4, 0x35, 0x93, 0xc7]);
    let hash = [3; 32];
    let public = key.public.to_bytes();
    assert!(openledger_metering::verify(
        &public,
        &hash,
        &sign(&key, &hash)
    ));
    assert!(openledger_metering::verify(
        &public,
        &hash,
        &sign_wrapped(&key, &hash)
    ));
    assert!(!openledger_metering::verify(
        &public,
        &[4; 32],
        &sign(&key, &hash)
    ));
}
