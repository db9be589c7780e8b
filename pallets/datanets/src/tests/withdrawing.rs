//! Taking a contribution back, at every stage.

use crate::{
    mock::*, ContentRoots, Contributions, Datanets as Stored, Error, Event, HoldReason,
    RejectReason, Status, Versions,
};
use frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold};

type Refused = Error<Test>;

#[test]
fn what_is_pending_or_rejected_is_forgotten() {
    run(|| {
        let datanet = founded();
        let pending = contributed(ALICE, datanet, 1);
        let rejected = contributed(ALICE, datanet, 2);
        assert_ok!(Datanets::reject(
            signed(OWNER),
            datanet,
            rejected,
            RejectReason::OffTopic
        ));
        for id in [pending, rejected] {
            assert_ok!(Datanets::withdraw(signed(ALICE), id));
            System::assert_last_event(
                Event::<Test>::Withdrawn {
                    datanet,
                    contribution: id,
                }
                .into(),
            );
        }
        assert_eq!(Contributions::<Test>::iter().count(), 0);
        assert_eq!(ContentRoots::<Test>::iter().count(), 0);
        let bond = HoldReason::ContributionBond.into();
        assert_eq!(Balances::balance_on_hold(&bond, &ALICE), 0);
    });
}

#[test]
fn what_is_admitted_leaves_the_queue_without_a_hole() {
    run(|| {
        let datanet = founded();
        let ids: Vec<u64> = (0..4).map(|seed| admitted(ALICE, datanet, seed)).collect();
        for taken in [ids[2], ids[0]] {
            assert_ok!(Datanets::withdraw(signed(ALICE), taken));
            Datanets::do_try_state().unwrap();
        }
        seal(datanet);
        let mut sealed: Vec<u64> = Datanets::version_leaves(datanet, 1)
            .iter()
            .map(|leaf| leaf.contribution)
            .collect();
        sealed.sort_unstable();
        assert_eq!(sealed, vec![ids[1], ids[3]]);
    });
}

#[test]
fn an_emptied_queue_has_nothing_to_seal() {
    run(|| {
        let datanet = founded();
        let only = admitted(ALICE, datanet, 1);
        assert_ok!(Datanets::withdraw(signed(ALICE), only));
        assert_noop!(
            Datanets::seal_version(signed(OWNER), datanet),
            Refused::NothingToSeal
        );
        let net = Stored::<Test>::get(datanet).unwrap();
        assert_eq!(net.queue_from, net.queue_to);
    });
}

#[test]
fn what_is_sealed_stays_in_the_root_and_nobody_takes_its_place() {
    run(|| {
        let datanet = founded();
        let one = admitted(ALICE, datanet, 1);
        seal(datanet);
        let version = Versions::<Test>::get(datanet, 1);
        assert_ok!(Datanets::withdraw(signed(ALICE), one));
        assert_eq!(Versions::<Test>::get(datanet, 1), version);
        assert_eq!(
            Contributions::<Test>::get(one).unwrap().status,
            Status::Withdrawn
        );
        assert_noop!(
            Datanets::contribute(signed(BOB), datanet, submission(1)),
            Refused::AlreadyContributed
        );
        assert_noop!(
            Datanets::withdraw(signed(ALICE), one),
            Refused::AlreadyWithdrawn
        );
    });
}

#[test]
fn only_the_contributor_takes_a_contribution_back() {
    run(|| {
        let datanet = founded();
        let one = contributed(ALICE, datanet, 1);
        for other in [BOB, OWNER] {
            assert_noop!(
                Datanets::withdraw(signed(other), one),
                Refused::NotContributor
            );
        }
        assert_noop!(
            Datanets::withdraw(signed(ALICE), 9),
            Refused::UnknownContribution
        );
    });
}
