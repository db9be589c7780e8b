//! The loop on chain, from founding a Datanet to the worker's bond given back: every call a signed
//! transaction in a block of `Executive`, every amount exact, every pallet's invariants checked
//! after every block.

mod common;

use common::{
    account,
    batch::{batch, Answer, Submission},
    blocks::Blocks,
    development, events,
    market::{self, *},
};
use frame_support::{assert_err, traits::fungible::Inspect};
use openledger_primitives::{
    domain::domain, inclusion::ContributionProof, Balance, BatchSequence, ChannelId, DatanetId,
    RevisionId,
};
use openledger_runtime::{
    Balances, Datanets, Models, Payouts, Runtime, RuntimeCall, RuntimeEvent, Settlement,
    WorkerBonds, Workers, OPEN,
};
use openledger_traits::BondLedger;
use pallet_settlement::{BatchState, Batches};
use sp_keyring::Sr25519Keyring;

/// Fees of the first batch: two answers of the first adapter for one OPEN each, one of the second,
/// one of the base.
const FIRST_FEE: Balance = 2_000_000_000_000 + 2_122_000_000 + 111_111_111_111;
/// Fees of the second batch: one answer of each.
const SECOND_FEE: Balance = 1_000_000_000_000 + 2_122_000_000 + 111_111_111_111;

/// What each account earns of the two batches. Of every fee the worker has 60 % and what flooring
/// leaves, the developer 15 %, contributors 20 %, the protocol 5 %; of the base's, the protocol has
/// the contributors' part too.
const EARNED: [(Sr25519Keyring, Balance); 6] = [
    (
        WORKER,
        3 * 600_000_000_000 + 2 * 1_273_200_000 + 2 * 66_666_666_668,
    ),
    (DEVELOPER, 3 * 150_000_000_000 + 2 * 318_300_000),
    (BASE_OWNER, 2 * 16_666_666_666),
    (DAVE, 120_000_000_000 + 100_000_000_000 + 90_000_000_000),
    (EVE, 50_000_000_000 + 10_000_000_000),
    (FERDIE, 424_400_000),
];
/// Half of the protocol's parts; the odd planck of the base's burns.
const BURNED: Balance = 3 * 25_000_000_000 + 2 * 53_050_000 + 2 * 13_888_888_889;
/// The other half.
const KEPT: Balance = 3 * 25_000_000_000 + 2 * 53_050_000 + 2 * 13_888_888_888;
/// What no credit took of the first adapter's 0.6 OPEN for contributors, and the whole of the second
/// adapter's latter answer.
const POOLED: [Balance; 2] = [230_000_000_000, 424_400_000];

const CONSUMER: Sr25519Keyring = CONSUMERS[0];
const DEPOSIT: Balance = 50 * OPEN;

fn earned_by(who: Sr25519Keyring) -> Balance {
    EARNED
        .iter()
        .find(|(account, _)| *account == who)
        .map_or(0, |(_, amount)| *amount)
}

fn claim() -> RuntimeCall {
    RuntimeCall::Payouts(pallet_payouts::Call::claim {})
}

fn settle(sequence: BatchSequence) -> RuntimeCall {
    RuntimeCall::Settlement(pallet_settlement::Call::settle_page {
        worker: account(WORKER),
        sequence,
    })
}

fn state_of(sequence: BatchSequence) -> Option<BatchState> {
    Batches::<Runtime>::get(account(WORKER), sequence).map(|batch| batch.state)
}

/// What an account has, on hold or not.
fn total(who: Sr25519Keyring) -> Balance {
    Balances::total_balance(&account(who))
}

/// Balances of everyone who takes part, as they were.
struct Before(Vec<(Sr25519Keyring, Balance)>, Balance);

impl Before {
    fn note() -> Self {
        let everyone = Sr25519Keyring::iter();
        Before(
            everyone.map(|who| (who, total(who))).collect(),
            Balances::total_issuance(),
        )
    }

    fn of(&self, who: Sr25519Keyring) -> Balance {
        let found = self.0.iter().find(|(known, _)| *known == who);
        found.expect("everyone was noted").1
    }
}

/// A row that was contributed is proven to stand in the sealed version, and no other.
fn prove_a_row(datanet: DatanetId) {
    let leaves = Datanets::version_leaves(datanet, 1);
    assert_eq!(leaves.len(), 2);
    let (contributed, others) = (rows("the ferry", 2), rows("the train", 2));
    let prove = |rows| ContributionProof::build(rows, 1, &leaves, 1).expect("within bounds");
    assert!(Datanets::verify_row(datanet, 1, &prove(&contributed)));
    assert!(!Datanets::verify_row(datanet, 1, &prove(&others)));
}

/// The worker is found by what it serves, by the key that submits for it.
fn find_the_worker(revisions: &[RevisionId]) {
    for revision in revisions {
        let found = Workers::find(*revision);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].worker, account(WORKER));
        assert_eq!(found[0].service_keys[0].account, account(SERVICE_KEY));
        assert_eq!(found[0].own_bond, BOND);
    }
}

