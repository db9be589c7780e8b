//! Claims that are refused, each for its own reason and with nothing changed.

use super::kit::*;
use crate::{mock::*, Channels, Error};
use frame_support::assert_ok;
use openledger_primitives::{
    batch::Claim, crypto::signing_payloads, voucher::EvidenceClass, Signature, FORMAT_VERSION,
};
use sp_core::Pair;

/// A batch of one answer whose claim `change` corrupts and the consumer signs all the same.
fn signed(change: impl FnOnce(&mut Claim)) -> Submission {
    let mut batch = batch(&[answer(0)]);
    change(&mut batch.claims[0]);
    sign(&mut batch.claims[0], 1);
    batch
}

fn with_channel(test: impl FnOnce()) {
    run(|| {
        open(ALICE, 100 * OPEN, 4);
        test();
    });
}

#[test]
fn forged_voucher() {
    with_channel(|| {
        let mut forged = batch(&[answer(0)]);
        sign(&mut forged.claims[0], 2);
        refused(&forged, Error::BadSignature);
        forged.claims[0].signature = Signature([0; 64]);
        refused(&forged, Error::BadSignature);
        // Signed, and then changed.
        let mut changed = batch(&[answer(0)]);
        changed.claims[0].voucher.max_fee += 1;
        refused(&changed, Error::BadSignature);
    });
}

#[test]
fn a_voucher_signed_by_a_browser_extension_is_accepted() {
    with_channel(|| {
        let mut wrapped = batch(&[answer(0)]);
        let claim = &mut wrapped.claims[0];
        let [_, payload] = signing_payloads(&claim.voucher.hash());
        claim.signature = Signature(pair(1).sign(&payload).0);
        assert_ok!(submit(&wrapped));
    });
}

#[test]
fn voucher_of_another_lane() {
    with_channel(|| {
        refused(&signed(|claim| claim.voucher.lane = 1), Error::VoucherLane);
    });
}

#[test]
fn voucher_of_another_channel() {
    with_channel(|| {
        open(ALICE, 100 * OPEN, 1);
        refused(
            &signed(|claim| claim.voucher.channel = 1),
            Error::VoucherChannel,
        );
    });
}

#[test]
fn voucher_of_another_chain() {
    with_channel(|| {
        refused(
            &signed(|claim| claim.voucher.domain = [1; 32]),
            Error::VoucherDomain,
        );
    });
}

#[test]
fn voucher_of_another_version_of_the_format() {
    with_channel(|| {
        refused(
            &signed(|claim| claim.voucher.version = FORMAT_VERSION + 1),
            Error::VoucherVersion,
        );
    });
}

#[test]
fn voucher_of_another_sequence() {
    with_channel(|| {
        refused(
            &signed(|claim| claim.voucher.sequence = 2),
            Error::VoucherSequence,
        );
    });
}

#[test]
fn voucher_of_another_evidence_class() {
    with_channel(|| {
        refused(
            &signed(|claim| claim.voucher.evidence = EvidenceClass::Sealed),
            Error::VoucherEvidence,
        );
        Channels::<Test>::mutate_extant(0, |channel| channel.evidence = EvidenceClass::Sealed);
        refused(&batch(&[answer(0)]), Error::VoucherEvidence);
        assert_ok!(submit(&signed(|claim| {
            claim.voucher.evidence = EvidenceClass::Sealed;
        })));
    });
}

#[test]
fn fee_above_max_fee() {
    with_channel(|| {
        refused(
            &signed(|claim| claim.voucher.max_fee -= 1),
            Error::FeeAboveMax,
        );
        refused(
            &signed(|claim| claim.voucher.prev_cum = claim.cumulative + 1),
            Error::BelowAcknowledged,
        );
    });
}

#[test]
fn skipped_or_repeated_sequence() {
    with_channel(|| {
        let first = batch(&[answer(0)]);
        refused(
            &signed(|claim| {
                claim.sequence_to = 2;
                claim.voucher.sequence = 2;
            }),
            Error::SequenceCount,
        );
        refused(&signed(|claim| claim.count = 2), Error::SequenceCount);
        refused(
            &signed(|claim| {
                claim.sequence_to = 0;
                claim.voucher.sequence = 0;
            }),
            Error::SequenceRepeated,
        );
        assert_ok!(submit(&first));
        let mut again = batch(&[answer(0)]);
        again.claims = first.claims;
        refused(&again, Error::SequenceRepeated);
    });
}

#[test]
fn a_lanes_charge_never_falls() {
    with_channel(|| {
        assert_ok!(submit(&batch(&[answer(0)])));
        refused(
            &signed(|claim| {
                claim.cumulative = OPEN - 1;
                claim.voucher.prev_cum = 0;
            }),
            Error::CumulativeFell,
        );
    });
}

#[test]
fn an_expired_voucher_can_be_claimed_for_a_while() {
    with_channel(|| {
        let made = batch(&[answer(0)]);
        let last = made.claims[0].voucher.expiry + 20;
        go_to(u64::from(last) + 1);
        refused(&made, Error::VoucherExpired);
        go_to(u64::from(last));
        assert_ok!(submit(&made));
    });
}

#[test]
fn a_voucher_of_a_revision_that_the_batch_does_not_use() {
    with_channel(|| {
        refused(
            &signed(|claim| claim.voucher.revision = BASE),
            Error::VoucherNotInUsage,
        );
        refused(
            &signed(|claim| claim.voucher.terms = 1),
            Error::VoucherNotInUsage,
        );
    });
}

#[test]
fn a_claim_of_what_does_not_exist_or_is_anothers() {
    with_channel(|| {
        refused(&signed(|claim| claim.channel = 9), Error::UnknownChannel);
        refused(&signed(|claim| claim.lane = 9), Error::UnknownLane);
        Settlement::open_channel(
            RuntimeOrigin::signed(ALICE),
            OTHER_WORKER,
            OPEN,
            1,
            key(1),
            OPEN,
            99,
            Default::default(),
        )
        .unwrap();
        refused(&batch(&[answer(1)]), Error::ForeignChannel);
    });
}

#[test]
fn more_than_the_deposit() {
    run(|| {
        let id = open(ALICE, 3 * OPEN / 2, 2);
        let second = Answer {
            lane: 1,
            ..answer(id)
        };
        refused(&batch(&[answer(id), second]), Error::DepositTooSmall);
        assert_ok!(submit(&batch(&[answer(id)])));
    });
}

#[test]
fn claims_out_of_order_or_twice() {
    with_channel(|| {
        let other = Answer {
            lane: 1,
            ..answer(0)
        };
        let mut swapped = batch(&[answer(0), other]);
        swapped.claims.reverse();
        refused(&swapped, Error::ClaimsUnsorted);
        let mut twice = batch(&[answer(0)]);
        twice.claims.push(twice.claims[0]);
        refused(&twice, Error::ClaimsUnsorted);
    });
}
