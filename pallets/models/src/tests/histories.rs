//! Random histories: whatever is published, priced and retired in whatever order, no live revision
//! is ever cheaper than its data or sold against its licence.

use crate::{mock::*, Bases};
use openledger_primitives::{licence::Licence, revision::ModelRef};
use openledger_traits::mocks::MockDatanets;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Publish(u32, Vec<u32>),
    Price(u32, u128, u128),
    Retire(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Around the royalties of the Datanets, and zero.
    let price = || prop_oneof![Just(0), Just(5 * ROYALTY), Just(ROYALTY), Just(PRICE)];
    prop_oneof![
        3 => (0u32..2, prop::collection::vec(0u32..4, 0..4))
            .prop_map(|(adapter, on)| Step::Publish(adapter, on)),
        3 => (0u32..2, price(), price()).prop_map(|(adapter, a, b)| Step::Price(adapter, a, b)),
        1 => (0u64..12).prop_map(Step::Retire),
        1 => (1u64..12).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_history_sells_below_royalty_or_against_a_licence(
        steps in prop::collection::vec(step(), 1..50),
    ) {
        ext().execute_with(|| {
            MockDatanets::add(2, Licence::DERIVATIVES, 0);
            MockDatanets::add(3, Licence::COMMERCIAL, 0);
            MockDatanets::seal(2, 1);
            MockDatanets::seal(3, 1);
            adapter_of_bob();
            adapter_of_bob();
            for step in steps {
                // A refusal is as good as a success, as long as nothing breaks.
                let _ = match step {
                    Step::Publish(adapter, on) => {
                        Models::publish_revision(signed(BOB), adapter, facts(), versions(&on))
                    }
                    Step::Price(adapter, price_in, price_out) => {
                        let model = ModelRef::Adapter(adapter);
                        Models::set_terms(signed(BOB), model, price_in, price_out, split())
                    }
                    Step::Retire(revision) => Models::retire_revision(signed(BOB), revision),
                    Step::Wait(blocks) => {
                        System::set_block_number(System::block_number() + blocks);
                        Ok(())
                    }
                };
                Models::do_try_state().unwrap();
            }
            assert_eq!(Bases::<Test>::iter().count(), 2);
        });
    }
}