fn first_batch(market: &Market, channel: ChannelId) -> Submission {
    let [dave, eve, ferdie] = market.contributions;
    let made = batch(
        WORKER,
        &[
            Answer::new(channel, market.revisions[0], (100, 450))
                .crediting(&[(dave, 120_000_000_000), (eve, 50_000_000_000)]),
            Answer::new(channel, market.revisions[1], (37, 256))
                .on(1)
                .crediting(&[(ferdie, 424_400_000)]),
            Answer::new(channel, market.base, (100, 100)).on(2),
            Answer::new(channel, market.revisions[0], (200, 400))
                .crediting(&[(dave, 100_000_000_000)]),
        ],
    );
    assert_eq!((made.claims.len(), made.usage.len()), (3, 3));
    made
}

fn second_batch(market: &Market, channel: ChannelId) -> Submission {
    let [dave, eve, _] = market.contributions;
    batch(
        WORKER,
        &[
            // The lanes serve other models than before.
            Answer::new(channel, market.revisions[0], (1_000, 0))
                .on(2)
                .crediting(&[(dave, 90_000_000_000), (eve, 10_000_000_000)]),
            Answer::new(channel, market.revisions[1], (37, 256)),
            Answer::new(channel, market.base, (100, 100)).on(1),
        ],
    )
}

/// The first batch is settled by somebody who passes by, the second by the block's idle time.
fn settle_both(blocks: &mut Blocks) {
    let windows = [1, 2].map(|sequence| {
        let found = Batches::<Runtime>::get(account(WORKER), sequence);
        found.expect("submitted").window_end
    });
    assert_eq!(windows[1], windows[0] + 1);
    blocks.go_to(windows[0]);
    assert_err!(
        blocks.send(FOUNDER, settle(1)),
        pallet_settlement::Error::<Runtime>::WindowOpen
    );
    blocks.next();
    assert_eq!(state_of(1), Some(BatchState::Submitted));
    blocks.must(FOUNDER, settle(1));
    assert_eq!(state_of(1), Some(BatchState::Settled));
    blocks.next();
    assert_eq!(state_of(2), Some(BatchState::Submitted));
    blocks.next();
    assert_eq!(state_of(2), Some(BatchState::Settled));
    assert_err!(
        blocks.send(FOUNDER, settle(2)),
        pallet_settlement::Error::<Runtime>::AlreadySettled
    );
}

/// `who` claims exactly what it earned, and has it.
fn claim_all(blocks: &mut Blocks, who: Sr25519Keyring) {
    let (before, fees) = (total(who), blocks.fees_of(who));
    blocks.must(who, claim());
    let claimed = events().into_iter().rev().find_map(|event| match event {
        RuntimeEvent::Payouts(pallet_payouts::Event::Claimed { account, amount }) => {
            Some((account, amount))
        }
        _ => None,
    });
    assert_eq!(claimed, Some((account(who), earned_by(who))));
    let fee = blocks.fees_of(who) - fees;
    assert_eq!(total(who), before - fee + earned_by(who), "{who}");
    assert_err!(
        blocks.send(who, claim()),
        pallet_payouts::Error::<Runtime>::NothingToClaim
    );
}

fn not_vested(blocks: &mut Blocks, who: Sr25519Keyring) {
    assert_err!(
        blocks.send(who, claim()),
        pallet_payouts::Error::<Runtime>::NothingVested
    );
}

/// The worker leaves, and has its bond back when it has thawed.
fn leave(blocks: &mut Blocks) {
    assert_eq!(WorkerBonds::reserved(&account(WORKER)), 0);
    let drain = RuntimeCall::Workers(pallet_workers::Call::drain {});
    blocks.must(WORKER, drain);
    let drained = blocks.now();
    let leave = RuntimeCall::Workers(pallet_workers::Call::leave {});
    // A minute, in which what was delivered could still be claimed.
    blocks.go_to(drained + 20);
    assert_err!(
        blocks.send(WORKER, leave.clone()),
        pallet_workers::Error::<Runtime>::MayBecomeLiable
    );
    blocks.next();
    blocks.must(WORKER, leave);
    assert!(Workers::info(account(WORKER)).is_none());
    let withdraw = RuntimeCall::WorkerBonds(pallet_bonds::Call::withdraw {});
    let thawed = blocks.now() + 60;
    blocks.go_to(thawed - 1);
    assert_err!(
        blocks.send(WORKER, withdraw.clone()),
        pallet_bonds::Error::<Runtime, pallet_bonds::Instance1>::NothingToWithdraw
    );
    blocks.next();
    let free = Balances::free_balance(account(WORKER));
    let fees = blocks.fees_of(WORKER);
    blocks.must(WORKER, withdraw);
    let fee = blocks.fees_of(WORKER) - fees;
    assert_eq!(Balances::free_balance(account(WORKER)), free - fee + BOND);
}

