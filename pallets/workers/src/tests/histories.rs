//! Random histories: whatever two workers do in whatever order, keys, offers and bonds stay whole.

use crate::{mock::*, KeyOwner, Keys, Providers, Served, Serving};
use frame_support::traits::fungible::Inspect;
use openledger_traits::{mocks::MockModels, BondLedger, WorkerRegistry};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Join(u64, u64),
    SetKey(u64, u64),
    Serve(u64, Vec<u64>),
    Drain(u64),
    Leave(u64),
    Reserve(u64),
    Release(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let worker = || ALICE..=BOB;
    // The workers' own accounts are among the keys that are tried.
    let key = || prop_oneof![ALICE..=BOB, 10u64..16];
    prop_oneof![
        2 => (worker(), key()).prop_map(|(who, key)| Step::Join(who, key)),
        2 => (worker(), key()).prop_map(|(who, key)| Step::SetKey(who, key)),
        3 => (prop_oneof![worker(), 10u64..16], prop::collection::vec(0u64..6, 0..6))
            .prop_map(|(who, on)| Step::Serve(who, on)),
        1 => worker().prop_map(Step::Drain),
        1 => worker().prop_map(Step::Leave),
        1 => worker().prop_map(Step::Reserve),
        1 => worker().prop_map(Step::Release),
        2 => (1u64..80).prop_map(Step::Wait),
    ]
}

fn apply(step: Step) {
    // A refusal is as good as a success, as long as nothing breaks.
    let _ = match step {
        Step::Join(who, key) => Workers::join(signed(who), MIN, key, endpoint(), capability()),
        Step::SetKey(who, key) => Workers::set_service_key(signed(who), key),
        Step::Serve(who, on) => Workers::serve(signed(who), Served::try_from(on).unwrap())
            .map(|_| ())
            .map_err(|refused| refused.error),
        Step::Drain(who) => Workers::drain(signed(who))
            .map(|_| ())
            .map_err(|refused| refused.error),
        Step::Leave(who) => Workers::leave(signed(who)),
        Step::Reserve(who) => Bonds::reserve(&who, OPEN),
        Step::Release(who) => {
            Bonds::unreserve(&who, OPEN);
            Ok(())
        }
        Step::Wait(blocks) => {
            System::set_block_number(System::block_number() + blocks);
            Ok(())
        }
    };
}

fn signed(who: u64) -> RuntimeOrigin {
    RuntimeOrigin::signed(who)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_history_breaks_the_registry(steps in prop::collection::vec(step(), 1..60)) {
        ext().execute_with(|| {
            for revision in 0..5 {
                MockModels::publish(revision);
            }
            for step in steps {
                apply(step);
                Workers::do_try_state().unwrap();
                Bonds::do_try_state().unwrap();
            }
            // Whoever is left can leave, and nothing of it stays.
            for who in [ALICE, BOB] {
                Bonds::unreserve(&who, u128::MAX);
                apply(Step::Drain(who));
                apply(Step::Wait(11));
                apply(Step::Leave(who));
                assert!(!Workers::is_active(&who));
            }
            assert_eq!(Keys::<Test>::iter().count(), 0);
            assert_eq!(KeyOwner::<Test>::iter().count(), 0);
            assert_eq!(Serving::<Test>::iter().count(), 0);
            assert_eq!(Providers::<Test>::iter().count(), 0);
            System::set_block_number(System::block_number() + 60);
            for who in [ALICE, BOB] {
                let _ = Bonds::thaw_all(&who);
                System::set_block_number(System::block_number() + 60);
                let _ = Bonds::withdraw(signed(who));
                assert_eq!(Balances::balance(&who), RICH);
            }
        });
    }
}
