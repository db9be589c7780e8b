//! Conservation over random histories of the whole runtime: what consumers pay is received, burned,
//! kept, pooled or pending, to the planck, after every step; every pallet's invariants hold; and a
//! call that is refused leaves the state as it was.
//!
//! Calls are dispatched without fees of their own, so that every planck that moves is one of
//! settlement's. Blocks are whole ones, of `Executive`; some leave no time to idle work.

mod common;

use common::{
    account,
    batch::{batch, key, sign, Answer, Submission},
    blocks::{state_root, Blocks},
    check_invariants, development,
    market::{self, *},
};
use frame_support::traits::fungible::Inspect;
use openledger_economics::split_fee;
use openledger_primitives::{Balance, ChannelId, ContributionId, LaneIndex};
use openledger_runtime::{
    constants::TOTAL_SUPPLY, Balances, Payouts, Runtime, RuntimeCall, RuntimeOrigin, Settlement,
    OPEN,
};
use pallet_settlement::{Accounts, Batches, Call, Channels};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use sp_keyring::Sr25519Keyring;
use sp_runtime::traits::Dispatchable;
use std::collections::BTreeMap;

/// Histories that are tried where `PROPTEST_CASES` says nothing.
const CASES: u32 = 24;
/// Steps of a history at most.
const STEPS: usize = 64;

const WORKERS: [(Sr25519Keyring, Sr25519Keyring); 2] =
    [(WORKER, SERVICE_KEY), (OTHER_WORKER, OTHER_SERVICE_KEY)];
const CONTRIBUTORS: [Sr25519Keyring; 3] = [DAVE, EVE, FERDIE];
/// Everyone whom settlement can pay.
const EARNERS: [Sr25519Keyring; 7] = [
    WORKER,
    OTHER_WORKER,
    DEVELOPER,
    BASE_OWNER,
    DAVE,
    EVE,
    FERDIE,
];

/// An answer to be made: where, by which model, how long, and how much of the contributors' part is
/// credited, in parts per million.
#[derive(Clone, Debug)]
struct Planned {
    channel: usize,
    lane: LaneIndex,
    model: usize,
    tokens: (u32, u32),
    credited: u32,
}

/// What a worker gets wrong about a batch.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Fee,
    Parent,
    Signature,
    Skipped,
}

#[derive(Clone, Debug)]
enum Step {
    Open {
        consumer: usize,
        worker: usize,
        deposit: u8,
        lanes: LaneIndex,
    },
    Deposit {
        channel: usize,
        amount: u8,
    },
    Cut {
        channel: usize,
        part: u8,
    },
    FinishCut {
        channel: usize,
    },
    Close {
        channel: usize,
    },
    FinishClose {
        channel: usize,
    },
    Revoke {
        channel: usize,
        signer: u8,
    },
    Submit {
        worker: usize,
        answers: Vec<Planned>,
        fault: Fault,
    },
    Settle {
        worker: usize,
        batch: usize,
    },
    Release {
        worker: usize,
    },
    Withdraw {
        contribution: usize,
    },
    Claim {
        who: usize,
    },
    /// Blocks pass, with idle time or without.
    Pass {
        blocks: u8,
        idle: bool,
    },
}

