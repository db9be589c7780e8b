//! Random histories: whatever is done in whatever order, the ledger stays whole.

use crate::{mock::*, HoldReason, Ledgers};
use frame_support::traits::fungible::{Inspect, InspectHold};
use openledger_traits::BondLedger;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Bond(u128),
    Thaw(u128),
    Withdraw,
    Reserve(u128),
    Unreserve(u128),
    Liable(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2 * RICH).prop_map(Step::Bond),
        (0..RICH).prop_map(Step::Thaw),
        Just(Step::Withdraw),
        (0..RICH).prop_map(Step::Reserve),
        (0..RICH).prop_map(Step::Unreserve),
        (0u32..60).prop_map(Step::Liable),
        (1u64..12).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_history_breaks_the_ledger(steps in prop::collection::vec(step(), 1..60)) {
        ext().execute_with(|| {
            let origin = || RuntimeOrigin::signed(ALICE);
            for step in steps {
                // A refusal is as good as a success, as long as nothing breaks.
                let _ = match step {
                    Step::Bond(amount) => Bonds::bond_more(origin(), amount),
                    Step::Thaw(amount) => Bonds::thaw(origin(), amount),
                    Step::Withdraw => Bonds::withdraw(origin()),
                    Step::Reserve(amount) => Bonds::reserve(&ALICE, amount),
                    Step::Unreserve(amount) => {
                        Bonds::unreserve(&ALICE, amount);
                        Ok(())
                    }
                    Step::Liable(block) => {
                        Bonds::liable_until(&ALICE, block);
                        Ok(())
                    }
                    Step::Wait(blocks) => {
                        System::set_block_number(System::block_number() + blocks);
                        Ok(())
                    }
                };
                Bonds::do_try_state().unwrap();
                let held = Balances::balance_on_hold(&HoldReason::<()>::Stake.into(), &ALICE);
                assert_eq!(Balances::balance(&ALICE) + held, RICH);
            }
            // Given back, thawed and past every liability, all of it is free again.
            Bonds::unreserve(&ALICE, u128::MAX);
            System::set_block_number(1_000);
            let _ = Bonds::withdraw(origin());
            Bonds::thaw_all(&ALICE).unwrap();
            System::set_block_number(2_000);
            let _ = Bonds::withdraw(origin());
            assert_eq!(Balances::balance(&ALICE), RICH);
            assert_eq!(Ledgers::<Test>::iter().count(), 0);
        });
    }
}
