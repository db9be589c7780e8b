//! Credits that are refused.

use super::kit::*;
use crate::{mock::*, Error};
use frame_support::assert_ok;
use openledger_economics::split_fee;
use openledger_primitives::{batch::Credit, receipt::CreditReason, Balance};

fn share() -> Balance {
    split_fee(OPEN, &SPLIT).contributors
}

fn with_channel(test: impl FnOnce()) {
    run(|| {
        open(ALICE, 100 * OPEN, 4);
        test();
    });
}

/// A batch of one answer that credits so.
fn crediting(credits: &[(u64, Balance)]) -> Submission {
    batch(&[Answer {
        credits: credits.to_vec(),
        ..answer(0)
    }])
}

fn corrupted(change: impl FnOnce(&mut Vec<Credit>)) -> Submission {
    let mut made = crediting(&[(CAROLS, 5), (DAVES, 7)]);
    change(&mut made.credits);
    made
}

#[test]
fn a_credit_outside_the_revisions_versions() {
    with_channel(|| {
        refused(&crediting(&[(STRAY, 1)]), Error::CreditOutsideVersions);
        refused(&crediting(&[(99, 1)]), Error::CreditOutsideVersions);
    });
}

#[test]
fn a_credit_of_nothing() {
    with_channel(|| refused(&crediting(&[(CAROLS, 0)]), Error::EmptyLine));
}

#[test]
fn credits_above_the_data_share() {
    with_channel(|| {
        let all = share();
        refused(
            &crediting(&[(CAROLS, all), (DAVES, 1)]),
            Error::CreditsAboveShare,
        );
        refused(
            &crediting(&[(CAROLS, Balance::MAX), (DAVES, 1)]),
            Error::Overflow,
        );
        assert_ok!(submit(&crediting(&[(CAROLS, all - 1), (DAVES, 1)])));
    });
}

#[test]
fn a_share_covers_the_revision_at_all_its_terms() {
    with_channel(|| {
        let later = Answer {
            terms: 1,
            credits: vec![(CAROLS, 3 * share())],
            ..answer(0)
        };
        assert_ok!(submit(&batch(&[answer(0), later])));
    });
}

#[test]
fn a_base_credits_nobody() {
    with_channel(|| {
        let mut made = batch(&[Answer {
            revision: BASE,
            ..answer(0)
        }]);
        made.credits = corrupted(|_| ()).credits;
        for credit in &mut made.credits {
            credit.revision = BASE;
        }
        refused(&made, Error::CreditOutsideVersions);
    });
}

#[test]
fn a_credit_of_a_revision_that_is_not_used() {
    with_channel(|| {
        for revision in [1, BASE] {
            refused(
                &corrupted(|credits| {
                    credits.truncate(1);
                    credits[0].revision = revision;
                }),
                Error::CreditWithoutUsage,
            );
        }
    });
}

#[test]
fn credits_out_of_order_twice_empty_or_of_another_reason() {
    with_channel(|| {
        refused(
            &corrupted(|credits| credits.reverse()),
            Error::CreditsUnsorted,
        );
        refused(
            &corrupted(|credits| credits[1] = credits[0]),
            Error::CreditsUnsorted,
        );
        refused(&corrupted(|credits| credits[0].count = 0), Error::EmptyLine);
        for reason in [CreditReason::Influence, CreditReason::Pool] {
            refused(
                &corrupted(|credits| credits[0].reason = reason),
                Error::CreditReason,
            );
        }
    });
}
