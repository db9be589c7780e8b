//! Named attacks on settlement.

use super::kit::*;
use crate::{mock::*, Error, HoldReason};
use frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold};
use openledger_primitives::{batch::claims_root, Balance};
use openledger_traits::{mocks::MockParameters, BondLedger};

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

/// A worker claims all that a voucher allowed instead of what was delivered, again and again. What
/// the next voucher acknowledges stays the consumer's, so the excess of one voucher is at most its
/// own `max_fee` and never adds up.
#[test]
fn headroom_claim() {
    run(|| {
        let id = open(ALICE, 100 * OPEN, 1);
        // The voucher allowed two OPEN; one was delivered; two are claimed.
        let mut greedy = batch(&[Answer {
            tokens_in: 2_000,
            tokens_out: 0,
            ..answer(id)
        }]);
        assert_eq!(greedy.claims[0].voucher.max_fee, 2 * OPEN);
        assert_ok!(submit(&greedy));
        // The consumer accepted a receipt of one OPEN, and signs the next voucher on it: the worker
        // has been paid one OPEN ahead, and gets that much less.
        greedy = batch(&[Answer {
            tokens_in: 2_000,
            tokens_out: 0,
            ..answer(id)
        }]);
        greedy.claims[0].voucher.prev_cum = OPEN;
        sign(&mut greedy.claims[0], 1);
        assert_eq!(greedy.claims[0].cumulative, 4 * OPEN);
        refused(&greedy, Error::FeeAboveMax);
        // In all, acknowledged and allowed is the most.
        assert_eq!(greedy.claims[0].voucher.prev_cum + 2 * OPEN, 3 * OPEN);
        let mut within = batch(&[Answer {
            tokens_in: 1_000,
            tokens_out: 0,
            ..answer(id)
        }]);
        within.claims[0].voucher.prev_cum = OPEN;
        within.claims[0].voucher.max_fee = 2 * OPEN;
        sign(&mut within.claims[0], 1);
        assert_ok!(submit(&within));
    });
}

/// The same voucher on another lane, another channel, after a reopening, on another fork.
#[test]
fn replay() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 2);
        let first = batch(&[answer(id)]);
        assert_ok!(submit(&first));
        let replayed = |answer: Answer| {
            let mut made = batch(&[answer]);
            made.claims[0].voucher = first.claims[0].voucher;
            made.claims[0].signature = first.claims[0].signature;
            made
        };
        // The same sequence again, and as if it were the next.
        let mut again = replayed(answer(id));
        refused(&again, Error::VoucherSequence);
        again.claims[0].sequence_to = 1;
        refused(&again, Error::SequenceRepeated);
        refused(
            &replayed(Answer {
                lane: 1,
                ..answer(id)
            }),
            Error::VoucherLane,
        );
        // Closed and opened again: another channel.
        assert_ok!(Settlement::close_channel(alice(), id));
        go_to(22);
        assert_ok!(Settlement::finish_close(alice(), id));
        let reopened = open(ALICE, 10 * OPEN, 2);
        refused(&replayed(answer(reopened)), Error::VoucherChannel);
        // Another fork.
        let before_fork = batch(&[answer(reopened)]);
        MockParameters::mutate(|set| set.settlement.fork_nonce = 1);
        refused(&before_fork, Error::VoucherDomain);
        assert_ok!(submit(&batch(&[answer(reopened)])));
    });
}

/// A whole batch, submitted twice.
#[test]
fn duplicate_leaf_across_epochs() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let first = batch(&[answer(id), answer(id)]);
        assert_ok!(submit(&first));
        Epoch::set(6);
        refused(&first, Error::BatchSequence);
        let mut again = first.clone();
        again.header = batch(&[answer(id), answer(id)]).header;
        refused(&again, Error::SequenceRepeated);
        // One leaf of it again, beside a new one.
        let mut overlapping = batch(&[answer(id), answer(id)]);
        overlapping.claims[0].count = 3;
        refused(&overlapping, Error::SequenceCount);
    });
}

/// A consumer revokes its signer as soon as it has its answer.
#[test]
fn signer_revoke_race() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let delivered = batch(&[answer(id)]);
        assert_ok!(Settlement::revoke_signer(alice(), id, key(1)));
        go_to(11);
        assert_ok!(submit(&delivered));
    });
}

