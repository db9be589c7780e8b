//! Bonding, thawing and withdrawing.

use crate::{mock::*, Error, Event, HoldReason, Instance2, Ledgers, PendingSlashes};
use frame_support::{
    assert_noop, assert_ok,
    traits::fungible::{Inspect, InspectHold},
};
use openledger_traits::BondLedger;
use sp_runtime::{DispatchError, TokenError};

type Refused = Error<Test>;

fn held(who: u64) -> u128 {
    Balances::balance_on_hold(&HoldReason::<()>::Stake.into(), &who)
}

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

#[test]
fn bonded_stake_is_on_hold_and_counts() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        assert_ok!(Bonds::bond_more(alice(), 20 * OPEN));
        assert_eq!(held(ALICE), 120 * OPEN);
        assert_eq!(Balances::balance(&ALICE), RICH - 120 * OPEN);
        assert_eq!(Bonds::own(&ALICE), 120 * OPEN);
        assert_eq!(Bonds::usable(&ALICE), 120 * OPEN);
        System::assert_last_event(
            Event::<Test>::Bonded {
                who: ALICE,
                amount: 20 * OPEN,
                own: 120 * OPEN,
            }
            .into(),
        );
    });
}

#[test]
fn instances_do_not_touch_each_other() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        assert_ok!(OtherBonds::bond_more(alice(), 7 * OPEN));
        assert_eq!(Bonds::own(&ALICE), 100 * OPEN);
        assert_eq!(OtherBonds::own(&ALICE), 7 * OPEN);
        assert_eq!(Ledgers::<Test, Instance2>::iter().count(), 1);
    });
}

#[test]
fn bonding_is_refused_for_nothing_for_more_than_there_is_and_without_a_signature() {
    run(|| {
        assert_noop!(Bonds::bond_more(alice(), 0), Refused::ZeroAmount);
        assert_noop!(
            Bonds::bond_more(alice(), RICH + 1),
            TokenError::FundsUnavailable
        );
        assert_noop!(
            Bonds::bond_more(RuntimeOrigin::root(), OPEN),
            DispatchError::BadOrigin
        );
        assert_ok!(Bonds::bond_more(alice(), OPEN));
        assert_noop!(Bonds::bond_more(alice(), u128::MAX), Refused::Overflow);
    });
}

#[test]
fn thawed_stake_is_withdrawn_after_the_thaw_and_not_before() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        assert_ok!(Bonds::thaw(alice(), 40 * OPEN));
        assert_eq!(Bonds::own(&ALICE), 60 * OPEN);
        assert_eq!(held(ALICE), 100 * OPEN);
        System::set_block_number(10);
        assert_noop!(Bonds::withdraw(alice()), Refused::NothingToWithdraw);
        System::set_block_number(11);
        assert_ok!(Bonds::withdraw(alice()));
        assert_eq!(held(ALICE), 60 * OPEN);
        assert_eq!(Balances::balance(&ALICE), RICH - 60 * OPEN);
        assert_noop!(Bonds::withdraw(alice()), Refused::NothingToWithdraw);
    });
}

#[test]
fn the_ledger_is_removed_with_the_last_of_the_stake() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        assert_ok!(<Bonds as BondLedger<u64>>::thaw_all(&ALICE));
        System::set_block_number(11);
        assert_ok!(Bonds::withdraw(alice()));
        assert!(!Ledgers::<Test>::contains_key(ALICE));
        assert_eq!(Balances::balance(&ALICE), RICH);
        assert_noop!(Bonds::withdraw(alice()), Refused::NotBonded);
    });
}

#[test]
fn withdrawal_waits_for_the_last_liability() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        assert_ok!(Bonds::thaw(alice(), 40 * OPEN));
        Bonds::liable_until(&ALICE, 30);
        Bonds::liable_until(&ALICE, 20);
        assert_eq!(Bonds::last_liable(&ALICE), 30);
        System::set_block_number(29);
        assert_noop!(Bonds::withdraw(alice()), Refused::Liable);
        System::set_block_number(30);
        assert_ok!(Bonds::withdraw(alice()));
    });
}

#[test]
fn withdrawal_waits_for_a_pending_slash() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        assert_ok!(Bonds::thaw(alice(), 40 * OPEN));
        Ledgers::<Test>::mutate_extant(ALICE, |ledger| {
            ledger.pending_slashes = PendingSlashes {
                count: 1,
                amount: OPEN,
            };
        });
        System::set_block_number(50);
        assert_noop!(Bonds::withdraw(alice()), Refused::SlashPending);
    });
}

#[test]
fn thawing_is_refused_beyond_the_stake_and_below_what_is_reserved() {
    run(|| {
        assert_noop!(Bonds::thaw(alice(), OPEN), Refused::NotBonded);
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        assert_noop!(Bonds::thaw(alice(), 0), Refused::ZeroAmount);
        assert_noop!(
            Bonds::thaw(alice(), 100 * OPEN + 1),
            Refused::MoreThanBonded
        );
        assert_ok!(Bonds::reserve(&ALICE, 30 * OPEN));
        assert_noop!(Bonds::thaw(alice(), 70 * OPEN + 1), Refused::Reserved);
        assert_ok!(Bonds::thaw(alice(), 70 * OPEN));
    });
}

#[test]
fn at_most_sixteen_thaws_run_and_those_of_one_block_are_one() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), 100 * OPEN));
        for block in 1..=16 {
            System::set_block_number(block);
            assert_ok!(Bonds::thaw(alice(), OPEN));
            assert_ok!(Bonds::thaw(alice(), OPEN));
        }
        System::set_block_number(17);
        assert_noop!(Bonds::thaw(alice(), OPEN), Refused::TooManyThaws);
        // Those begun in blocks 1 to 7 are over and make room.
        assert_ok!(Bonds::withdraw(alice()));
        assert_eq!(held(ALICE), 100 * OPEN - 14 * OPEN);
        assert_ok!(Bonds::thaw(alice(), OPEN));
    });
}
