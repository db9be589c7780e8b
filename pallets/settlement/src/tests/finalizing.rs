//! Settling batches.

use super::kit::*;
use crate::{mock::*, Batches, Error, Event, Pages};
use frame_support::{assert_noop, assert_ok};
use openledger_economics::{split_burn, split_fee};
use openledger_primitives::{receipt::CreditReason, Balance};
use openledger_traits::{mocks::MockParameters, BondLedger, Role};
use sp_runtime::AccountId32;

fn bob() -> RuntimeOrigin {
    RuntimeOrigin::signed(BOB)
}

/// What an account is owed: role, planck, block of vesting.
fn owed(who: &AccountId32) -> Vec<(Role, Balance, u32)> {
    Payouts::earnings_of(who)
        .iter()
        .map(|earning| (earning.role, earning.amount, earning.vests_at))
        .collect()
}

fn contributor(contribution: u64) -> Role {
    Role::Contributor {
        contribution,
        reason: CreditReason::Span,
    }
}

#[test]
fn every_part_of_a_fee_goes_to_whom_it_belongs() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let made = batch(&[Answer {
            credits: vec![(CAROLS, 1_000), (DAVES, 33)],
            ..answer(id)
        }]);
        let issued = Balances::total_issuance();
        assert_ok!(submit(&made));
        go_to(21);
        assert_noop!(
            Settlement::settle_page(bob(), WORKER, 1),
            Error::<Test>::WindowOpen
        );
        go_to(22);
        assert_ok!(Settlement::settle_page(bob(), WORKER, 1));
        System::assert_last_event(
            Event::BatchFinalized {
                worker: WORKER,
                sequence: 1,
                fee: OPEN,
            }
            .into(),
        );

        let parts = split_fee(OPEN, &SPLIT);
        // Worker, developer and holders wait for the end of liability.
        assert_eq!(owed(&WORKER), [(Role::Worker, parts.worker, 32)]);
        let mut developer = owed(&DEVELOPER);
        developer.sort();
        assert_eq!(
            developer,
            [
                (Role::Developer, parts.developer, 32),
                (Role::Holder, parts.holders, 32)
            ]
        );
        // Contributors for as long as the parameters say.
        assert_eq!(owed(&CAROL), [(contributor(CAROLS), 1_000, 32)]);
        assert_eq!(owed(&DAVE), [(contributor(DAVES), 33, 32)]);
        assert_eq!(Payouts::pool_of(ADAPTER), parts.contributors - 1_033);
        let (burned, kept) = split_burn(parts.protocol, 500_000);
        assert_eq!(issued - Balances::total_issuance(), burned);
        assert_eq!(Payouts::totals().kept, kept);
        assert_eq!(Balances::free_balance(Settlement::escrow()), LEAST);
        assert_noop!(
            Settlement::settle_page(bob(), WORKER, 1),
            Error::<Test>::AlreadySettled
        );
        assert_noop!(
            Settlement::settle_page(bob(), WORKER, 2),
            Error::<Test>::UnknownBatch
        );
    });
}

#[test]
fn contributors_vest_by_the_parameters() {
    run(|| {
        MockParameters::mutate(|set| set.payouts.contributor_vesting = 3);
        let id = open(ALICE, 10 * OPEN, 1);
        assert_ok!(submit(&batch(&[Answer {
            credits: vec![(CAROLS, 5)],
            ..answer(id)
        }])));
        go_to(25);
        settle(1);
        assert_eq!(owed(&CAROL), [(contributor(CAROLS), 5, 28)]);
    });
}

#[test]
fn the_contributors_part_of_a_base_is_the_protocols() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        assert_ok!(submit(&batch(&[Answer {
            revision: BASE,
            ..answer(id)
        }])));
        go_to(22);
        settle(1);
        let parts = split_fee(OPEN, &SPLIT);
        let totals = Payouts::totals();
        assert_eq!(
            totals.burned + totals.kept,
            parts.protocol + parts.contributors
        );
        assert_eq!(Payouts::pool_of(BASE), 0);
    });
}

#[test]
fn a_contribution_withdrawn_meanwhile_is_pooled() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        assert_ok!(submit(&batch(&[Answer {
            credits: vec![(CAROLS, 1_000), (DAVES, 33)],
            ..answer(id)
        }])));
        Tables::withdraw(CAROLS);
        go_to(22);
        settle(1);
        System::assert_has_event(
            Event::CreditPooled {
                revision: ADAPTER,
                contribution: CAROLS,
                amount: 1_000,
            }
            .into(),
        );
        assert_eq!(owed(&CAROL), []);
        assert_eq!(owed(&DAVE), [(contributor(DAVES), 33, 32)]);
        assert_eq!(
            Payouts::pool_of(ADAPTER),
            split_fee(OPEN, &SPLIT).contributors - 33
        );
    });
}

#[test]
fn a_batch_of_many_lines_settles_page_by_page() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        for contribution in 1_000..1_130 {
            Tables::own(contribution, CAROL, version(1));
        }
        assert_ok!(submit(&batch(&[Answer {
            credits: (1_000..1_130).map(|id| (id, 2)).collect(),
            ..answer(id)
        }])));
        // One usage line and 130 credits.
        assert_eq!(Batches::<Test>::get(WORKER, 1).unwrap().pages, 3);
        go_to(22);
        for page in 0..3 {
            assert_ok!(Settlement::settle_page(bob(), WORKER, 1));
            let batch = Batches::<Test>::get(WORKER, 1).unwrap();
            assert_eq!(batch.cursor, page + 1);
            assert_eq!(batch.escrowed > 0, page < 2);
            check();
        }
        assert_eq!(Pages::<Test>::iter().count(), 0);
        assert_eq!(Payouts::earnings_of(&CAROL).len(), 130);
    });
}

#[test]
fn the_bond_is_free_after_liability_and_not_before() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        assert_ok!(submit(&batch(&[answer(id)])));
        let release = || Settlement::release_liability(bob(), WORKER);
        go_to(40);
        // Not settled yet, however late it is.
        assert_noop!(release(), Error::<Test>::NothingToRelease);
        settle(1);
        assert_ok!(release());
        System::assert_last_event(
            Event::LiabilityReleased {
                worker: WORKER,
                sequence: 1,
                reserved: 2 * OPEN,
            }
            .into(),
        );
        assert_eq!(Bonds::reserved(&WORKER), 0);
        assert!(!Batches::<Test>::contains_key(WORKER, 1));
        assert_noop!(release(), Error::<Test>::NothingToRelease);
        // The sequence goes on.
        assert_eq!(Settlement::next_batch(&WORKER).0, 2);
    });
}

#[test]
fn a_shorter_window_never_overtakes_a_longer_one() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        assert_ok!(submit(&batch(&[answer(id)])));
        MockParameters::mutate(|set| {
            set.settlement.challenge_window = 1;
            set.settlement.evidence_window = 1;
        });
        assert_ok!(submit(&batch(&[answer(id)])));
        let second = Batches::<Test>::get(WORKER, 2).unwrap();
        assert_eq!((second.window_end, second.liability_end), (21, 31));
    });
}
