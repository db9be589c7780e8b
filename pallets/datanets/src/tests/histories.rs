//! Random histories: whatever is done in whatever order, roots, queue and bonds stay whole.

use crate::{mock::*, HoldReason, RejectReason};
use frame_support::traits::fungible::InspectHold;
use openledger_traits::mocks::MockParameters;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Contribute(bool, u64),
    Admit(u64),
    Reject(u64),
    Withdraw(u64),
    Seal,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), 0u64..12).prop_map(|(alice, seed)| Step::Contribute(alice, seed)),
        3 => (0u64..20).prop_map(Step::Admit),
        1 => (0u64..20).prop_map(Step::Reject),
        2 => (0u64..20).prop_map(Step::Withdraw),
        1 => Just(Step::Seal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_history_breaks_a_datanet(steps in prop::collection::vec(step(), 1..50)) {
        ext().execute_with(|| {
            MockParameters::mutate(|set| set.datanets.max_contributions_per_version = 3);
            let datanet = founded();
            for step in steps {
                // A refusal is as good as a success, as long as nothing breaks.
                let _ = match step {
                    Step::Contribute(alice, seed) => {
                        let who = if alice { ALICE } else { BOB };
                        Datanets::contribute(signed(who), datanet, submission(seed))
                    }
                    Step::Admit(id) => {
                        let list = vec![id].try_into().unwrap();
                        Datanets::admit(signed(OWNER), datanet, list)
                    }
                    Step::Reject(id) => {
                        Datanets::reject(signed(OWNER), datanet, id, RejectReason::OffTopic)
                    }
                    Step::Withdraw(id) => Datanets::withdraw(signed(ALICE), id),
                    Step::Seal => Datanets::seal_version(signed(OWNER), datanet)
                        .map(|_| ())
                        .map_err(|refused| refused.error),
                };
                Datanets::do_try_state().unwrap();
            }
            for who in [ALICE, BOB] {
                let pending = crate::Contributions::<Test>::iter_values()
                    .filter(|record| record.owner == who && record.stage == crate::Stage::Pending)
                    .count() as u128;
                let bond = HoldReason::ContributionBond.into();
                assert_eq!(Balances::balance_on_hold(&bond, &who), pending * BOND);
            }
        });
    }
}
