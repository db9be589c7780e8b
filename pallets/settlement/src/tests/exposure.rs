//! What a bond answers for.

use super::kit::*;
use crate::{mock::*, Error};
use frame_support::assert_ok;
use openledger_traits::BondLedger;

/// An answer that costs so many OPEN.
fn costing(open: u32) -> Answer {
    Answer {
        tokens_in: 1_000 * open,
        tokens_out: 0,
        ..answer(0)
    }
}

fn with_channel(test: impl FnOnce()) {
    run(|| {
        open(ALICE, 9_000 * OPEN, 1);
        test();
    });
}

#[test]
fn batch_above_exposure_limit() {
    with_channel(|| {
        // Half of the own bond.
        assert_eq!(Settlement::worker_exposure(&WORKER).room, BOND / 2);
        refused(&batch(&[costing(501)]), Error::WindowExposure);
        assert_ok!(submit(&batch(&[costing(400)])));
        assert_eq!(Settlement::worker_exposure(&WORKER).room, 100 * OPEN);
        refused(&batch(&[costing(101)]), Error::WindowExposure);
        assert_ok!(submit(&batch(&[costing(100)])));
        assert_eq!(Settlement::worker_exposure(&WORKER).room, 0);
        assert_eq!(Bonds::reserved(&WORKER), BOND);
        refused(&batch(&[costing(1)]), Error::WindowExposure);
    });
}

#[test]
fn a_settled_batch_still_counts_inside_liability() {
    with_channel(|| {
        assert_ok!(submit(&batch(&[costing(500)])));
        go_to(22);
        settle(1);
        refused(&batch(&[costing(1)]), Error::LiabilityExposure);
        go_to(32);
        assert_ok!(Settlement::release_liability(
            RuntimeOrigin::signed(BOB),
            WORKER
        ));
        assert_eq!(Bonds::reserved(&WORKER), 0);
        assert_eq!(Settlement::worker_exposure(&WORKER).room, BOND / 2);
        assert_ok!(submit(&batch(&[costing(500)])));
    });
}

#[test]
fn what_others_reserve_is_not_free() {
    with_channel(|| {
        Bonds::reserve(&WORKER, BOND - 3 * OPEN).unwrap();
        refused(&batch(&[costing(2)]), Error::ReservationExposure);
        assert_ok!(submit(&batch(&[costing(1)])));
    });
}

#[test]
fn without_a_bond_nothing_settles() {
    run(|| {
        open(ALICE, 100 * OPEN, 1);
        Bonds::thaw_all(&WORKER).unwrap();
        refused(&batch(&[costing(1)]), Error::WindowExposure);
    });
}
