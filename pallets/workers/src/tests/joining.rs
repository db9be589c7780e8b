//! Joining, updating and heartbeats.

use crate::{mock::*, Capability, Endpoint, Error, Event, Standing};
use frame_support::{assert_noop, assert_ok};
use openledger_primitives::voucher::EvidenceClass;
use openledger_traits::{mocks::MockParameters, BondLedger, WorkerRegistry};
use sp_runtime::{DispatchError, TokenError};

type Refused = Error<Test>;

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

#[test]
fn a_worker_joins_with_a_bond_and_a_key_of_its_own() {
    run(|| {
        assert_ok!(Workers::join(
            alice(),
            MIN,
            ALICE_KEY,
            endpoint(),
            capability()
        ));
        assert!(Workers::is_active(&ALICE));
        assert_eq!(Bonds::own(&ALICE), MIN);
        assert_eq!(Workers::worker_of_key(&ALICE_KEY), Some((ALICE, 0)));
        assert_eq!(Workers::worker_of_key(&ALICE), None);
        System::assert_last_event(
            Event::<Test>::Joined {
                worker: ALICE,
                service_key: ALICE_KEY,
            }
            .into(),
        );
    });
}

#[test]
fn stake_put_up_before_counts() {
    run(|| {
        assert_ok!(Bonds::bond_more(alice(), MIN - 1));
        assert_noop!(
            Workers::join(alice(), 0, ALICE_KEY, endpoint(), capability()),
            Refused::BondTooSmall
        );
        assert_ok!(Workers::join(
            alice(),
            1,
            ALICE_KEY,
            endpoint(),
            capability()
        ));
    });
}

#[test]
fn joining_is_refused_and_changes_nothing() {
    run(|| {
        let join = |bond, key, endpoint: &[u8], capability| {
            let endpoint: Endpoint = endpoint.to_vec().try_into().unwrap();
            Workers::join(alice(), bond, key, endpoint, capability)
        };
        let good = endpoint().into_inner();
        assert_noop!(
            join(MIN - 1, ALICE_KEY, &good, capability()),
            Refused::BondTooSmall
        );
        assert_noop!(
            join(RICH + 1, ALICE_KEY, &good, capability()),
            TokenError::FundsUnavailable
        );
        assert_noop!(
            join(MIN, ALICE, &good, capability()),
            Refused::KeyIsOwnAccount
        );
        for bad in [
            b"".as_slice(),
            b"http://",
            b"ftp://host",
            b"https://a host",
            b"http://\xff",
        ] {
            assert_noop!(
                join(MIN, ALICE_KEY, bad, capability()),
                Refused::BadEndpoint
            );
        }
        for bad in [
            Capability {
                max_batch: 0,
                ..capability()
            },
            Capability {
                memory_mib: 0,
                ..capability()
            },
            Capability {
                engine: Default::default(),
                ..capability()
            },
            Capability {
                engine: b"a\nb".to_vec().try_into().unwrap(),
                ..capability()
            },
        ] {
            assert_noop!(join(MIN, ALICE_KEY, &good, bad), Refused::BadCapability);
        }
        assert_noop!(
            Workers::join(
                RuntimeOrigin::none(),
                MIN,
                ALICE_KEY,
                endpoint(),
                capability()
            ),
            DispatchError::BadOrigin
        );
        join(MIN, ALICE_KEY, &good, capability()).unwrap();
        assert_noop!(
            join(MIN, BOB_KEY, &good, capability()),
            Refused::AlreadyJoined
        );
    });
}

#[test]
fn a_worker_below_the_least_bond_gets_no_new_channels() {
    run(|| {
        join(ALICE, ALICE_KEY);
        assert_ok!(Bonds::thaw(alice(), 1));
        assert!(!Workers::is_active(&ALICE));
        assert_ok!(Bonds::bond_more(alice(), 1));
        assert!(Workers::is_active(&ALICE));
        MockParameters::mutate(|set| set.bonds.min_worker_bond = 2 * MIN);
        assert!(!Workers::is_active(&ALICE));
    });
}

#[test]
fn a_worker_takes_on_channels_up_to_the_evidence_class_that_it_announces_now() {
    run(|| {
        assert_eq!(Workers::evidence(&ALICE), None);
        join(ALICE, ALICE_KEY);
        assert_eq!(Workers::evidence(&ALICE), Some(EvidenceClass::Open));
        let sealed = Capability {
            evidence: EvidenceClass::Sealed,
            ..capability()
        };
        assert_ok!(Workers::update(alice(), endpoint(), sealed));
        assert_eq!(Workers::evidence(&ALICE), Some(EvidenceClass::Sealed));
        assert_ok!(Workers::drain(alice()));
        assert_eq!(Workers::evidence(&ALICE), None);
    });
}

#[test]
fn a_heartbeat_comes_from_the_worker_or_its_key_and_nobody_else() {
    run(|| {
        join(ALICE, ALICE_KEY);
        System::set_block_number(7);
        assert_ok!(Workers::heartbeat(RuntimeOrigin::signed(ALICE_KEY)));
        assert_eq!(Workers::info(ALICE).unwrap().last_heartbeat, 7);
        System::set_block_number(9);
        assert_ok!(Workers::heartbeat(alice()));
        assert_eq!(Workers::info(ALICE).unwrap().last_heartbeat, 9);
        assert_noop!(
            Workers::heartbeat(RuntimeOrigin::signed(BOB)),
            Refused::NotWorker
        );
    });
}

#[test]
fn a_worker_changes_its_description_and_its_key_cannot() {
    run(|| {
        join(ALICE, ALICE_KEY);
        let moved: Endpoint = b"https://worker.example".to_vec().try_into().unwrap();
        assert_ok!(Workers::update(alice(), moved.clone(), capability()));
        let info = Workers::info(ALICE).unwrap();
        assert_eq!(info.endpoint, moved);
        assert_eq!(info.standing, Standing::Active);
        assert_noop!(
            Workers::update(RuntimeOrigin::signed(ALICE_KEY), endpoint(), capability()),
            Refused::NotWorker
        );
        assert_noop!(
            Workers::update(alice(), Endpoint::default(), capability()),
            Refused::BadEndpoint
        );
    });
}