/// A consumer takes the deposit back, or closes, as soon as it has its answer.
#[test]
fn withdraw_race() {
    run(|| {
        let id = open(ALICE, OPEN, 1);
        let delivered = batch(&[answer(id)]);
        assert_ok!(Settlement::cut_deposit(alice(), id, OPEN));
        assert_noop!(
            Settlement::finish_cut(alice(), id),
            Error::<Test>::CutNotEffective
        );
        assert_ok!(Settlement::close_channel(alice(), id));
        assert_noop!(
            Settlement::finish_close(alice(), id),
            Error::<Test>::ClaimsOpen
        );
        // The hold is not the consumer's to spend.
        assert!(Balances::transfer_all(alice(), BOB, false).is_ok());
        assert_eq!(
            Balances::balance_on_hold(&HoldReason::Channel.into(), &ALICE),
            OPEN + OPEN / 10
        );
        assert_ok!(submit(&delivered));
    });
}

/// A contributor withdraws as soon as an answer credits it, to keep the worker from being paid.
#[test]
fn withdrawn_credit_race() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let delivered = batch(&[Answer {
            credits: vec![(CAROLS, 1_000), (DAVES, 33)],
            ..answer(id)
        }]);
        Tables::withdraw(CAROLS);
        assert_ok!(submit(&delivered));
        go_to(22);
        settle(1);
        assert_eq!(Payouts::earnings_of(&CAROL).len(), 0);
        assert_eq!(Payouts::earnings_of(&DAVE).len(), 1);
        assert_eq!(Payouts::earnings_of(&WORKER).len(), 1);
    });
}

/// A worker submits and takes its bond away before the batch can be challenged.
#[test]
fn submit_then_exit() {
    run(|| {
        let id = open(ALICE, 1_000 * OPEN, 1);
        assert_ok!(submit(&batch(&[Answer {
            tokens_in: 500_000,
            tokens_out: 0,
            ..answer(id)
        }])));
        // What is reserved does not thaw.
        assert!(Bonds::thaw_all(&WORKER).is_err());
        assert_eq!(Bonds::own(&WORKER), BOND);
        assert_eq!(Bonds::last_liable(&WORKER), 32);
    });
    run(|| {
        let id = open(ALICE, 1_000 * OPEN, 1);
        // Thawing already when the batch comes: the thaw ends, and the bond is still liable.
        assert_ok!(Bonds::thaw(RuntimeOrigin::signed(WORKER), BOND - 10 * OPEN));
        go_to(45);
        assert_ok!(submit(&batch(&[answer(id)])));
        go_to(60);
        assert!(Bonds::withdraw(RuntimeOrigin::signed(WORKER)).is_err());
        go_to(76);
        assert_ok!(Bonds::withdraw(RuntimeOrigin::signed(WORKER)));
    });
}

/// A worker keeps an old voucher back, and brings it when newer ones were claimed, or too late.
#[test]
fn stale_voucher() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let old = batch(&[answer(id)]);
        assert_ok!(submit(&batch(&[answer(id), answer(id)])));
        let mut stale = batch(&[answer(id)]);
        stale.claims = old.claims;
        refused(&stale, Error::SequenceRepeated);
        let kept = batch(&[answer(id)]);
        go_to(100);
        refused(&kept, Error::VoucherExpired);
    });
}

/// Amounts whose sum wraps around to the fee.
#[test]
fn merkle_sum_overflow() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 2);
        let second = Answer {
            lane: 1,
            ..answer(id)
        };
        let honest = batch(&[answer(id), second]);
        let wrapping = [Balance::MAX, 2 * OPEN + 1];
        assert_eq!(wrapping[0].wrapping_add(wrapping[1]), honest.header.fee);
        assert_eq!(claims_root(honest.claims.iter().zip(wrapping)), None);
        let mut made = honest.clone();
        for (claim, amount) in made.claims.iter_mut().zip(wrapping) {
            claim.cumulative = amount;
            claim.voucher.prev_cum = 0;
            claim.voucher.max_fee = amount;
            sign(claim, 1);
        }
        // The first deposit that cannot pay stops it before any sum is made.
        refused(&made, Error::DepositTooSmall);
        let mut made = honest;
        made.usage[0].fee = Balance::MAX;
        refused(&made, Error::FeeNotTokensTimesPrice);
    });
}

/// A worker claims vouchers for another revision than the one that they name.
#[test]
fn revision_swap() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let mut swapped = batch(&[answer(id)]);
        swapped.usage[0].revision = BASE;
        refused(&swapped, Error::VoucherNotInUsage);
    });
}

/// A worker bills more tokens than fit the fee, or fewer, to shift shares.
#[test]
fn token_inflate() {
    run(|| {
        let id = open(ALICE, 10 * OPEN, 1);
        let mut inflated = batch(&[answer(id)]);
        inflated.usage[0].tokens_out += 100;
        inflated.usage[0].fee += OPEN / 5;
        inflated.header.fee += OPEN / 5;
        inflated.claims[0].cumulative += OPEN / 5;
        refused(&inflated, Error::FeeAboveMax);
    });
}
