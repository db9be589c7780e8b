//! Keys that sign a channel's vouchers.

use super::kit::*;
use crate::{mock::*, Channels, Error, Event, Lanes};
use frame_support::{assert_noop, assert_ok};
use openledger_primitives::voucher::EvidenceClass;

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

fn open_limited(limit: u128, until: u32) -> u64 {
    Settlement::open_channel(
        alice(),
        WORKER,
        10 * OPEN,
        1,
        key(1),
        limit,
        until,
        EvidenceClass::Open,
    )
    .unwrap();
    0
}

#[test]
fn eight_signers_are_the_most_until_one_is_over() {
    run(|| {
        let id = open_limited(OPEN, 5);
        for number in 2..=8 {
            assert_ok!(Settlement::add_signer(alice(), id, key(number), OPEN, 99));
        }
        assert_noop!(
            Settlement::add_signer(alice(), id, key(8), OPEN, 99),
            Error::<Test>::SignerExists
        );
        assert_noop!(
            Settlement::add_signer(alice(), id, key(9), OPEN, 99),
            Error::<Test>::TooManySigners
        );
        go_to(6);
        assert_noop!(
            Settlement::add_signer(alice(), id, key(9), OPEN, 5),
            Error::<Test>::AlreadyOver
        );
        assert_ok!(Settlement::add_signer(alice(), id, key(9), OPEN, 99));
        let channel = Channels::<Test>::get(id).unwrap();
        assert!(channel.signers.iter().all(|signer| signer.key != key(1)));
    });
}

#[test]
fn a_signer_spends_no_more_than_its_limit() {
    run(|| {
        let id = open_limited(2 * OPEN, 99);
        assert_ok!(submit(&batch(&[answer(id)])));
        assert_ok!(submit(&batch(&[answer(id)])));
        refused(&batch(&[answer(id)]), Error::SignerLimit);
    });
}

#[test]
fn a_signers_vouchers_count_until_its_last_block() {
    run(|| {
        let id = open_limited(10 * OPEN, 5);
        go_to(5);
        assert_ok!(submit(&batch(&[answer(id)])));
        go_to(6);
        refused(&batch(&[answer(id)]), Error::SignerExpired);
    });
}

#[test]
fn revoking_leaves_time_to_claim() {
    run(|| {
        let id = open_limited(10 * OPEN, 99);
        assert_noop!(
            Settlement::revoke_signer(alice(), id, key(2)),
            Error::<Test>::UnknownSigner
        );
        assert_noop!(
            Settlement::revoke_signer(RuntimeOrigin::signed(WORKER), id, key(1)),
            Error::<Test>::NotConsumer
        );
        assert_ok!(Settlement::revoke_signer(alice(), id, key(1)));
        System::assert_last_event(
            Event::SignerRevoked {
                channel: id,
                key: key(1),
                valid_until: 11,
            }
            .into(),
        );
        // Revoking again does not win time.
        go_to(5);
        assert_ok!(Settlement::revoke_signer(alice(), id, key(1)));
        assert_eq!(
            Channels::<Test>::get(id).unwrap().signers[0].valid_until,
            11
        );
    });
}

/// Lanes keep their signer, so none is bound to one that was just revoked, as a stolen key is.
#[test]
fn no_lane_is_bound_to_a_revoked_signer() {
    run(|| {
        let id = open_limited(10 * OPEN, 99);
        assert_ok!(Settlement::add_signer(alice(), id, key(2), OPEN, 99));
        assert_ok!(Settlement::revoke_signer(alice(), id, key(2)));
        assert_ok!(Settlement::add_lanes(alice(), id, 1));
        assert_eq!(Lanes::<Test>::get(id, 1).unwrap().signer, key(1));
        assert_ok!(Settlement::revoke_signer(alice(), id, key(1)));
        assert_noop!(
            Settlement::add_lanes(alice(), id, 1),
            Error::<Test>::NoValidSigner
        );
    });
}