fn planned() -> impl Strategy<Value = Planned> {
    let tokens = (0u32..4_000, 0u32..4_000);
    (0usize..6, 0u16..3, 0usize..3, tokens, 0u32..=1_000_000).prop_map(
        |(channel, lane, model, tokens, credited)| Planned {
            channel,
            lane,
            model,
            tokens,
            credited,
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        12 => Just(Fault::None),
        1 => Just(Fault::Fee),
        1 => Just(Fault::Parent),
        1 => Just(Fault::Signature),
        1 => Just(Fault::Skipped),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0usize..6;
    let worker = 0usize..WORKERS.len();
    prop_oneof![
        6 => (0..CONSUMERS.len(), worker.clone(), 0u8..60, 0u16..4).prop_map(
            |(consumer, worker, deposit, lanes)| Step::Open { consumer, worker, deposit, lanes }
        ),
        2 => (channel.clone(), 0u8..20)
            .prop_map(|(channel, amount)| Step::Deposit { channel, amount }),
        2 => (channel.clone(), 1u8..4).prop_map(|(channel, part)| Step::Cut { channel, part }),
        2 => channel.clone().prop_map(|channel| Step::FinishCut { channel }),
        2 => channel.clone().prop_map(|channel| Step::Close { channel }),
        3 => channel.clone().prop_map(|channel| Step::FinishClose { channel }),
        1 => (channel, 1u8..4).prop_map(|(channel, signer)| Step::Revoke { channel, signer }),
        12 => (worker.clone(), prop::collection::vec(planned(), 0..8), fault()).prop_map(
            |(worker, answers, fault)| Step::Submit { worker, answers, fault }
        ),
        6 => (worker.clone(), 0usize..4)
            .prop_map(|(worker, batch)| Step::Settle { worker, batch }),
        3 => worker.prop_map(|worker| Step::Release { worker }),
        2 => (0..CONTRIBUTORS.len()).prop_map(|contribution| Step::Withdraw { contribution }),
        6 => (0..EARNERS.len()).prop_map(|who| Step::Claim { who }),
        8 => (1u8..40, prop::bool::weighted(0.4)).prop_map(|(blocks, idle)| Step::Pass { blocks, idle }),
    ]
}

/// Batches need channels: each history begins with some.
fn history() -> impl Strategy<Value = Vec<Step>> {
    let opened = (0..CONSUMERS.len(), 0..WORKERS.len(), 5u8..60, 1u16..4).prop_map(
        |(consumer, worker, deposit, lanes)| Step::Open {
            consumer,
            worker,
            deposit,
            lanes,
        },
    );
    (
        prop::collection::vec(opened, 1..4),
        prop::collection::vec(step(), 1..STEPS),
    )
        .prop_map(|(mut steps, rest)| {
            steps.extend(rest);
            steps
        })
}

/// What an account has, on hold or not.
fn total(who: Sr25519Keyring) -> Balance {
    Balances::total_balance(&account(who))
}

fn sum_of(accounts: &[Sr25519Keyring]) -> Balance {
    accounts.iter().copied().map(total).sum()
}

/// Calls of each kind, by whether they were accepted.
type Tally = BTreeMap<(&'static str, bool), u32>;

/// The chain while a history is told.
struct World {
    blocks: Blocks,
    market: Market,
    consumers: Balance,
    earners: Balance,
    /// Least balances of the keyless accounts: escrow, pot, protocol's pot.
    least: [Balance; 3],
    /// Fees of every batch that was accepted.
    charged: Balance,
    tally: Tally,
}

fn keyless() -> [Balance; 3] {
    [
        Settlement::escrow(),
        Payouts::pot(),
        Payouts::protocol_pot(),
    ]
    .map(|pot| Balances::total_balance(&pot))
}

impl World {
    fn found() -> Self {
        let mut blocks = Blocks::begin();
        let market = market::found(&mut blocks);
        for (worker, service_key) in WORKERS {
            join(&mut blocks, worker, service_key, &market.revisions);
        }
        blocks.next();
        World {
            blocks,
            market,
            consumers: sum_of(&CONSUMERS),
            earners: sum_of(&EARNERS),
            least: keyless(),
            charged: 0,
            tally: Tally::new(),
        }
    }

    /// Dispatches a call. One that is refused must leave the state as it was.
    fn attempt(
        &mut self,
        kind: &'static str,
        who: Sr25519Keyring,
        call: impl Into<RuntimeCall>,
    ) -> bool {
        let before = state_root();
        let outcome = call.into().dispatch(RuntimeOrigin::signed(account(who)));
        if outcome.is_err() {
            assert_eq!(
                state_root(),
                before,
                "{kind} was refused and changed the state"
            );
        }
        *self.tally.entry((kind, outcome.is_ok())).or_default() += 1;
        outcome.is_ok()
    }

    fn settlement(&mut self, kind: &'static str, who: Sr25519Keyring, call: Call<Runtime>) -> bool {
        self.attempt(kind, who, RuntimeCall::Settlement(call))
    }

    /// One of the channels that there are, and its consumer; the first ever when there is none.
    fn channel(&self, choice: usize) -> (ChannelId, Sr25519Keyring) {
        let mut known: Vec<_> = Channels::<Runtime>::iter().collect();
        known.sort_by_key(|(id, _)| *id);
        if known.is_empty() {
            return (0, CONSUMERS[0]);
        }
        let (id, channel) = &known[choice % known.len()];
        let of = CONSUMERS.into_iter();
        let consumer = of.into_iter().find(|who| account(*who) == channel.consumer);
        (*id, consumer.expect("one of the consumers"))
    }

    /// The answers that the worker can give on the channels that there are.
    fn possible(&self, worker: Sr25519Keyring, planned: &[Planned]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for plan in planned {
            let (id, _) = self.channel(plan.channel);
            let Some(channel) = Channels::<Runtime>::get(id) else {
                continue;
            };
            if channel.worker != account(worker) {
                continue;
            }
            let lane = plan.lane % channel.lanes;
            answers.push(self.answer(id, plan).on(lane));
        }
        answers
    }

    fn answer(&self, channel: ChannelId, plan: &Planned) -> Answer {
        let Some(revision) = self.market.revisions.get(plan.model) else {
            return Answer::new(channel, self.market.base, plan.tokens);
        };
        let answer = Answer::new(channel, *revision, plan.tokens);
        let part = split_fee(answer.fee(), &SPLIT).contributors;
        let credited = part * Balance::from(plan.credited) / 1_000_000;
        let [dave, eve, ferdie] = self.market.contributions;
        let credits: &[(ContributionId, Balance)] = match plan.model {
            0 => &[(dave, credited / 3), (eve, credited - credited / 3)],
            _ => &[(ferdie, credited)],
        };
        answer.crediting(credits)
    }

    fn submit(&mut self, worker: usize, planned: &[Planned], fault: Fault) {
        let (worker, service_key) = WORKERS[worker];
        let answers = self.possible(worker, planned);
        let mut made = batch(worker, &answers);
        let spoiled = !made.claims.is_empty() && spoil(&mut made, fault);
        let accepted = self.attempt("submit", service_key, made.call());
        assert!(!(accepted && spoiled), "{fault:?} was accepted");
        if accepted {
            let fees: Balance = answers.iter().map(Answer::fee).sum();
            self.charged += fees;
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open {
                consumer,
                worker,
                deposit,
                lanes,
            } => {
                let call = open_channel(
                    WORKERS[worker].0,
                    Balance::from(deposit) * OPEN,
                    lanes,
                    1 + consumer as u8,
                );
                self.attempt("open", CONSUMERS[consumer], call);
            }
            Step::Deposit { channel, amount } => {
                let (channel, consumer) = self.channel(channel);
                let amount = Balance::from(amount) * OPEN;
                self.settlement("deposit", consumer, Call::deposit { channel, amount });
            }
            Step::Cut { channel, part } => {
                let (channel, consumer) = self.channel(channel);
                let deposit = Channels::<Runtime>::get(channel).map_or(0, |known| known.deposit);
                let amount = deposit / Balance::from(part);
                self.settlement("cut", consumer, Call::cut_deposit { channel, amount });
            }
            Step::FinishCut { channel } => {
                let (channel, _) = self.channel(channel);
                self.settlement("finish cut", FOUNDER, Call::finish_cut { channel });
            }
            Step::Close { channel } => {
                let (channel, consumer) = self.channel(channel);
                self.settlement("close", consumer, Call::close_channel { channel });
            }
            Step::FinishClose { channel } => {
                let (channel, _) = self.channel(channel);
                self.settlement("finish close", FOUNDER, Call::finish_close { channel });
            }
            Step::Revoke { channel, signer } => {
                let (channel, consumer) = self.channel(channel);
                let key = key(signer);
                self.settlement("revoke", consumer, Call::revoke_signer { channel, key });
            }
            Step::Submit {
                worker,
                answers,
                fault,
            } => self.submit(worker, &answers, fault),
            Step::Settle { worker, batch } => {
                let worker = account(WORKERS[worker].0);
                let open = Accounts::<Runtime>::get(&worker).open;
                let sequence = open.get(batch).copied().unwrap_or(1);
                self.settlement("settle", FOUNDER, Call::settle_page { worker, sequence });
            }
            Step::Release { worker } => {
                let worker = account(WORKERS[worker].0);
                self.settlement("release", FOUNDER, Call::release_liability { worker });
            }
            Step::Withdraw { contribution } => {
                let by = CONTRIBUTORS[contribution];
                let contribution = self.market.contributions[contribution];
                let call = pallet_datanets::Call::withdraw { contribution };
                self.attempt("withdraw", by, RuntimeCall::Datanets(call));
            }
            Step::Claim { who } => {
                let call = pallet_payouts::Call::claim {};
                self.attempt("claim", EARNERS[who], RuntimeCall::Payouts(call));
            }
            Step::Pass { blocks, idle } => {
                for _ in 0..blocks {
                    if idle {
                        self.blocks.next();
                    } else {
                        self.blocks.next_without_idle_time();
                    }
                }
            }
        }
    }

    /// Where every planck is that consumers had.
    fn check(&self) {
        check_invariants();
        let paid = self.consumers - sum_of(&CONSUMERS);
        let claimed = sum_of(&EARNERS) - self.earners;
        let owed: Balance = pallet_payouts::Earnings::<Runtime>::iter_values()
            .map(|owed| owed.amount)
            .sum();
        let pooled: Balance = pallet_payouts::Pools::<Runtime>::iter_values().sum();
        let escrowed: Balance = Batches::<Runtime>::iter_values()
            .map(|batch| batch.escrowed)
            .sum();
        let burned = TOTAL_SUPPLY - Balances::total_issuance();
        let now = keyless();
        let [pending, pot, kept] = [0, 1, 2].map(|index| now[index] - self.least[index]);

        // By the balances of accounts alone.
        assert_eq!(paid, claimed + burned + kept + pending + pot);
        // And by what the pallets say of them.
        assert_eq!(paid, self.charged);
        assert_eq!(pending, escrowed);
        assert_eq!(pot, owed + pooled);
        let sums = Payouts::totals();
        assert_eq!((sums.burned, sums.kept), (burned, kept));
        assert_eq!((sums.claimed, sums.pooled), (claimed, pooled));
        assert_eq!(sums.earned, claimed + owed);
        // No account has what was not issued.
        let all: Balance = frame_system::Account::<Runtime>::iter_values()
            .map(|info| info.data.free + info.data.reserved)
            .sum();
        assert_eq!(all, Balances::total_issuance());
    }
}

/// Makes the batch one that must be refused, if there is a fault. Returns whether there is.
fn spoil(made: &mut Submission, fault: Fault) -> bool {
    match fault {
        Fault::None => return false,
        Fault::Fee => made.header.fee += 1,
        Fault::Parent => made.header.parent[0] ^= 1,
        Fault::Signature => sign(&mut made.claims[0], 9),
        Fault::Skipped => {
            made.claims[0].sequence_to += 1;
            made.resign(|voucher| voucher.sequence += 1);
        }
    }
    true
}

/// Tells a history, checking after every step. Returns which calls were accepted and which refused.
fn tell(steps: Vec<Step>) -> Tally {
    development().execute_with(|| {
        let mut world = World::found();
        world.check();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.tally
    })
}

fn config() -> Config {
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default().cases,
        None => CASES,
    };
    Config {
        cases,
        // What fails is printed; there is no source folder to keep it in.
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn what_consumers_pay_is_received_burned_kept_pooled_or_pending(steps in history()) {
        tell(steps);
    }
}

/// The histories would show nothing if every call in them were refused, or none.
#[test]
fn histories_have_calls_of_every_kind_accepted_and_refused() {
    let mut runner = TestRunner::deterministic();
    let mut all = Tally::new();
    for _ in 0..12 {
        let tree = history().new_tree(&mut runner).expect("a history");
        for (kind, count) in tell(tree.current()) {
            *all.entry(kind).or_default() += count;
        }
    }
    let kinds = [
        "open",
        "deposit",
        "cut",
        "finish cut",
        "close",
        "finish close",
        "revoke",
        "submit",
        "settle",
        "release",
        "withdraw",
        "claim",
    ];
    for kind in kinds {
        assert!(
            all.contains_key(&(kind, true)),
            "no {kind} accepted: {all:?}"
        );
        assert!(
            all.contains_key(&(kind, false)),
            "no {kind} refused: {all:?}"
        );
    }
}
