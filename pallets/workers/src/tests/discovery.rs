//! Announcing revisions and being found.

use crate::{mock::*, Error, Event, Providers, Served, Serving, MAX_SERVED};
use frame_support::{assert_noop, assert_ok};
use openledger_traits::mocks::{MockModels, MockParameters};
use openledger_traits::Parameters;

type Refused = Error<Test>;

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

fn revisions(ids: &[u64]) -> Served {
    ids.to_vec().try_into().unwrap()
}

fn found(revision: u64) -> Vec<u64> {
    Workers::find(revision)
        .into_iter()
        .map(|info| info.worker)
        .collect()
}

fn published() {
    for revision in 0..5 {
        MockModels::publish(revision);
    }
}

#[test]
fn a_worker_is_found_by_what_it_announces_now() {
    run(|| {
        published();
        join(ALICE, ALICE_KEY);
        assert_ok!(Workers::serve(
            RuntimeOrigin::signed(ALICE_KEY),
            revisions(&[3, 1, 3])
        ));
        assert_eq!(Workers::served_by(&ALICE).into_inner(), vec![1, 3]);
        System::assert_last_event(
            Event::<Test>::Serving {
                worker: ALICE,
                revisions: 2,
            }
            .into(),
        );
        assert_eq!(found(1), vec![ALICE]);
        assert_eq!(found(2), Vec::<u64>::new());
        assert_ok!(Workers::serve(alice(), revisions(&[2])));
        assert_eq!(found(1), Vec::<u64>::new());
        assert_eq!(found(2), vec![ALICE]);
        assert_ok!(Workers::serve(alice(), revisions(&[])));
        assert_eq!(Serving::<Test>::iter().count(), 0);
        assert_eq!(Providers::<Test>::iter().count(), 0);
    });
}

#[test]
fn the_largest_bond_comes_first_and_what_is_found_can_be_called() {
    run(|| {
        published();
        join(ALICE, ALICE_KEY);
        join(BOB, BOB_KEY);
        assert_ok!(Bonds::bond_more(RuntimeOrigin::signed(BOB), OPEN));
        for who in [ALICE, BOB] {
            assert_ok!(Workers::serve(RuntimeOrigin::signed(who), revisions(&[1])));
        }
        assert_eq!(found(1), vec![BOB, ALICE]);
        let first = Workers::find(1).remove(0);
        assert_eq!(first.endpoint, endpoint());
        assert_eq!(first.own_bond, MIN + OPEN);
        assert_eq!(first.service_keys[0].account, BOB_KEY);
    });
}

#[test]
fn the_silent_the_underbonded_and_the_draining_are_not_found() {
    run(|| {
        published();
        join(ALICE, ALICE_KEY);
        assert_ok!(Workers::serve(alice(), revisions(&[1])));
        let grace = u64::from(MockParameters::bonds().heartbeat_grace);
        System::set_block_number(1 + grace);
        assert_eq!(found(1), vec![ALICE]);
        System::set_block_number(2 + grace);
        assert_eq!(found(1), Vec::<u64>::new());
        assert_ok!(Workers::heartbeat(alice()));
        assert_eq!(found(1), vec![ALICE]);
        assert_ok!(Bonds::thaw(alice(), 1));
        assert_eq!(found(1), Vec::<u64>::new());
        assert_ok!(Bonds::bond_more(alice(), 1));
        assert_eq!(found(1), vec![ALICE]);
        assert_ok!(Workers::drain(alice()));
        assert_eq!(found(1), Vec::<u64>::new());
    });
}

#[test]
fn a_retired_revision_is_served_by_nobody() {
    run(|| {
        published();
        join(ALICE, ALICE_KEY);
        assert_ok!(Workers::serve(alice(), revisions(&[1])));
        MockModels::retire(1);
        assert_eq!(found(1), Vec::<u64>::new());
    });
}

#[test]
fn serving_is_refused_for_unknown_revisions_and_strangers() {
    run(|| {
        published();
        assert_noop!(Workers::serve(alice(), revisions(&[1])), Refused::NotWorker);
        join(ALICE, ALICE_KEY);
        assert_noop!(
            Workers::serve(alice(), revisions(&[1, 9])),
            Refused::UnknownRevision
        );
        assert!(Served::try_from(vec![0; MAX_SERVED as usize + 1]).is_err());
        assert_ok!(Workers::drain(alice()));
        assert_noop!(
            Workers::serve(alice(), revisions(&[1])),
            Refused::AlreadyDraining
        );
    });
}