/// The consumer closes, and has the rest of its deposit back when claims are over.
fn close(blocks: &mut Blocks, channel: ChannelId) {
    let close = pallet_settlement::Call::close_channel { channel };
    blocks.must(CONSUMER, RuntimeCall::Settlement(close));
    // One block more than claims take: that one begins an epoch, which leaves no room for calls.
    blocks.go_to(blocks.now() + 42);
    let finish = pallet_settlement::Call::finish_close { channel };
    blocks.must(FOUNDER, RuntimeCall::Settlement(finish));
    assert_eq!(
        Balances::free_balance(account(CONSUMER)),
        total(CONSUMER),
        "nothing of the consumer's is on hold"
    );
}

#[test]
fn the_loop_pays_everyone_exactly_and_gives_every_deposit_back() {
    development().execute_with(|| {
        let before = Before::note();
        let mut blocks = Blocks::begin();
        assert_eq!(
            Settlement::signing_domain(),
            domain(&blocks.genesis().0, 0),
            "vouchers are of this chain"
        );

        let market = market::found(&mut blocks);
        prove_a_row(market.datanets[0]);
        for (revision, datanet) in market.revisions.into_iter().zip(market.datanets) {
            let known = Models::revision_info(revision).expect("published");
            assert_eq!(known.base_revision, market.base);
            assert_eq!(known.versions[0].datanet, datanet);
            assert_eq!(known.terms, Some(0));
        }
        let served = [market.revisions[0], market.revisions[1], market.base];
        join(&mut blocks, WORKER, SERVICE_KEY, &served);
        find_the_worker(&served);
        let channel = open(&mut blocks, CONSUMER, DEPOSIT, 3);
        blocks.next();

        let first = first_batch(&market, channel);
        assert_eq!(first.header.fee, FIRST_FEE);
        blocks.must(SERVICE_KEY, first.call());
        blocks.next();
        let second = second_batch(&market, channel);
        assert_eq!(second.header.fee, SECOND_FEE);
        blocks.must(SERVICE_KEY, second.call());
        let known = Settlement::channel_info(channel).expect("open");
        assert_eq!(known.deposit, DEPOSIT - FIRST_FEE - SECOND_FEE);
        // Not a planck leaves the chain before the window has passed.
        assert_eq!(Balances::total_issuance(), before.1);
        settle_both(&mut blocks);
        assert_eq!(Balances::total_issuance(), before.1 - BURNED);

        not_vested(&mut blocks, DAVE);
        blocks.go_to(blocks.now() + 5);
        for who in [DAVE, EVE, FERDIE] {
            claim_all(&mut blocks, who);
        }
        // The bond answers for both batches until evidence can undo neither.
        let liable = Batches::<Runtime>::get(account(WORKER), 2).expect("liable");
        let twice = 2 * (FIRST_FEE + SECOND_FEE);
        assert_eq!(WorkerBonds::reserved(&account(WORKER)), twice);
        for who in [WORKER, DEVELOPER, BASE_OWNER] {
            not_vested(&mut blocks, who);
        }
        blocks.go_to(liable.liability_end + 2);
        assert_eq!((state_of(1), state_of(2)), (None, None));
        for who in [WORKER, DEVELOPER, BASE_OWNER] {
            claim_all(&mut blocks, who);
        }
        leave(&mut blocks);
        close(&mut blocks, channel);

        // Each account has what it had, less the fees of its transactions, and what it earned; the
        // author has the fees of all.
        let mut fees = 0;
        for who in Sr25519Keyring::iter().filter(|who| *who != AUTHOR) {
            let gained = earned_by(who) + if who == SERVICE_KEY { ALLOWANCE } else { 0 };
            let spent = match who {
                CONSUMER => FIRST_FEE + SECOND_FEE,
                WORKER => ALLOWANCE,
                _ => 0,
            };
            let expected = before.of(who) + gained - spent - blocks.fees_of(who);
            assert_eq!(total(who), expected, "{who}");
            fees += blocks.fees_of(who);
        }
        assert_eq!(total(AUTHOR), before.of(AUTHOR) + fees);

        // What was paid is received, pooled, kept or burned, and nothing else left the chain.
        for (revision, pooled) in market.revisions.into_iter().zip(POOLED) {
            assert_eq!(Payouts::pool_of(revision), pooled);
        }
        let received: Balance = EARNED.iter().map(|(_, amount)| amount).sum();
        let pooled: Balance = POOLED.iter().sum();
        assert_eq!(received + pooled + KEPT + BURNED, FIRST_FEE + SECOND_FEE);
        let least = openledger_runtime::constants::EXISTENTIAL_DEPOSIT;
        assert_eq!(Balances::free_balance(Payouts::pot()), least + pooled);
        assert_eq!(
            Balances::free_balance(Payouts::protocol_pot()),
            least + KEPT
        );
        assert_eq!(Balances::free_balance(Settlement::escrow()), least);
        assert_eq!(Balances::total_issuance(), before.1 - BURNED);
    });
}
