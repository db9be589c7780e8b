//! Admitting and rejecting.

use crate::{mock::*, Contributions, Error, Event, HoldReason, RejectReason, Stage, MAX_ADMIT};
use frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold, BoundedVec};

type Refused = Error<Test>;

fn list(ids: &[u64]) -> BoundedVec<u64, frame_support::traits::ConstU32<MAX_ADMIT>> {
    ids.to_vec().try_into().unwrap()
}

fn bonded(who: u64) -> u128 {
    Balances::balance_on_hold(&HoldReason::ContributionBond.into(), &who)
}

#[test]
fn admission_gives_the_bonds_back() {
    run(|| {
        let datanet = founded();
        let one = contributed(ALICE, datanet, 1);
        let two = contributed(BOB, datanet, 2);
        assert_ok!(Datanets::admit(signed(OWNER), datanet, list(&[one, two])));
        assert_eq!((bonded(ALICE), bonded(BOB)), (0, 0));
        let stage = |id| Contributions::<Test>::get(id).unwrap().stage;
        assert_eq!(stage(one), Stage::Admitted { position: 0 });
        assert_eq!(stage(two), Stage::Admitted { position: 1 });
        System::assert_has_event(
            Event::<Test>::Admitted {
                datanet,
                contribution: one,
            }
            .into(),
        );
    });
}

#[test]
fn admission_is_all_or_nothing() {
    run(|| {
        let (datanet, other) = (founded(), founded());
        let one = contributed(ALICE, datanet, 1);
        let foreign = contributed(BOB, other, 2);
        let admit = |who, ids: &[u64]| Datanets::admit(signed(who), datanet, list(ids));
        assert_noop!(admit(ALICE, &[one]), Refused::NotOwner);
        assert_noop!(admit(OWNER, &[]), Refused::NothingNamed);
        assert_noop!(admit(OWNER, &[one, 77]), Refused::UnknownContribution);
        assert_noop!(admit(OWNER, &[one, foreign]), Refused::OtherDatanet);
        assert_noop!(admit(OWNER, &[one, one]), Refused::NotPending);
        assert_noop!(
            Datanets::admit(signed(OWNER), 9, list(&[one])),
            Refused::UnknownDatanet
        );
        assert_eq!(bonded(ALICE), BOND);
    });
}

#[test]
fn a_rejected_contribution_is_marked_and_can_be_repaired() {
    run(|| {
        let datanet = founded();
        let one = contributed(ALICE, datanet, 1);
        let reason = RejectReason::Malformed;
        assert_noop!(
            Datanets::reject(signed(ALICE), datanet, one, reason),
            Refused::NotOwner
        );
        assert_ok!(Datanets::reject(signed(OWNER), datanet, one, reason));
        System::assert_last_event(
            Event::<Test>::Rejected {
                datanet,
                contribution: one,
                reason,
            }
            .into(),
        );
        assert_eq!(
            Contributions::<Test>::get(one).unwrap().stage,
            Stage::Rejected { reason }
        );
        assert_eq!(bonded(ALICE), 0);
        assert_noop!(
            Datanets::reject(signed(OWNER), datanet, one, reason),
            Refused::NotPending
        );
        assert_noop!(
            Datanets::admit(signed(OWNER), datanet, list(&[one])),
            Refused::NotPending
        );
        contributed(ALICE, datanet, 1);
    });
}
