//! Opening channels, and what their consumers put in and take back.

use super::kit::*;
use crate::{mock::*, Channels, Error, Event, HoldReason, Lanes};
use frame_support::{
    assert_noop, assert_ok, dispatch::DispatchResult, traits::fungible::InspectHold,
};
use openledger_primitives::{voucher::EvidenceClass, Balance};
use openledger_traits::mocks::MockParameters;
use sp_runtime::{AccountId32, TokenError};

fn held(who: &AccountId32) -> Balance {
    Balances::balance_on_hold(&HoldReason::Channel.into(), who)
}

fn try_open(deposit: Balance, lanes: u16, until: u32) -> DispatchResult {
    try_open_at(EvidenceClass::Open, deposit, lanes, until)
}

fn try_open_at(
    evidence: EvidenceClass,
    deposit: Balance,
    lanes: u16,
    until: u32,
) -> DispatchResult {
    Settlement::open_channel(
        RuntimeOrigin::signed(ALICE),
        WORKER,
        deposit,
        lanes,
        key(1),
        OPEN,
        until,
        evidence,
    )
}

#[test]
fn a_channel_has_no_evidence_class_above_what_the_worker_announces() {
    run(|| {
        for (id, evidence) in [(0, EvidenceClass::Open), (1, EvidenceClass::Sealed)] {
            assert_ok!(try_open_at(evidence, OPEN, 1, 99));
            assert_eq!(Channels::<Test>::get(id).unwrap().evidence, evidence);
        }
        for evidence in [EvidenceClass::Tee, EvidenceClass::Private] {
            assert_noop!(
                try_open_at(evidence, OPEN, 1, 99),
                Error::<Test>::EvidenceAboveOffered
            );
        }
    });
}

#[test]
fn opening_holds_the_deposit_and_one_for_each_lane() {
    run(|| {
        assert_ok!(try_open(10 * OPEN, 4, 99));
        System::assert_last_event(
            Event::ChannelOpened {
                channel: 0,
                consumer: ALICE,
                worker: WORKER,
                deposit: 10 * OPEN,
            }
            .into(),
        );
        assert_eq!(held(&ALICE), 10 * OPEN + 4 * (OPEN / 10));
        let lane = Lanes::<Test>::get(0, 3).unwrap();
        assert_eq!((lane.next_sequence, lane.cumulative), (1, 0));
        assert_eq!(lane.signer, key(1));
        assert!(Lanes::<Test>::get(0, 4).is_none());
        assert_ok!(try_open(OPEN, 1, 99));
        assert!(Channels::<Test>::contains_key(1));
    });
}

#[test]
fn opening_is_refused_when_it_makes_no_sense() {
    run(|| {
        go_to(5);
        assert_noop!(
            try_open(OPEN - 1, 1, 99),
            Error::<Test>::DepositBelowMinimum
        );
        assert_noop!(try_open(OPEN, 0, 99), Error::<Test>::LaneCount);
        assert_noop!(try_open(OPEN, 257, 99), Error::<Test>::LaneCount);
        assert_noop!(try_open(OPEN, 1, 4), Error::<Test>::AlreadyOver);
        assert_noop!(try_open(RICH, 1, 99), TokenError::FundsUnavailable);
        assert_noop!(try_open(Balance::MAX, 1, 99), Error::<Test>::Overflow);
        Tables::drain(&WORKER);
        assert_noop!(try_open(OPEN, 1, 99), Error::<Test>::WorkerInactive);
    });
}

