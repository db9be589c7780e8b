//! Parts of fees coming in.

use crate::{mock::*, Event, Sums};
use frame_support::{assert_noop, assert_ok};
use openledger_traits::{mocks::MockParameters, Earning, Earnings, Role};
use sp_runtime::TokenError;

#[test]
fn an_earning_moves_into_the_pot_and_is_listed() {
    run(|| {
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 500, 8)));
        let listed = Payouts::earnings_of(&ALICE);
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].amount, listed[0].vests_at), (500, 8));
        assert_eq!(listed[0].role, earning(ALICE, 0, 0).role);
        assert!(!listed[0].vested);
        System::assert_has_event(
            Event::Earned {
                account: ALICE,
                role: listed[0].role,
                amount: 500,
                worker: WORKER,
                batch: 1,
                revision: 7,
                vests_at: 8,
            }
            .into(),
        );
    });
}

#[test]
fn amounts_of_one_line_add_up_and_others_stay_apart() {
    run(|| {
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 500, 8)));
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 70, 8)));
        let others = [
            Earning {
                role: Role::Developer,
                ..earning(ALICE, 1, 8)
            },
            Earning {
                batch: 2,
                ..earning(ALICE, 2, 8)
            },
            Earning {
                revision: 8,
                ..earning(ALICE, 3, 8)
            },
            Earning {
                worker: BOB,
                ..earning(ALICE, 4, 8)
            },
            earning(ALICE, 5, 9),
        ];
        for other in others {
            assert_ok!(Payouts::earn(&ESCROW, other));
        }
        let mut amounts: Vec<_> = Payouts::earnings_of(&ALICE)
            .iter()
            .map(|entry| entry.amount)
            .collect();
        amounts.sort_unstable();
        assert_eq!(amounts, [1, 2, 3, 4, 5, 570]);
    });
}

#[test]
fn nothing_is_owed_for_nothing() {
    run(|| {
        assert_ok!(Payouts::earn(&ESCROW, earning(ALICE, 0, 8)));
        assert_ok!(Payouts::pool(&ESCROW, 7, 0));
        assert_ok!(Payouts::protocol(&ESCROW, 0));
        assert!(Payouts::earnings_of(&ALICE).is_empty());
        assert_eq!(Sums::<Test>::get(), Default::default());
    });
}

#[test]
fn a_source_that_cannot_pay_changes_nothing() {
    run(|| {
        let more = 1_001 * OPEN;
        assert_noop!(
            Payouts::earn(&ESCROW, earning(ALICE, more, 8)),
            TokenError::FundsUnavailable
        );
        assert_noop!(
            Payouts::pool(&ESCROW, 7, more),
            TokenError::FundsUnavailable
        );
        assert_noop!(
            Payouts::protocol(&ESCROW, more * 2),
            TokenError::FundsUnavailable
        );
    });
}

#[test]
fn an_unattributed_part_goes_to_the_revisions_pool() {
    run(|| {
        assert_ok!(Payouts::pool(&ESCROW, 7, 30));
        assert_ok!(Payouts::pool(&ESCROW, 7, 12));
        assert_ok!(Payouts::pool(&ESCROW, 8, 1));
        assert_eq!((Payouts::pool_of(7), Payouts::pool_of(8)), (42, 1));
        System::assert_has_event(
            Event::Pooled {
                revision: 7,
                amount: 12,
            }
            .into(),
        );
    });
}

#[test]
fn of_the_protocols_part_the_larger_half_burns() {
    run(|| {
        let issued = Balances::total_issuance();
        assert_ok!(Payouts::protocol(&ESCROW, 7));
        assert_eq!(issued - Balances::total_issuance(), 4);
        assert_eq!((Payouts::totals().burned, Payouts::totals().kept), (4, 3));
        MockParameters::mutate(|set| set.payouts.protocol_burn_ppm = 1_000_000);
        assert_ok!(Payouts::protocol(&ESCROW, 7));
        assert_eq!((Payouts::totals().burned, Payouts::totals().kept), (11, 3));
    });
}
