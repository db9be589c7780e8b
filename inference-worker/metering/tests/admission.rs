//! Each way in which a voucher is refused, and that nothing else is.

mod common;

use common::*;
use openledger_metering::{admit, LaneHead, Refusal, SignedVoucher, VoucherContext};
use openledger_primitives::{
    voucher::{EvidenceClass, Voucher},
    Balance, Signature,
};
use proptest::prelude::*;

const HEAD: LaneHead = LaneHead {
    sequence: 4,
    cumulative: 500,
    receipt: [9; 32],
};

fn context() -> VoucherContext<'static> {
    VoucherContext {
        domain: DOMAIN,
        now: 100,
        signer: Some(keypair(1).public.to_bytes()),
        signer_room: 1_000_000,
        free_deposit: 1_000_000,
        exposure_room: 1_000_000,
        head: HEAD,
        revision: 7,
        terms: 1,
        price_in: PRICE_IN,
        price_out: PRICE_OUT,
        tokens_in: 20,
        evidence: EvidenceClass::Open,
        salt: &SALT,
        body: BODY,
    }
}

/// What becomes of the good voucher after a change that its consumer signs.
fn changed(change: impl FnOnce(&mut Voucher)) -> Result<u32, Refusal> {
    let mut voucher = voucher(3, 2, &HEAD);
    change(&mut voucher);
    admit(&signed(voucher), &context())
}

#[test]
fn a_good_voucher_pays_for_a_chunk_however_it_is_signed() {
    assert_eq!(changed(|_| {}), Ok(256));
    assert_eq!(changed(|v| v.max_out = 10), Ok(10));
    let voucher = voucher(3, 2, &HEAD);
    let wrapped = SignedVoucher {
        signature: sign_wrapped(&keypair(1), &voucher.hash()),
        voucher,
    };
    assert_eq!(admit(&wrapped, &context()), Ok(256));
}

#[test]
fn forged_vouchers_are_refused() {
    let good = signed(voucher(3, 2, &HEAD));
    let by_another = SignedVoucher {
        signature: sign(&keypair(3), &good.voucher.hash()),
        ..good
    };
    assert_eq!(admit(&by_another, &context()), Err(Refusal::Signature));
    let mut bits = good.signature.0;
    bits[40] ^= 1;
    let bent = SignedVoucher {
        signature: Signature(bits),
        ..good
    };
    assert_eq!(admit(&bent, &context()), Err(Refusal::Signature));
    // Every field is under the signature: raise what may be charged.
    let mut raised = good;
    raised.voucher.max_fee += 1;
    let rich = VoucherContext {
        signer_room: Balance::MAX,
        free_deposit: Balance::MAX,
        exposure_room: Balance::MAX,
        ..context()
    };
    assert_eq!(admit(&raised, &rich), Err(Refusal::Signature));
    let unsigned = VoucherContext {
        signer: None,
        ..context()
    };
    assert_eq!(admit(&good, &unsigned), Err(Refusal::NoSigner));
}

/// The lane and the channel are under the signature; that they are those of the context is what the
/// caller looks up by. A voucher moved to another lane no longer matches.
#[test]
fn a_voucher_does_not_move_to_another_lane_or_channel() {
    let mut moved = signed(voucher(3, 2, &HEAD));
    moved.voucher.lane = 1;
    assert_eq!(admit(&moved, &context()), Err(Refusal::Signature));
    let mut moved = signed(voucher(3, 2, &HEAD));
    moved.voucher.channel = 4;
    assert_eq!(admit(&moved, &context()), Err(Refusal::Signature));
}

