//! Contributing rows.

use crate::{mock::*, Contributions, Datanets as Stored, Error, Event, HoldReason, Stage, Status};
use frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold};
use openledger_primitives::{
    contribution::{Provenance, Submission},
    licence::Licence,
    merkle,
    row::MAX_ROW_BYTES,
};
use openledger_traits::mocks::MockParameters;
use sp_runtime::TokenError;

type Refused = Error<Test>;

fn bonded(who: u64) -> u128 {
    Balances::balance_on_hold(&HoldReason::ContributionBond.into(), &who)
}

#[test]
fn a_contribution_is_bonded_and_waits() {
    run(|| {
        let datanet = founded();
        let chosen = submission(1);
        assert_ok!(Datanets::contribute(signed(ALICE), datanet, chosen));
        let stored = Contributions::<Test>::get(0).unwrap();
        assert_eq!(stored.submission, chosen);
        assert_eq!(stored.owner, ALICE);
        assert_eq!(stored.stage, Stage::Pending);
        assert_eq!(stored.status, Status::Live);
        assert_eq!((stored.committed_at, stored.revealed_at), (1, 1));
        assert_eq!(bonded(ALICE), BOND);
        System::assert_last_event(
            Event::<Test>::Contributed {
                datanet,
                contribution: 0,
                owner: ALICE,
                content_root: chosen.content_root,
                rows: 3,
            }
            .into(),
        );
    });
}

#[test]
fn the_bond_follows_the_least_that_the_protocol_asks() {
    run(|| {
        let datanet = founded();
        MockParameters::mutate(|set| set.datanets.min_contribution_bond = 3 * BOND);
        contributed(ALICE, datanet, 1);
        assert_eq!(bonded(ALICE), 3 * BOND);
    });
}

#[test]
fn the_same_rows_are_refused_twice_in_a_datanet_and_not_in_another() {
    run(|| {
        let (one, other) = (founded(), founded());
        contributed(ALICE, one, 1);
        assert_noop!(
            Datanets::contribute(signed(BOB), one, submission(1)),
            Refused::AlreadyContributed
        );
        assert_ok!(Datanets::contribute(signed(BOB), other, submission(1)));
    });
}

#[test]
fn contributing_is_refused_and_changes_nothing() {
    run(|| {
        let datanet = founded();
        let promised = Stored::<Test>::get(datanet).unwrap().licence;
        let refused = |chosen, error: Refused| {
            assert_noop!(Datanets::contribute(signed(ALICE), datanet, chosen), error);
        };
        let good = submission(1);
        let rows = good.rows;
        refused(
            Submission {
                content_root: merkle::EMPTY,
                ..good
            },
            Refused::Empty,
        );
        refused(Submission { rows: 0, ..good }, Refused::Empty);
        refused(Submission { bytes: 0, ..good }, Refused::BadSize);
        refused(
            Submission {
                bytes: u64::from(rows) * MAX_ROW_BYTES as u64 + 1,
                ..good
            },
            Refused::BadSize,
        );
        refused(
            Submission {
                sketch_scheme: 2,
                ..good
            },
            Refused::UnknownSketchScheme,
        );
        refused(
            Submission {
                locator: [0; 32],
                ..good
            },
            Refused::LocatorMissing,
        );
        refused(
            Submission {
                provenance: Provenance::Licensed,
                ..good
            },
            Refused::RightsMissing,
        );
        refused(
            Submission {
                licence: Licence(1 << 31),
                ..good
            },
            Refused::UnknownPermission,
        );
        refused(
            Submission {
                licence: Licence(promised.0 & !Licence::COMMERCIAL.0),
                ..good
            },
            Refused::LicenceTooNarrow,
        );
        assert_noop!(
            Datanets::contribute(signed(ALICE), 9, good),
            Refused::UnknownDatanet
        );
        assert_noop!(
            Datanets::contribute(signed(99), datanet, good),
            TokenError::FundsUnavailable
        );
    });
}
