//! Conservation over random histories of channels, batches, finalizations and claims.

use super::kit::*;
use crate::{mock::*, Batches, ChannelState, Channels, HoldReason, NextChannel};
use frame_support::traits::{fungible::InspectHold, Hooks};
use openledger_economics::split_fee;
use openledger_primitives::Balance;
use proptest::prelude::*;
use sp_runtime::AccountId32;

#[derive(Clone, Debug)]
enum Step {
    Open {
        consumer: u8,
        deposit: u8,
        lanes: u16,
    },
    Submit {
        /// (channel, lane, kind, tokens in, tokens out, credited parts per million).
        answers: Vec<(u64, u16, u8, u32, u32, u32)>,
    },
    Close {
        channel: u64,
    },
    Cut {
        channel: u64,
        part: u8,
    },
    Withdraw {
        contribution: bool,
    },
    Settle {
        sequence: u64,
    },
    Idle,
    Claim {
        who: u8,
    },
    Wait {
        blocks: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let answer = (
        0u64..4,
        0u16..3,
        0u8..3,
        0u32..3_000,
        0u32..3_000,
        0u32..=1_000_000,
    );
    prop_oneof![
        3 => (0u8..2, 1u8..40, 1u16..4)
            .prop_map(|(consumer, deposit, lanes)| Step::Open { consumer, deposit, lanes }),
        6 => prop::collection::vec(answer, 1..8).prop_map(|answers| Step::Submit { answers }),
        1 => (0u64..4).prop_map(|channel| Step::Close { channel }),
        1 => (0u64..4, 1u8..4).prop_map(|(channel, part)| Step::Cut { channel, part }),
        1 => any::<bool>().prop_map(|contribution| Step::Withdraw { contribution }),
        3 => (1u64..8).prop_map(|sequence| Step::Settle { sequence }),
        2 => Just(Step::Idle),
        3 => (0u8..4).prop_map(|who| Step::Claim { who }),
        4 => (1u8..25).prop_map(|blocks| Step::Wait { blocks }),
    ]
}

fn earners() -> [AccountId32; 4] {
    [WORKER, DEVELOPER, CAROL, DAVE]
}

/// The answers that their channels can still give rise to.
fn possible(answers: &[(u64, u16, u8, u32, u32, u32)]) -> Vec<Answer> {
    answers
        .iter()
        .filter(|(channel, lane, ..)| {
            Channels::<Test>::get(channel).is_some_and(|known| *lane < known.lanes)
        })
        .map(|(channel, lane, kind, tokens_in, tokens_out, ppm)| {
            let mut made = Answer {
                channel: *channel,
                lane: *lane,
                revision: if *kind == 2 { BASE } else { ADAPTER },
                terms: u32::from(*kind == 1),
                tokens_in: *tokens_in,
                tokens_out: *tokens_out,
                credits: vec![],
            };
            if *kind < 2 {
                let part = split_fee(made.fee(), &SPLIT).contributors;
                let credited = part * Balance::from(*ppm) / 1_000_000;
                made.credits = vec![(CAROLS, credited / 3), (DAVES, credited - credited / 3)];
            }
            made
        })
        .collect()
}

fn take(step: Step, paid: &mut Balance) {
    let consumer = |number: u8| if number == 0 { ALICE } else { BOB };
    match step {
        Step::Open {
            consumer: number,
            deposit,
            lanes,
        } => {
            open(consumer(number), Balance::from(deposit) * OPEN, lanes);
        }
        Step::Submit { answers } => {
            let answers = possible(&answers);
            let made = batch(&answers);
            // A sum of floors may leave less to share than the sum of shares; then it is refused.
            if submit(&made).is_ok() {
                let claimed: Balance = answers.iter().map(Answer::fee).sum();
                let used: Balance = made.usage.iter().map(|line| line.fee).sum();
                assert_eq!((claimed, used), (made.header.fee, made.header.fee));
                *paid += made.header.fee;
            }
        }
        Step::Close { channel } => {
            if let Some(known) = Channels::<Test>::get(channel) {
                let origin = RuntimeOrigin::signed(known.consumer);
                let _ = match known.state {
                    ChannelState::Open => Settlement::close_channel(origin, channel).is_ok(),
                    ChannelState::Closing { .. } => {
                        Settlement::finish_close(origin, channel).is_ok()
                    }
                };
            }
        }
        Step::Cut { channel, part } => {
            if let Some(known) = Channels::<Test>::get(channel) {
                let origin = RuntimeOrigin::signed(known.consumer.clone());
                let _ = match known.cut {
                    None => {
                        let amount = known.deposit / Balance::from(part);
                        Settlement::cut_deposit(origin, channel, amount)
                    }
                    Some(_) => Settlement::finish_cut(origin, channel),
                };
            }
        }
        Step::Withdraw { contribution } => {
            Tables::withdraw(if contribution { CAROLS } else { DAVES })
        }
        Step::Settle { sequence } => settle(sequence),
        Step::Idle => {
            Settlement::on_idle(System::block_number(), frame_support::weights::Weight::MAX);
        }
        Step::Claim { who } => {
            let who = earners()[usize::from(who)].clone();
            let _ = Payouts::claim(RuntimeOrigin::signed(who));
        }
        Step::Wait { blocks } => go_to(System::block_number() + u64::from(blocks)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_consumers_pay_is_received_burned_kept_pooled_or_pending(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        run(|| {
            let issued = Balances::total_issuance();
            let mut paid = 0;
            for step in steps {
                take(step, &mut paid);
                check();
            }
            let sums = Payouts::totals();
            let pending: Balance = Batches::<Test>::iter().map(|(.., batch)| batch.escrowed).sum();
            assert_eq!(
                paid,
                sums.earned + sums.pooled + sums.burned + sums.kept + pending
            );
            let owed: Balance = earners()
                .iter()
                .flat_map(Payouts::earnings_of)
                .map(|earning| earning.amount)
                .sum();
            assert_eq!(sums.earned, sums.claimed + owed);
            // To the planck, on the accounts themselves.
            assert_eq!(issued - Balances::total_issuance(), sums.burned);
            assert_eq!(Balances::free_balance(Settlement::escrow()), LEAST + pending);
            assert_eq!(
                Balances::free_balance(Payouts::pot()),
                LEAST + owed + sums.pooled
            );
            let spent: Balance = [ALICE, BOB]
                .iter()
                .map(|who| {
                    let held = Balances::balance_on_hold(&HoldReason::Channel.into(), who);
                    RICH - Balances::free_balance(who) - held
                })
                .sum();
            assert_eq!(spent, paid);
            let received: Balance = earners()
                .iter()
                .map(|who| {
                    let bonded = if *who == WORKER { BOND } else { 0 };
                    Balances::free_balance(who) + bonded - RICH
                })
                .sum();
            assert_eq!(received, sums.claimed);
            assert!(NextChannel::<Test>::get() >= Channels::<Test>::iter().count() as u64);
        });
    }
}
