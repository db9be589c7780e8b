//! Usage lines that are refused.

use super::kit::*;
use crate::{mock::*, Error};
use frame_support::assert_ok;

fn with_channel(test: impl FnOnce()) {
    run(|| {
        open(ALICE, 100 * OPEN, 4);
        test();
    });
}

fn corrupted(change: impl FnOnce(&mut Submission)) -> Submission {
    let mut made = batch(&[answer(0)]);
    change(&mut made);
    made
}

#[test]
fn a_fee_that_is_not_tokens_times_price() {
    with_channel(|| {
        refused(
            &corrupted(|made| made.usage[0].tokens_out -= 1),
            Error::FeeNotTokensTimesPrice,
        );
        refused(
            &corrupted(|made| made.usage[0].tokens_in += 1),
            Error::FeeNotTokensTimesPrice,
        );
        refused(
            &corrupted(|made| made.usage[0].tokens_in = u64::MAX),
            Error::FeeNotTokensTimesPrice,
        );
    });
}

#[test]
fn unknown_model() {
    with_channel(|| {
        refused(
            &corrupted(|made| made.usage[0].revision = 99),
            Error::UnknownRevision,
        );
        refused(
            &corrupted(|made| made.usage[0].terms = 9),
            Error::UnknownRevision,
        );
    });
}

#[test]
fn terms_before_they_take_effect() {
    with_channel(|| {
        Tables::price(ADAPTER, 1, 2 * PRICE_IN, 2 * PRICE_OUT, 10);
        let later = Answer {
            terms: 1,
            ..answer(0)
        };
        go_to(9);
        refused(&batch(std::slice::from_ref(&later)), Error::UnknownRevision);
        go_to(10);
        assert_ok!(submit(&batch(&[later])));
    });
}

/// A worker and a consumer cannot trade on at terms that are over.
#[test]
fn terms_that_are_over() {
    with_channel(|| {
        Tables::end_terms(ADAPTER, 0, 8);
        go_to(8);
        assert_ok!(submit(&batch(&[answer(0)])));
        go_to(9);
        refused(&batch(&[answer(0)]), Error::TermsOver);
    });
}

#[test]
fn lines_out_of_order_twice_or_empty() {
    with_channel(|| {
        let both = [
            answer(0),
            Answer {
                revision: BASE,
                ..answer(0)
            },
        ];
        let mut swapped = batch(&both);
        swapped.usage.reverse();
        refused(&swapped, Error::UsageUnsorted);
        refused(
            &corrupted(|made| made.usage.push(made.usage[0])),
            Error::UsageUnsorted,
        );
        refused(&corrupted(|made| made.usage[0].count = 0), Error::EmptyLine);
    });
}

#[test]
fn one_revision_at_two_terms() {
    with_channel(|| {
        let later = Answer {
            terms: 1,
            ..answer(0)
        };
        let made = batch(&[answer(0), later]);
        assert_eq!(made.usage.len(), 2);
        assert_eq!(made.header.fee, 3 * OPEN);
        assert_ok!(submit(&made));
    });
}
