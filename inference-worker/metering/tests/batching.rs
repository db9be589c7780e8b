//! Batches built from random histories: the identities that the chain checks, and their proofs.

mod common;

use common::*;
use openledger_metering::{
    batching::{prepare, PreparedBatch},
    BatchLimits, ChainLane, DeliveredReceipt, LaneHead,
};
use openledger_primitives::{
    batch::{
        batch_hash, claims_root, credits_root, usage_root, BatchRoots, MAX_CLAIMS, MAX_CREDITS,
        MAX_USAGE,
    },
    receipt::ReceiptLeaf,
    sum_tree, Balance,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const LIMITS: BatchLimits = BatchLimits {
    sequence: 3,
    parent: [6; 32],
    epoch: 11,
    now: 90,
    voucher_grace: 20,
    room: Balance::MAX,
    max_claims: u32::MAX,
};

fn lane_start(deposit: Balance) -> ChainLane {
    ChainLane {
        next_sequence: 1,
        cumulative: 0,
        deposit,
        signer: [1; 32],
        signer_room: Balance::MAX,
        claim_until: u32::MAX,
        cut_from: None,
    }
}

/// Terms that nothing ends.
fn always(_: u64, _: u32) -> u32 {
    u32::MAX
}

/// Answers on each of `lanes`, contiguous from the first.
fn history(lanes: &[((u64, u16), Vec<Answer>)]) -> Vec<DeliveredReceipt> {
    let mut receipts = BTreeMap::new();
    for ((channel, lane), answers) in lanes {
        let mut head = LaneHead::default();
        for (revision, tokens_in, tokens_out, credits) in answers {
            let credits: Vec<(u64, Balance)> = credits.iter().map(|(k, v)| (*k, *v)).collect();
            let delivered = answer(
                *channel,
                *lane,
                &head,
                *revision,
                (*tokens_in, *tokens_out),
                &credits,
            );
            head = delivered.head();
            receipts.insert((*channel, *lane, head.sequence), delivered);
        }
    }
    receipts.into_values().collect()
}

type Answer = (u64, u32, u32, BTreeMap<u64, Balance>);

fn lanes() -> impl Strategy<Value = Vec<((u64, u16), Vec<Answer>)>> {
    let credits = prop::collection::btree_map(0u64..9, 1u128..500, 0..4);
    let answers = prop::collection::vec((0u64..4, 0u32..50, 0u32..50, credits), 1..8);
    prop::collection::btree_map((0u64..4, 0u16..4), answers, 1..8)
        .prop_map(|lanes| lanes.into_iter().collect())
}

/// Everything the chain checks without the receipts, and everything provable with them.
fn holds_together(
    batch: &PreparedBatch,
    receipts: &[DeliveredReceipt],
    settled: impl Fn(u64, u16) -> Balance,
) {
    let amounts: Vec<Balance> = batch
        .claims
        .iter()
        .map(|claim| claim.cumulative - settled(claim.channel, claim.lane))
        .collect();
    assert_eq!(amounts.iter().sum::<Balance>(), batch.header.fee);
    assert_eq!(
        batch.usage.iter().map(|u| u.fee).sum::<Balance>(),
        batch.header.fee
    );
    assert_eq!(
        batch.claims.iter().map(|c| c.count).sum::<u32>(),
        batch.header.count
    );
    assert_eq!(
        batch.usage.iter().map(|u| u.count).sum::<u32>(),
        batch.header.count
    );
    assert!(batch.claims.windows(2).all(|w| w[0].key() < w[1].key()));
    assert!(batch.usage.windows(2).all(|w| w[0].key() < w[1].key()));
    assert!(batch.credits.windows(2).all(|w| w[0].key() < w[1].key()));
    assert!(batch.leaves.windows(2).all(|w| w[0] < w[1]));
    assert!(batch.claims.len() as u32 <= MAX_CLAIMS);
    assert!(batch.usage.len() as u32 <= MAX_USAGE);
    assert!(batch.credits.len() as u32 <= MAX_CREDITS);
    let roots = BatchRoots {
        claims: claims_root(batch.claims.iter().zip(amounts.iter().copied())).unwrap(),
        usage: usage_root(batch.usage.iter()).unwrap(),
        credits: credits_root(batch.credits.iter()).unwrap(),
    };
    assert_eq!(batch.hash, batch_hash(&WORKER, &batch.header, &roots));

    // Each line's subroot is the root over exactly the receipts that it stands for.
    let included: BTreeSet<_> = batch.leaves.iter().copied().collect();
    let taken: Vec<(&DeliveredReceipt, ReceiptLeaf)> = receipts
        .iter()
        .map(|receipt| (receipt, receipt.leaf()))
        .filter(|(_, leaf)| included.contains(&(leaf.channel, leaf.lane, leaf.sequence)))
        .collect();
    assert_eq!(taken.len() as u32, batch.header.count);
    for claim in &batch.claims {
        let nodes: Vec<_> = taken
            .iter()
            .filter(|(_, leaf)| (leaf.channel, leaf.lane) == claim.key())
            .map(|(_, leaf)| leaf.node())
            .collect();
        let root = sum_tree::root(&nodes).unwrap();
        assert_eq!(
            (root.hash, root.count),
            (claim.subroot, u64::from(claim.count))
        );
        for (index, node) in nodes.iter().enumerate() {
            let path = sum_tree::prove(&nodes, index).unwrap();
            assert!(sum_tree::verify(&root, nodes.len(), index, *node, &path));
        }
        assert_eq!(claim.voucher.sequence, claim.sequence_to);
    }
    for usage in &batch.usage {
        let of_line: Vec<_> = taken
            .iter()
            .filter(|(receipt, _)| {
                let voucher = &receipt.voucher.voucher;
                (voucher.revision, voucher.terms) == usage.key()
            })
            .collect();
        let nodes: Vec<_> = of_line.iter().map(|(_, leaf)| leaf.node()).collect();
        let root = sum_tree::root(&nodes).unwrap();
        assert_eq!(
            (root.hash, root.sum, root.count),
            (usage.subroot, usage.fee, u64::from(usage.count))
        );
        let charged = |count: fn(&DeliveredReceipt) -> u32| -> u64 {
            of_line
                .iter()
                .map(|(receipt, _)| u64::from(count(receipt)))
                .sum()
        };
        assert_eq!(usage.tokens_in, charged(|r| r.receipt.receipt.tokens_in));
        assert_eq!(usage.tokens_out, charged(|r| r.receipt.receipt.tokens_out));
    }
    let mut credited: BTreeMap<_, (Balance, Vec<_>)> = BTreeMap::new();
    for (receipt, leaf) in &taken {
        for line in &receipt.credits {
            let key = (
                receipt.voucher.voucher.revision,
                line.contribution,
                line.reason,
            );
            let entry = credited.entry(key).or_default();
            entry.0 += line.amount;
            entry.1.push(leaf.credit_node(line.amount));
        }
    }
    assert_eq!(batch.credits.len(), credited.len());
    for credit in &batch.credits {
        let (amount, nodes) = &credited[&credit.key()];
        let root = sum_tree::root(nodes).unwrap();
        assert_eq!(credit.amount, *amount);
        assert_eq!(
            (root.hash, root.count),
            (credit.subroot, u64::from(credit.count))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn claims_usage_and_credits_are_over_the_same_receipts(lanes in lanes()) {
        let receipts = history(&lanes);
        let batch = prepare(&WORKER, &LIMITS, |_, _| Some(lane_start(Balance::MAX)), always, receipts.iter()).unwrap();
        prop_assert_eq!(batch.header.count as usize, receipts.len());
        prop_assert_eq!((batch.header.sequence, batch.header.parent, batch.header.epoch), (3, [6; 32], 11));
        holds_together(&batch, &receipts, |_, _| 0);
        let again = prepare(&WORKER, &LIMITS, |_, _| Some(lane_start(Balance::MAX)), always, receipts.iter()).unwrap();
        prop_assert_eq!(batch, again);
    }

    /// Whatever bond and deposits allow, runs are contiguous from what is settled and within both.
    #[test]
    fn bounds_of_money_are_kept(
        lanes in lanes(), room in 0u128..20_000, deposit in 0u128..8_000, settled in 0usize..4,
    ) {
        let receipts = history(&lanes);
        let state = |channel: u64, lane: u16| -> ChainLane {
            let last = receipts.iter().rfind(|r| {
                let v = &r.voucher.voucher;
                (v.channel, v.lane) == (channel, lane) && v.sequence <= settled as u64
            });
            last.map_or(lane_start(deposit), |last| ChainLane {
                next_sequence: last.voucher.voucher.sequence + 1,
                cumulative: last.receipt.receipt.cum,
                ..lane_start(deposit)
            })
        };
        let limits = BatchLimits { room, ..LIMITS };
        let Some(batch) = prepare(&WORKER, &limits, |c, l| Some(state(c, l)), always, receipts.iter()) else {
            return Ok(());
        };
        prop_assert!(batch.header.fee <= room);
        let mut spent: BTreeMap<u64, Balance> = BTreeMap::new();
        for claim in &batch.claims {
            let from = state(claim.channel, claim.lane);
            prop_assert_eq!(u64::from(claim.count), claim.sequence_to + 1 - from.next_sequence);
            *spent.entry(claim.channel).or_default() += claim.cumulative - from.cumulative;
        }
        prop_assert!(spent.values().all(|spent| *spent <= deposit));
        holds_together(&batch, &receipts, |c, l| state(c, l).cumulative);
    }
}

#[test]
fn more_lines_than_a_batch_holds_wait() {
    let one = |revision: u64| vec![(revision, 1, 1, BTreeMap::new())];
    let all = |_, _| Some(lane_start(Balance::MAX));
    let many: Vec<_> = (0..u64::from(MAX_CLAIMS) + 5)
        .map(|c| ((c, 0), one(1)))
        .collect();
    let receipts = history(&many);
    let batch = prepare(&WORKER, &LIMITS, all, always, receipts.iter()).unwrap();
    assert_eq!(batch.claims.len() as u32, MAX_CLAIMS);
    holds_together(&batch, &receipts, |_, _| 0);

    let many: Vec<_> = (0..u64::from(MAX_USAGE) + 5)
        .map(|c| ((c, 0), one(c)))
        .collect();
    let receipts = history(&many);
    let batch = prepare(&WORKER, &LIMITS, all, always, receipts.iter()).unwrap();
    assert_eq!(batch.usage.len() as u32, MAX_USAGE);
    holds_together(&batch, &receipts, |_, _| 0);

    let many: Vec<_> = (0..u64::from(MAX_CREDITS) / 30 + 5)
        .map(|c| {
            let credits = (0..30).map(|i| (c * 30 + i, 1)).collect();
            ((c, 0), vec![(1, 1, 1, credits)])
        })
        .collect();
    let receipts = history(&many);
    let batch = prepare(&WORKER, &LIMITS, all, always, receipts.iter()).unwrap();
    assert_eq!(batch.credits.len() as u32, MAX_CREDITS / 30 * 30);
    holds_together(&batch, &receipts, |_, _| 0);
}

#[test]
fn gaps_and_unknown_lanes_wait() {
    let answers = |count| (0..count).map(|_| (1, 5, 5, BTreeMap::new())).collect();
    let mut receipts = history(&[((1, 0), answers(5)), ((2, 0), answers(2))]);
    receipts.remove(2);
    let lanes = |channel, _| (channel == 1).then_some(lane_start(Balance::MAX));
    let batch = prepare(&WORKER, &LIMITS, lanes, always, receipts.iter()).unwrap();
    assert_eq!(batch.leaves, [(1, 0, 1), (1, 0, 2)]);
    assert!(prepare(&WORKER, &LIMITS, |_, _| None, always, receipts.iter()).is_none());
    assert!(prepare(&WORKER, &LIMITS, lanes, always, [].iter()).is_none());
}

#[test]
fn what_pays_nobody_waits_for_what_does() {
    let free: Vec<Answer> = vec![(1, 0, 0, BTreeMap::new())];
    let paid: Vec<Answer> = vec![(1, 50, 5, BTreeMap::new())];
    let any = |_, _| lane_start(Balance::MAX);
    let alone = history(&[((1, 0), free.clone())]);
    assert!(leaves(&LIMITS, &alone, any).is_empty());
    let both = history(&[((1, 0), free), ((2, 0), paid)]);
    assert_eq!(leaves(&LIMITS, &both, any), [(1, 0, 1), (2, 0, 1)]);
}

/// Receipts of one lane whose vouchers expire as given.
fn expiring(channel: u64, lane: u16, expiries: &[u32]) -> Vec<DeliveredReceipt> {
    let mut head = LaneHead::default();
    expiries
        .iter()
        .map(|expiry| {
            let mut delivered = answer(channel, lane, &head, 7, (5, 5), &[]);
            delivered.voucher.voucher.expiry = *expiry;
            head = delivered.head();
            delivered
        })
        .collect()
}

fn leaves(
    limits: &BatchLimits,
    receipts: &[DeliveredReceipt],
    lane: impl Fn(u64, u16) -> ChainLane,
) -> Vec<(u64, u16, u64)> {
    prepare(
        &WORKER,
        limits,
        |channel, index| Some(lane(channel, index)),
        always,
        receipts.iter(),
    )
    .map_or(Vec::new(), |batch| batch.leaves)
}

/// A claim rests on its last voucher: a lapsed one before it is paid with it, one after it is not.
#[test]
fn a_claim_never_rests_on_a_lapsed_voucher() {
    let any = |_, _| lane_start(Balance::MAX);
    // Best block 90, grace 20, three blocks for inclusion: expiries from 73 on can be claimed.
    let good = 73;
    let lapsed = 72;
    let one = |expiries: &[u32]| leaves(&LIMITS, &expiring(1, 0, expiries), any);
    assert_eq!(one(&[good]), [(1, 0, 1)]);
    assert!(one(&[lapsed]).is_empty());
    assert_eq!(one(&[lapsed, good]), [(1, 0, 1), (1, 0, 2)]);
    assert_eq!(one(&[good, lapsed]), [(1, 0, 1)]);
    assert_eq!(one(&[lapsed, good, lapsed, lapsed]).len(), 2);
    // Money ends between two claimable vouchers, at a lapsed one: the claim rests before it.
    let receipts = expiring(1, 0, &[good, lapsed, good]);
    let fee = receipts[0].receipt.receipt.fee;
    let limits = BatchLimits {
        room: fee * 2,
        ..LIMITS
    };
    assert_eq!(leaves(&limits, &receipts, any), [(1, 0, 1)]);
}

/// One lane that cannot be claimed does not hold up the others.
#[test]
fn a_closed_channel_or_an_expired_signer_is_left_out() {
    let receipts = [expiring(1, 0, &[100]), expiring(2, 0, &[100])].concat();
    let lane = |until: u32| {
        move |channel: u64, _: u16| ChainLane {
            claim_until: if channel == 1 { until } else { u32::MAX },
            ..lane_start(Balance::MAX)
        }
    };
    assert_eq!(leaves(&LIMITS, &receipts, lane(92)), [(2, 0, 1)]);
    assert_eq!(leaves(&LIMITS, &receipts, lane(93)).len(), 2);
}

/// Lanes of one channel share its deposit, and those of one signer its limit.
#[test]
fn a_signer_is_not_claimed_beyond_its_limit() {
    let receipts = [
        expiring(1, 0, &[100, 100]),
        expiring(1, 1, &[100]),
        expiring(1, 2, &[100]),
    ]
    .concat();
    let fee = receipts[0].receipt.receipt.fee;
    let lane = |_, index| ChainLane {
        signer: if index == 2 { [2; 32] } else { [1; 32] },
        signer_room: if index == 2 { fee } else { fee * 2 },
        ..lane_start(fee * 10)
    };
    assert_eq!(
        leaves(&LIMITS, &receipts, lane),
        [(1, 0, 1), (1, 0, 2), (1, 2, 1)]
    );
    let poor = |channel, index| ChainLane {
        deposit: fee * 2,
        ..lane(channel, index)
    };
    assert_eq!(leaves(&LIMITS, &receipts, poor), [(1, 0, 1), (1, 0, 2)]);
}

/// When not everything fits, what would lapse first goes first.
#[test]
fn the_earliest_deadline_goes_first() {
    let receipts = [
        expiring(1, 0, &[200]),
        expiring(2, 0, &[100]),
        expiring(3, 0, &[300]),
    ]
    .concat();
    let any = |_, _| lane_start(Balance::MAX);
    let limits = BatchLimits {
        max_claims: 1,
        ..LIMITS
    };
    assert_eq!(leaves(&limits, &receipts, any), [(2, 0, 1)]);
    let fee = receipts[0].receipt.receipt.fee;
    let limits = BatchLimits {
        room: fee * 2,
        ..LIMITS
    };
    // A cut of the deposit of channel 3 is due before either voucher lapses.
    let cut = |channel, _| ChainLane {
        cut_from: (channel == 3).then_some(95),
        ..lane_start(Balance::MAX)
    };
    assert_eq!(leaves(&limits, &receipts, cut), [(2, 0, 1), (3, 0, 1)]);
}

/// However many lanes pay nothing, and however early they lapse, one that pays goes first.
#[test]
fn free_lanes_take_only_the_places_left() {
    let free: Vec<Answer> = vec![(1, 0, 0, BTreeMap::new())];
    let mut receipts = history(
        &(0..u64::from(MAX_CLAIMS))
            .map(|channel| ((channel, 0), free.clone()))
            .collect::<Vec<_>>(),
    );
    receipts.extend(expiring(9_000, 0, &[200]));
    let any = |_, _| lane_start(Balance::MAX);
    let taken = leaves(&LIMITS, &receipts, any);
    assert_eq!(taken.len() as u32, MAX_CLAIMS);
    assert!(taken.contains(&(9_000, 0, 1)));

    let one = BatchLimits {
        max_claims: 1,
        ..LIMITS
    };
    assert_eq!(leaves(&one, &receipts, any), [(9_000, 0, 1)]);
}

/// A lane whose first answer was free and whose second its deposit no longer covers pays nothing
/// either.
#[test]
fn a_lane_of_which_only_free_answers_fit_counts_as_free() {
    let answers: Vec<Answer> = vec![(1, 0, 0, BTreeMap::new()), (1, 50, 5, BTreeMap::new())];
    let mut receipts = history(&[((1, 0), answers)]);
    receipts.extend(expiring(2, 0, &[200]));
    let lane = |channel, _| lane_start(if channel == 1 { 0 } else { Balance::MAX });
    let one = BatchLimits {
        max_claims: 1,
        ..LIMITS
    };
    assert_eq!(leaves(&one, &receipts, lane), [(2, 0, 1)]);
    assert_eq!(leaves(&LIMITS, &receipts, lane), [(1, 0, 1), (2, 0, 1)]);
}

/// Usage at terms that are over would have the whole batch refused: the claim rests before it, and
/// nothing after it is claimed without it.
#[test]
fn terms_that_are_over_are_left_out() {
    let of = |revision: u64| -> Answer { (revision, 5, 5, BTreeMap::new()) };
    let receipts = history(&[
        ((1, 0), vec![of(7), of(8), of(7)]),
        ((2, 0), vec![of(8), of(7)]),
        ((3, 0), vec![of(7)]),
    ]);
    let taken = |until: u32| {
        let ends = |revision, _| if revision == 8 { until } else { u32::MAX };
        let any = |_, _| Some(lane_start(Balance::MAX));
        prepare(&WORKER, &LIMITS, any, ends, receipts.iter())
            .unwrap()
            .leaves
    };
    // Best block 90, three blocks for inclusion.
    assert_eq!(taken(92), [(1, 0, 1), (3, 0, 1)]);
    assert_eq!(taken(93).len(), 6);
}

/// Terms that end soon are as good a reason to go first as a voucher that does.
#[test]
fn what_terms_end_first_goes_first() {
    let of = |revision: u64| -> Answer { (revision, 5, 5, BTreeMap::new()) };
    let receipts = history(&[((1, 0), vec![of(7)]), ((2, 0), vec![of(8)])]);
    let ends = |revision, _| if revision == 8 { 100 } else { u32::MAX };
    let any = |_, _| Some(lane_start(Balance::MAX));
    let one = BatchLimits {
        max_claims: 1,
        ..LIMITS
    };
    let batch = prepare(&WORKER, &one, any, ends, receipts.iter()).unwrap();
    assert_eq!(batch.leaves, [(2, 0, 1)]);
}
