//! Draining and leaving.

use crate::{mock::*, Error, KeyOwner, Keys, Providers, Served, Serving};
use frame_support::{assert_noop, assert_ok, traits::fungible::Inspect};
use openledger_traits::{
    mocks::{MockModels, MockParameters},
    BondLedger, SettlementParameters, WorkerRegistry,
};

type Refused = Error<Test>;

fn alice() -> RuntimeOrigin {
    RuntimeOrigin::signed(ALICE)
}

/// Goes to the first block at which a worker that began to drain in block 1 may leave: a revocation
/// takes the ten blocks in which what was delivered must be claimed.
fn wait_for_claims() {
    System::set_block_number(12);
}

#[test]
fn a_worker_leaves_nothing_behind_and_gets_its_bond_back() {
    run(|| {
        MockModels::publish(1);
        join(ALICE, ALICE_KEY);
        assert_ok!(Workers::serve(alice(), Served::try_from(vec![1]).unwrap()));
        assert_ok!(Workers::drain(alice()));
        assert!(!Workers::is_active(&ALICE));
        assert_eq!(Workers::worker_of_key(&ALICE_KEY), Some((ALICE, 0)));
        wait_for_claims();
        assert_ok!(Workers::leave(alice()));
        assert_eq!(Workers::worker_of_key(&ALICE_KEY), None);
        assert_eq!(Workers::info(ALICE), None);
        assert_eq!(Keys::<Test>::iter().count(), 0);
        assert_eq!(KeyOwner::<Test>::iter().count(), 0);
        assert_eq!(Serving::<Test>::iter().count(), 0);
        assert_eq!(Providers::<Test>::iter().count(), 0);
        System::set_block_number(62);
        assert_ok!(Bonds::withdraw(alice()));
        assert_eq!(Balances::balance(&ALICE), RICH);
    });
}

#[test]
fn a_worker_leaves_only_after_its_liabilities() {
    run(|| {
        join(ALICE, ALICE_KEY);
        assert_noop!(Workers::leave(alice()), Refused::NotDraining);
        assert_ok!(Workers::drain(alice()));
        assert_noop!(Workers::drain(alice()), Refused::AlreadyDraining);
        assert_ok!(Bonds::reserve(&ALICE, OPEN));
        assert_noop!(Workers::leave(alice()), Refused::Liable);
        Bonds::unreserve(&ALICE, OPEN);
        Bonds::liable_until(&ALICE, 30);
        System::set_block_number(29);
        assert_noop!(Workers::leave(alice()), Refused::Liable);
        System::set_block_number(30);
        assert_ok!(Workers::leave(alice()));
        assert_noop!(Workers::leave(alice()), Refused::NotWorker);
    });
}

/// Answers that were delivered and not yet submitted reserve nothing: leaving at once would let the
/// bond go before the batch that it must answer for.
#[test]
fn submit_then_exit() {
    for shorten in [
        |set: &mut SettlementParameters| set.voucher_grace = 5,
        |set: &mut SettlementParameters| set.revoke_delay = 5,
        |set: &mut SettlementParameters| set.close_delay = 5,
    ] {
        run(|| {
            MockParameters::mutate(|set| shorten(&mut set.settlement));
            join(ALICE, ALICE_KEY);
            System::set_block_number(7);
            assert_ok!(Workers::drain(alice()));
            assert_noop!(Workers::leave(alice()), Refused::MayBecomeLiable);
            // Still claimed in this block.
            System::set_block_number(12);
            assert_noop!(Workers::leave(alice()), Refused::MayBecomeLiable);
            System::set_block_number(13);
            assert_ok!(Workers::leave(alice()));
        });
    }
}

#[test]
fn a_worker_whose_stake_thaws_already_can_leave() {
    run(|| {
        join(ALICE, ALICE_KEY);
        assert_ok!(Bonds::thaw(alice(), MIN));
        assert_ok!(Workers::drain(alice()));
        wait_for_claims();
        assert_ok!(Workers::leave(alice()));
    });
}

/// Receipts from before it left name index 0; the key that comes after must not answer for them.
#[test]
fn who_left_can_join_again_and_no_key_index_comes_twice() {
    run(|| {
        join(ALICE, ALICE_KEY);
        assert_ok!(Workers::drain(alice()));
        wait_for_claims();
        assert_ok!(Workers::leave(alice()));
        join(ALICE, ALICE_KEY);
        assert_eq!(Workers::worker_of_key(&ALICE_KEY), Some((ALICE, 1)));
        assert_ok!(Workers::set_service_key(alice(), 13));
        assert_eq!(Workers::worker_of_key(&13), Some((ALICE, 2)));
    });
}

#[test]
fn only_the_worker_itself_drains_and_leaves() {
    run(|| {
        join(ALICE, ALICE_KEY);
        let key = RuntimeOrigin::signed(ALICE_KEY);
        assert_noop!(Workers::drain(key.clone()), Refused::NotWorker);
        assert_ok!(Workers::drain(alice()));
        assert_noop!(Workers::leave(key), Refused::NotWorker);
    });
}
