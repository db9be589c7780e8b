//! Conservation over random histories.

use crate::mock::*;
use openledger_primitives::Balance;
use openledger_traits::{Earning, Earnings};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Earn {
        account: u128,
        amount: Balance,
        after: u32,
        batch: u64,
    },
    Pool {
        revision: u64,
        amount: Balance,
    },
    Protocol {
        amount: Balance,
    },
    Claim {
        account: u128,
    },
    Wait {
        blocks: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![0u128..5, 0u128..5_000, 0u128..OPEN];
    prop_oneof![
        4 => (ALICE..=NEW, amount.clone(), 0u32..20, 0u64..3)
            .prop_map(|(account, amount, after, batch)| Step::Earn { account, amount, after, batch }),
        1 => (0u64..3, amount.clone()).prop_map(|(revision, amount)| Step::Pool { revision, amount }),
        1 => amount.prop_map(|amount| Step::Protocol { amount }),
        3 => (ALICE..=NEW).prop_map(|account| Step::Claim { account }),
        2 => (1u32..10).prop_map(|blocks| Step::Wait { blocks }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_paid_in_is_owed_pooled_kept_burned_or_claimed(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        run(|| {
            let (issued, escrow) = (Balances::total_issuance(), Balances::free_balance(ESCROW));
            let mut claimed = 0;
            for step in steps {
                match step {
                    Step::Earn { account, amount, after, batch } => {
                        let vests_at = System::block_number() as u32 + after;
                        let earning = Earning { batch, ..earning(account, amount, vests_at) };
                        Payouts::earn(&ESCROW, earning).unwrap();
                    }
                    Step::Pool { revision, amount } => {
                        Payouts::pool(&ESCROW, revision, amount).unwrap()
                    }
                    Step::Protocol { amount } => Payouts::protocol(&ESCROW, amount).unwrap(),
                    Step::Claim { account } => {
                        let before = Balances::free_balance(account);
                        let _ = Payouts::claim(RuntimeOrigin::signed(account));
                        claimed += Balances::free_balance(account) - before;
                    }
                    Step::Wait { blocks } => {
                        System::set_block_number(System::block_number() + u64::from(blocks))
                    }
                }
                Payouts::do_try_state().unwrap();
            }
            let sums = Payouts::totals();
            assert_eq!(
                escrow - Balances::free_balance(ESCROW),
                sums.earned + sums.pooled + sums.burned + sums.kept
            );
            assert_eq!(sums.claimed, claimed);
            assert_eq!(issued - Balances::total_issuance(), sums.burned);
        });
    }
}