#[test]
fn each_field_is_held_against_the_context() {
    assert_eq!(changed(|v| v.version = 2), Err(Refusal::Version(2)));
    assert_eq!(changed(|v| v.domain = [1; 32]), Err(Refusal::Domain));
    for given in [0, 4, 6] {
        assert_eq!(
            changed(|v| v.sequence = given),
            Err(Refusal::Sequence { expected: 5, given })
        );
    }
    assert_eq!(
        changed(|v| v.prev_receipt = [8; 32]),
        Err(Refusal::PreviousReceipt)
    );
    assert_eq!(changed(|v| v.prev_cum = 499), Err(Refusal::PreviousReceipt));
    assert_eq!(
        changed(|v| v.revision = 8),
        Err(Refusal::Revision {
            voucher: 8,
            request: 7
        })
    );
    assert_eq!(
        changed(|v| v.terms = 0),
        Err(Refusal::Terms {
            voucher: 0,
            current: 1
        })
    );
    assert_eq!(
        changed(|v| v.evidence = EvidenceClass::Private),
        Err(Refusal::Evidence)
    );
    assert_eq!(changed(|v| v.request_commit[0] ^= 1), Err(Refusal::Request));
    assert_eq!(
        changed(|v| v.expiry = 99),
        Err(Refusal::Expired {
            expiry: 99,
            now: 100
        })
    );
    assert_eq!(
        changed(|v| v.max_in = 19),
        Err(Refusal::PromptTokens {
            tokens: 20,
            max_in: 19
        })
    );
    assert_eq!(changed(|v| v.max_out = 0), Err(Refusal::NoOutput));
    assert_eq!(changed(|v| v.chunk = 0), Err(Refusal::NoOutput));
    assert_eq!(
        changed(|v| v.max_fee = 1_000_001),
        Err(Refusal::Deposit {
            free: 1_000_000,
            max_fee: 1_000_001
        })
    );
    let limited = VoucherContext {
        signer_room: 999_999,
        ..context()
    };
    assert_eq!(
        admit(&signed(voucher(3, 2, &HEAD)), &limited),
        Err(Refusal::SignerLimit {
            room: 999_999,
            max_fee: 1_000_000
        })
    );
    let bound = VoucherContext {
        exposure_room: 999_999,
        ..context()
    };
    assert_eq!(
        admit(&signed(voucher(3, 2, &HEAD)), &bound),
        Err(Refusal::Exposure {
            room: 999_999,
            max_fee: 1_000_000
        })
    );
}

/// The salt keeps a commitment to one request from covering another.
#[test]
fn dictionary_prompt() {
    let good = signed(voucher(3, 2, &HEAD));
    let other_body = VoucherContext {
        body: b"{}",
        ..context()
    };
    assert_eq!(admit(&good, &other_body), Err(Refusal::Request));
    let other_salt = VoucherContext {
        salt: &[0; 32],
        ..context()
    };
    assert_eq!(admit(&good, &other_salt), Err(Refusal::Request));
}

proptest! {
    /// What is admitted never costs more than was signed for, and one token more would, or is not
    /// asked for.
    #[test]
    fn headroom_claim(
        max_fee in 0u128..20_000, tokens_in in 0u32..1_000, max_out in 0u32..400, chunk in 0u32..400,
        price_in in 0u128..20_000, price_out in 0u128..90_000,
    ) {
        let voucher = Voucher { max_fee, max_out, chunk, ..voucher(3, 2, &HEAD) };
        let context = VoucherContext { tokens_in, price_in, price_out, ..context() };
        let fee = |out: u32| (Balance::from(tokens_in) * price_in + Balance::from(out) * price_out) / 1_000;
        match admit(&signed(voucher), &context) {
            Ok(out) => {
                prop_assert!(out >= 1 && fee(out) <= max_fee);
                prop_assert!(out == max_out.min(chunk) || fee(out + 1) > max_fee);
            }
            Err(Refusal::NoOutput) => prop_assert_eq!(max_out.min(chunk), 0),
            Err(Refusal::MaxFee { needed, .. }) => {
                prop_assert_eq!(needed, fee(1));
                prop_assert!(fee(1) > max_fee);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
