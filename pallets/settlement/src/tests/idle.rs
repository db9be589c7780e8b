//! Work done with what blocks leave over.

use super::kit::*;
use crate::{mock::*, Agenda, BatchState, Batches, Event, WeightInfo};
use frame_support::{assert_ok, traits::Hooks, weights::Weight};
use openledger_primitives::batch::PAGE;
use openledger_traits::BondLedger;

fn idle(weight: Weight) -> Weight {
    Settlement::on_idle(System::block_number(), weight)
}

#[test]
fn idle_blocks_settle_and_release() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        assert_ok!(submit(&batch(&[answer(id)])));
        assert_ok!(submit(&batch(&[answer(id)])));
        go_to(21);
        idle(Weight::MAX);
        assert_eq!(
            Batches::<Test>::get(WORKER, 1).unwrap().state,
            BatchState::Submitted
        );
        go_to(22);
        idle(Weight::MAX);
        for sequence in [1, 2] {
            assert_eq!(
                Batches::<Test>::get(WORKER, sequence).unwrap().state,
                BatchState::Settled
            );
        }
        check();
        go_to(31);
        idle(Weight::MAX);
        assert_eq!(Bonds::reserved(&WORKER), 4 * OPEN);
        go_to(32);
        idle(Weight::MAX);
        assert_eq!(Bonds::reserved(&WORKER), 0);
        assert_eq!(Batches::<Test>::iter().count(), 0);
        assert_eq!(Agenda::<Test>::iter().count(), 0);
    });
}

#[test]
fn idle_work_keeps_within_what_is_left() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        for contribution in 1_000..1_130 {
            Tables::own(contribution, CAROL, version(1));
        }
        assert_ok!(submit(&batch(&[Answer {
            credits: (1_000..1_130).map(|id| (id, 2)).collect(),
            ..answer(id)
        }])));
        go_to(22);
        assert_eq!(idle(Weight::zero()), Weight::zero());
        let step =
            <() as WeightInfo>::settle_page(PAGE).saturating_add(<() as WeightInfo>::next_due());
        for cursor in 1..=3 {
            let used = idle(step);
            assert!(used.all_lte(step));
            assert_eq!(Batches::<Test>::get(WORKER, 1).unwrap().cursor, cursor);
        }
    });
}

#[test]
fn a_batch_that_cannot_be_settled_does_not_hold_up_others() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        assert_ok!(submit(&batch(&[answer(id)])));
        assert_ok!(submit(&batch(&[answer(id)])));
        Batches::<Test>::mutate(WORKER, 1, |batch| {
            batch.as_mut().unwrap().open_disputes = 1;
        });
        go_to(22);
        idle(Weight::MAX);
        System::assert_has_event(
            Event::BatchPostponed {
                worker: WORKER,
                sequence: 1,
                due: 122,
                error: crate::Error::<Test>::Disputed.into(),
            }
            .into(),
        );
        assert_eq!(
            Batches::<Test>::get(WORKER, 2).unwrap().state,
            BatchState::Settled
        );
        Batches::<Test>::mutate(WORKER, 1, |batch| {
            batch.as_mut().unwrap().open_disputes = 0;
        });
        go_to(122);
        idle(Weight::MAX);
        // Settled, and released at once: its liability is long over.
        assert!(!Batches::<Test>::contains_key(WORKER, 1));
    });
}

#[test]
fn an_entry_without_a_batch_is_struck() {
    run(|| {
        Agenda::<Test>::insert(crate::Due::from(1), (WORKER, 9), ());
        idle(Weight::from_parts(10_000_000_000_000, u64::MAX));
        assert_eq!(Agenda::<Test>::iter().count(), 0);
    });
}