#[test]
fn a_deposit_grows() {
    run(|| {
        let id = open(ALICE, OPEN, 1);
        let alice = || RuntimeOrigin::signed(ALICE);
        assert_ok!(Settlement::deposit(alice(), id, 5 * OPEN));
        assert_eq!(deposit_of(id), 6 * OPEN);
        assert_noop!(
            Settlement::deposit(alice(), id, 0),
            Error::<Test>::ZeroAmount
        );
        assert_noop!(
            Settlement::deposit(RuntimeOrigin::signed(BOB), id, OPEN),
            Error::<Test>::NotConsumer
        );
        assert_noop!(
            Settlement::deposit(alice(), 9, OPEN),
            Error::<Test>::UnknownChannel
        );
        assert_noop!(
            Settlement::deposit(alice(), id, RICH),
            TokenError::FundsUnavailable
        );
    });
}

#[test]
fn lanes_are_added_for_the_newest_valid_signer() {
    run(|| {
        let id = open(ALICE, OPEN, 2);
        let alice = || RuntimeOrigin::signed(ALICE);
        assert_ok!(Settlement::add_signer(alice(), id, key(2), OPEN, 50));
        assert_ok!(Settlement::add_lanes(alice(), id, 254));
        assert_eq!(Lanes::<Test>::get(id, 1).unwrap().signer, key(1));
        assert_eq!(Lanes::<Test>::get(id, 255).unwrap().signer, key(2));
        assert_noop!(
            Settlement::add_lanes(alice(), id, 1),
            Error::<Test>::LaneCount
        );
        assert_noop!(
            Settlement::add_lanes(RuntimeOrigin::signed(BOB), id, 1),
            Error::<Test>::NotConsumer
        );
    });
}

#[test]
fn lanes_need_a_signer_that_is_valid() {
    run(|| {
        let id = open(ALICE, OPEN, 1);
        let alice = || RuntimeOrigin::signed(ALICE);
        assert_ok!(Settlement::revoke_signer(alice(), id, key(1)));
        go_to(12);
        assert_noop!(
            Settlement::add_lanes(alice(), id, 1),
            Error::<Test>::NoValidSigner
        );
    });
}

#[test]
fn a_cut_is_paid_late_and_claims_come_first() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let alice = || RuntimeOrigin::signed(ALICE);
        assert_noop!(
            Settlement::cut_deposit(alice(), id, 11 * OPEN),
            Error::<Test>::CutAboveDeposit
        );
        assert_noop!(Settlement::finish_cut(alice(), id), Error::<Test>::NoCut);
        assert_ok!(Settlement::cut_deposit(alice(), id, 9 * OPEN + OPEN / 2));
        assert_noop!(
            Settlement::cut_deposit(alice(), id, OPEN),
            Error::<Test>::CutPending
        );
        // New work cannot count on it; work already done can.
        assert_eq!(Settlement::channel_info(id).unwrap().free_deposit, OPEN / 2);
        assert_ok!(submit(&batch(&[answer(id)])));
        go_to(10);
        assert_noop!(
            Settlement::finish_cut(alice(), id),
            Error::<Test>::CutNotEffective
        );
        go_to(11);
        assert_ok!(Settlement::finish_cut(RuntimeOrigin::signed(BOB), id));
        System::assert_last_event(
            Event::CutPaid {
                channel: id,
                amount: 9 * OPEN,
            }
            .into(),
        );
        assert_eq!(deposit_of(id), 0);
        assert_eq!(held(&ALICE), OPEN / 10);
    });
}

#[test]
fn a_channel_keeps_the_lane_deposits_it_was_opened_with() {
    run(|| {
        let id = open(ALICE, OPEN, 2);
        MockParameters::mutate(|set| set.settlement.lane_deposit = 3 * OPEN);
        let alice = || RuntimeOrigin::signed(ALICE);
        assert_ok!(Settlement::add_lanes(alice(), id, 1));
        assert_eq!(held(&ALICE), OPEN + 2 * (OPEN / 10) + 3 * OPEN);
        assert_ok!(Settlement::close_channel(alice(), id));
        go_to(22);
        assert_ok!(Settlement::finish_close(alice(), id));
        assert_eq!(held(&ALICE), 0);
        assert_eq!(Balances::free_balance(ALICE), RICH);
    });
}
