//! What a batch says of itself.

use super::kit::*;
use crate::{mock::*, Batches, Error, Event, HoldReason};
use frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold};
use openledger_primitives::batch::batch_hash;
use openledger_traits::BondLedger;

#[test]
fn a_batch_moves_fees_into_escrow_and_reserves_twice_as_much() {
    run(|| {
        let id = open(ALICE, 100 * OPEN, 2);
        let held = Balances::balance_on_hold(&HoldReason::Channel.into(), &ALICE);
        let answers = [
            answer(id),
            answer(id),
            Answer {
                lane: 1,
                revision: BASE,
                ..answer(id)
            },
        ];
        let made = batch(&answers);
        assert_ok!(submit(&made));
        System::assert_last_event(
            Event::BatchSubmitted {
                worker: WORKER,
                sequence: 1,
                fee: 3 * OPEN,
                count: 3,
                window_end: 21,
            }
            .into(),
        );
        assert_eq!(
            held - Balances::balance_on_hold(&HoldReason::Channel.into(), &ALICE),
            3 * OPEN
        );
        assert_eq!(
            Balances::free_balance(Settlement::escrow()),
            LEAST + 3 * OPEN
        );
        assert_eq!(Bonds::reserved(&WORKER), 6 * OPEN);
        let stored = Batches::<Test>::get(WORKER, 1).unwrap();
        assert_eq!(
            stored.hash,
            batch_hash(WORKER.as_ref(), &made.header, &stored.roots)
        );
        assert_eq!(
            (stored.roots.claims.sum, stored.roots.claims.count),
            (3 * OPEN, 3)
        );
        assert_eq!(
            (stored.roots.usage.sum, stored.roots.usage.count),
            (3 * OPEN, 3)
        );
        assert_eq!((stored.window_end, stored.liability_end), (21, 31));
        assert_eq!(Settlement::next_batch(&WORKER), (2, stored.hash));
    });
}

#[test]
fn only_the_worker_and_its_keys_submit() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let made = batch(&[answer(id)]);
        assert_noop!(submit_as(BOB, &made), Error::<Test>::NotWorker);
        assert_noop!(submit_as(OTHER_WORKER, &made), Error::<Test>::NotWorker);
        assert_ok!(submit_as(WORKER, &made));
        assert_ok!(submit_as(WORKER_KEY, &batch(&[answer(id)])));
    });
}

#[test]
fn a_worker_that_drains_is_still_paid() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        Tables::drain(&WORKER);
        assert_ok!(submit(&batch(&[answer(id)])));
    });
}

#[test]
fn a_header_that_does_not_follow_is_refused() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let with = |change: fn(&mut Submission)| {
            let mut made = batch(&[answer(id)]);
            change(&mut made);
            made
        };
        refused(&with(|made| made.header.version = 2), Error::HeaderVersion);
        refused(&with(|made| made.header.sequence = 2), Error::BatchSequence);
        refused(
            &with(|made| made.header.parent = [1; 32]),
            Error::BatchParent,
        );
        refused(&with(|made| made.header.epoch = 3), Error::BatchEpoch);
        refused(&with(|made| made.header.epoch = 6), Error::BatchEpoch);
        refused(&with(|made| made.claims.clear()), Error::EmptyBatch);
        assert_ok!(submit(&with(|made| made.header.epoch = 4)));
        // The chain of parents goes on.
        refused(
            &with(|made| made.header.parent = [0; 32]),
            Error::BatchParent,
        );
    });
}

#[test]
fn sums_that_differ() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let with = |change: fn(&mut Submission)| {
            let mut made = batch(&[answer(id)]);
            change(&mut made);
            sign(&mut made.claims[0], 1);
            made
        };
        refused(
            &with(|made| made.header.fee += 1),
            Error::ClaimsDifferFromFee,
        );
        // Less claimed than used: the fees that usage splits are not all there.
        refused(
            &with(|made| {
                made.claims[0].cumulative -= 1;
                made.header.fee -= 1;
                made.claims[0].voucher.prev_cum = 0;
            }),
            Error::UsageDiffersFromFee,
        );
        refused(&with(|made| made.header.count = 2), Error::CountsDiffer);
        refused(
            &with(|made| {
                made.usage[0].count = 2;
                made.header.count = 2;
            }),
            Error::CountsDiffer,
        );
    });
}

#[test]
fn a_worker_has_so_many_batches_open() {
    run(|| {
        let id = open(ALICE, 1_000 * OPEN, 1);
        let small = Answer {
            tokens_in: 1,
            tokens_out: 0,
            ..answer(id)
        };
        for _ in 0..crate::MAX_OPEN_BATCHES {
            assert_ok!(submit(&batch(std::slice::from_ref(&small))));
        }
        refused(&batch(&[small]), Error::TooManyBatches);
    });
}

/// It would take space and idle time that nobody pays for.
#[test]
fn a_batch_that_pays_nobody() {
    run(|| {
        let id = open(ALICE, 100 * OPEN, 2);
        let free = Answer {
            tokens_in: 0,
            tokens_out: 0,
            ..answer(id)
        };
        refused(&batch(std::slice::from_ref(&free)), Error::EmptyBatch);
        assert_ok!(submit(&batch(&[free, answer(id)])));
    });
}
