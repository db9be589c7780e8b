//! Paying earnings out.

use crate::{mock::*, Error, Event, MAX_PAID};
use frame_support::{assert_noop, assert_ok};
use openledger_traits::{Earning, Earnings};

fn claim(who: u128) -> frame_support::dispatch::DispatchResultWithPostInfo {
    Payouts::claim(RuntimeOrigin::signed(who))
}

#[test]
fn what_has_vested_is_paid_with_its_reason_and_the_rest_stays() {
    run(|| {
        let before = Balances::free_balance(ALICE);
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 500, 8)));
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 40, 9)));
        assert_noop!(claim(ALICE), Error::<Test>::NothingVested);
        System::set_block_number(8);
        assert_ok!(claim(ALICE));
        assert_eq!(Balances::free_balance(ALICE) - before, 500);
        System::assert_has_event(
            Event::Paid {
                account: ALICE,
                role: earning(ALICE, 0, 0).role,
                amount: 500,
                worker: WORKER,
                batch: 1,
                revision: 7,
            }
            .into(),
        );
        System::assert_last_event(
            Event::Claimed {
                account: ALICE,
                amount: 500,
            }
            .into(),
        );
        assert_noop!(claim(ALICE), Error::<Test>::NothingVested);
        System::set_block_number(9);
        assert_ok!(claim(ALICE));
        assert_noop!(claim(ALICE), Error::<Test>::NothingToClaim);
        assert_eq!(Balances::free_balance(ALICE) - before, 540);
    });
}

#[test]
fn nobody_claims_what_another_earned() {
    run(|| {
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 500, 1)));
        assert_noop!(claim(BOB), Error::<Test>::NothingToClaim);
        assert_noop!(
            Payouts::claim(RuntimeOrigin::none()),
            sp_runtime::DispatchError::BadOrigin
        );
    });
}

#[test]
fn a_claim_is_bounded_and_takes_the_earliest_first() {
    run(|| {
        let more = u64::from(MAX_PAID) + 6;
        // Blocks whose order by little-endian bytes differs from their order by number.
        for batch in 1..=more {
            let late = Earning {
                batch,
                ..earning(ALICE, 1_000, 256 - batch as u32)
            };
            assert_ok!(Payouts::earn(&ESCROW, late));
        }
        System::set_block_number(256);
        let before = Balances::free_balance(ALICE);
        let used = claim(ALICE).unwrap().actual_weight;
        assert_eq!(used, Some(<() as crate::WeightInfo>::claim(MAX_PAID)));
        let paid = Balances::free_balance(ALICE) - before;
        assert_eq!(paid, 1_000 * u128::from(MAX_PAID));
        let left: Vec<_> = Payouts::earnings_of(&ALICE)
            .iter()
            .map(|entry| entry.vests_at)
            .collect();
        assert_eq!(left, [250, 251, 252, 253, 254, 255]);
        let used = claim(ALICE).unwrap().actual_weight;
        assert_eq!(used, Some(<() as crate::WeightInfo>::claim(6)));
        assert!(Payouts::earnings_of(&ALICE).is_empty());
    });
}

#[test]
fn an_earning_below_the_least_balance_waits_for_its_account() {
    run(|| {
        assert_ok!(Payouts::earn(&ESCROW, earning(NEW, LEAST - 1, 1)));
        assert_noop!(claim(NEW), Error::<Test>::BelowMinimum);
        assert_eq!(Payouts::earnings_of(&NEW).len(), 1);
        // One planck more, and it makes the account.
        assert_ok!(Payouts::earn(&ESCROW, earning(NEW, 1, 1)));
        assert_ok!(claim(NEW));
        assert_eq!(Balances::free_balance(NEW), LEAST);
    });
}

#[test]
fn the_smallest_earning_enters_an_empty_pot_and_leaves_it() {
    run(|| {
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 1, 1)));
        let before = Balances::free_balance(ALICE);
        assert_ok!(claim(ALICE));
        assert_eq!(Balances::free_balance(ALICE), before + 1);
        assert_eq!(Balances::free_balance(Payouts::pot()), LEAST);
    });
}
