//! Exposure, reservation and liability.

use crate::{mock::*, Error, Event, Ledger, Ledgers, Pool};
use frame_support::{assert_noop, assert_ok};
use openledger_traits::BondLedger;

type Refused = Error<Test>;

fn bonded(amount: u128) {
    assert_ok!(<Bonds as BondLedger<u64>>::bond(&ALICE, amount));
}

#[test]
fn an_account_without_a_bond_has_nothing_to_expose() {
    run(|| {
        assert_eq!(Bonds::usable(&BOB), 0);
        assert_eq!(Bonds::reserved(&BOB), 0);
        assert_eq!(Bonds::last_liable(&BOB), 0);
        assert_noop!(Bonds::reserve(&BOB, 1), Refused::NotBonded);
        assert_ok!(Bonds::reserve(&BOB, 0));
        Bonds::unreserve(&BOB, 1);
        Bonds::liable_until(&BOB, 9);
        assert_ok!(<Bonds as BondLedger<u64>>::thaw_all(&BOB));
        assert_eq!(Ledgers::<Test>::iter().count(), 0);
    });
}

#[test]
fn reservations_stay_within_the_usable_bond() {
    run(|| {
        bonded(10 * OPEN);
        assert_ok!(Bonds::reserve(&ALICE, 6 * OPEN));
        assert_noop!(Bonds::reserve(&ALICE, 4 * OPEN + 1), Refused::BondTooSmall);
        assert_noop!(Bonds::reserve(&ALICE, u128::MAX), Refused::Overflow);
        assert_ok!(Bonds::reserve(&ALICE, 4 * OPEN));
        assert_eq!(Bonds::reserved(&ALICE), 10 * OPEN);
        Bonds::unreserve(&ALICE, 3 * OPEN);
        assert_eq!(Bonds::reserved(&ALICE), 7 * OPEN);
    });
}

#[test]
fn no_more_is_given_back_than_is_reserved() {
    run(|| {
        bonded(10 * OPEN);
        assert_ok!(Bonds::reserve(&ALICE, 6 * OPEN));
        Bonds::unreserve(&ALICE, 100 * OPEN);
        assert_eq!(Bonds::reserved(&ALICE), 0);
        System::assert_last_event(
            Event::<Test>::Unreserved {
                who: ALICE,
                amount: 6 * OPEN,
            }
            .into(),
        );
    });
}

#[test]
fn thawing_stake_does_not_count() {
    run(|| {
        bonded(10 * OPEN);
        assert_ok!(Bonds::thaw(RuntimeOrigin::signed(ALICE), 4 * OPEN));
        assert_eq!(Bonds::usable(&ALICE), 6 * OPEN);
        assert_noop!(Bonds::reserve(&ALICE, 6 * OPEN + 1), Refused::BondTooSmall);
    });
}

#[test]
fn delegations_count_up_to_five_times_the_own_bond() {
    let ledger = |own, balance| Ledger {
        own,
        pool: Pool {
            shares: balance,
            balance,
        },
        ..Default::default()
    };
    assert_eq!(ledger(10, 30).usable(), 40);
    assert_eq!(ledger(10, 40).usable(), 50);
    assert_eq!(ledger(10, 41).usable(), 50);
    assert_eq!(ledger(0, 41).usable(), 0);
    assert_eq!(ledger(u128::MAX, u128::MAX).usable(), u128::MAX);
}
