//! Nothing delivered is lost or claimed twice, wherever the worker stops.

mod common;

use common::*;
use openledger_metering::{
    batching::PreparedBatch,
    journal::{BatchState, Hold, JournaledBatch, Totals},
    BatchLimits, ChainLane, DeliveredReceipt, Journal, JournalError, LaneHead,
};
use openledger_primitives::{Balance, Digest};
use parity_scale_codec::Encode;
use proptest::prelude::*;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// Terms that nothing ends.
fn always(_: u64, _: u32) -> u32 {
    u32::MAX
}

/// What the chain does with batches: it takes each sequence once, and of each lane what comes next.
#[derive(Default)]
struct Chain {
    lanes: BTreeMap<(u64, u16), (u64, Balance)>,
    batches: Vec<(Digest, Balance, u32)>,
}

impl Chain {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            sequence: self.batches.len() as u64 + 1,
            parent: self.batches.last().map_or([0; 32], |(hash, ..)| *hash),
            epoch: 1,
            now: 1,
            voucher_grace: 20,
            room: Balance::MAX,
            max_claims: u32::MAX,
        }
    }

    fn lane(&self, channel: u64, lane: u16) -> ChainLane {
        let (settled, cumulative) = self
            .lanes
            .get(&(channel, lane))
            .copied()
            .unwrap_or_default();
        ChainLane {
            next_sequence: settled + 1,
            cumulative,
            deposit: Balance::MAX,
            signer: [1; 32],
            signer_room: Balance::MAX,
            claim_until: u32::MAX,
            cut_from: None,
        }
    }

    fn has(&self, batch: &PreparedBatch) -> bool {
        let index = batch.header.sequence as usize - 1;
        match self.batches.get(index) {
            Some((hash, ..)) => {
                assert_eq!(*hash, batch.hash, "another batch took its place");
                true
            }
            None => false,
        }
    }

    fn submit(&mut self, batch: &PreparedBatch) {
        assert_eq!(batch.header.sequence, self.limits().sequence);
        assert_eq!(batch.header.parent, self.limits().parent);
        let mut fee = 0;
        for claim in &batch.claims {
            let (settled, cumulative) = self.lanes.entry(claim.key()).or_default();
            assert_eq!(claim.sequence_to - *settled, u64::from(claim.count));
            fee += claim.cumulative - *cumulative;
            (*settled, *cumulative) = (claim.sequence_to, claim.cumulative);
        }
        assert_eq!(fee, batch.header.fee);
        self.batches.push((batch.hash, fee, batch.header.count));
    }
}

/// A worker that may stop at any moment, the chain that does not, and what consumers were given.
struct World {
    folder: TempDir,
    lives: u32,
    journal: Option<Journal>,
    chain: Chain,
    heads: BTreeMap<(u64, u16), LaneHead>,
    delivered: Vec<DeliveredReceipt>,
}

#[derive(Clone, Debug)]
enum Step {
    Deliver {
        channel: u64,
        lane: u16,
        tokens: u32,
    },
    DeliverAgain,
    /// Prepare and submit; the transaction may be lost, and the worker may not hear of it.
    Submit {
        arrives: bool,
        heard: bool,
    },
    Refused,
    Settle,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..2, 0u16..2, 0u32..40)
            .prop_map(|(channel, lane, tokens)| Step::Deliver { channel, lane, tokens }),
        1 => Just(Step::DeliverAgain),
        3 => (any::<bool>(), any::<bool>())
            .prop_map(|(arrives, heard)| Step::Submit { arrives, heard }),
        1 => Just(Step::Refused),
        1 => Just(Step::Settle),
        2 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..30)
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut world = World {
            folder,
            lives: 0,
            journal: None,
            chain: Chain::default(),
            heads: BTreeMap::new(),
            delivered: Vec::new(),
        };
        world.journal = Some(Journal::open(&world.path()).unwrap());
        world
    }

    fn path(&self) -> PathBuf {
        self.folder
            .path()
            .join(format!("journal-{}.redb", self.lives))
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    /// What is on disk at this moment is all that the next life finds.
    fn kill(&mut self) {
        let before = self.path();
        self.lives += 1;
        fs::copy(before, self.path()).unwrap();
        self.journal = Some(Journal::open(&self.path()).unwrap());
        self.reconcile();
    }

    /// What a worker does at its start: what the chain has is submitted, whatever was heard.
    fn reconcile(&self) {
        if let Some(batch) = self.journal().prepared().unwrap() {
            if self.chain.has(&batch) {
                self.journal()
                    .mark_submitted(batch.header.sequence)
                    .unwrap();
            }
        }
    }

    fn submit(&mut self, arrives: bool, heard: bool) -> bool {
        self.reconcile();
        let limits = self.chain.limits();
        let lane = |channel, lane| Some(self.chain.lane(channel, lane));
        let before = self.journal().prepared().unwrap();
        let Some(batch) = self
            .journal()
            .prepare(&WORKER, &limits, lane, always)
            .unwrap()
        else {
            return false;
        };
        if let Some(before) = before {
            assert_eq!(before, batch, "a batch is resubmitted as it was");
        }
        if arrives {
            self.chain.submit(&batch);
            if heard {
                self.journal()
                    .mark_submitted(batch.header.sequence)
                    .unwrap();
            }
        }
        true
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Deliver {
                channel,
                lane,
                tokens,
            } => {
                let head = self.heads.entry((*channel, *lane)).or_default();
                let delivered = answer(*channel, *lane, head, 7, (*tokens, 3), &[(1, 5)]);
                *head = delivered.head();
                self.journal().deliver(&delivered).unwrap();
                self.delivered.push(delivered);
            }
            Step::DeliverAgain => {
                if let Some(last) = self.delivered.last() {
                    self.journal().deliver(last).unwrap();
                }
            }
            Step::Submit { arrives, heard } => {
                self.submit(*arrives, *heard);
            }
            Step::Refused => {
                self.reconcile();
                if let Some(batch) = self.journal().prepared().unwrap() {
                    self.journal().discard(batch.header.sequence).unwrap();
                    assert_eq!(self.journal().prepared().unwrap(), None);
                }
            }
            Step::Settle => {
                for sequence in self.journal().submitted().unwrap() {
                    self.journal().mark_settled(sequence).unwrap();
                }
            }
            Step::Kill => self.kill(),
        }
        let prepared = self.journal().prepared().unwrap();
        assert_eq!(
            self.journal().unsubmitted_fees(),
            self.journal().totals().unwrap().pending_fees
                + prepared.map_or(0, |batch| batch.header.fee)
        );
    }

    fn settle_everything(mut self) {
        self.kill();
        while self.submit(true, true) {}
        let fees: Balance = self.delivered.iter().map(|d| d.receipt.receipt.fee).sum();
        assert_eq!(
            self.chain
                .batches
                .iter()
                .map(|(_, fee, _)| fee)
                .sum::<Balance>(),
            fees
        );
        let claimed: u32 = self.chain.batches.iter().map(|(.., count)| count).sum();
        assert_eq!(claimed as usize, self.delivered.len());
        for delivered in &self.delivered {
            let hash = delivered.voucher.voucher.hash();
            assert_eq!(
                self.journal().by_voucher(&hash).unwrap().as_ref(),
                Some(delivered)
            );
        }
        let mut tabled = 0;
        for sequence in 1..=self.chain.batches.len() as u64 {
            tabled += self.journal().leaf_table(sequence).unwrap().len();
        }
        assert_eq!(tabled, self.delivered.len());
        self.step(&Step::Settle);
        assert_eq!(self.journal().totals().unwrap(), Totals::default());
        for ((channel, lane), head) in &self.heads {
            assert_eq!(self.journal().head(*channel, *lane).unwrap(), *head);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn duplicate_leaf_across_epochs(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle_everything();
    }
}

#[test]
fn a_voucher_presented_again_gets_its_receipt() {
    let world = World::new();
    let delivered = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let hash = delivered.voucher.voucher.hash();
    assert_eq!(world.journal().by_voucher(&hash).unwrap(), None);
    world.journal().deliver(&delivered).unwrap();
    assert_eq!(
        world.journal().by_voucher(&hash).unwrap().as_ref(),
        Some(&delivered)
    );
    assert_eq!(
        world.journal().last(1, 0).unwrap().as_ref(),
        Some(&delivered)
    );
    assert_eq!(world.journal().last(1, 1).unwrap(), None);
}

#[test]
fn receipts_out_of_order_are_refused() {
    let world = World::new();
    let first = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let second = answer(1, 0, &first.head(), 7, (5, 5), &[]);
    let third = answer(1, 0, &second.head(), 7, (5, 5), &[]);
    world.journal().deliver(&first).unwrap();
    assert!(matches!(
        world.journal().deliver(&third),
        Err(JournalError::OutOfOrder {
            given: 3,
            last: 1,
            ..
        })
    ));
    // Another receipt for a sequence that has one.
    let other = answer(1, 0, &LaneHead::default(), 8, (6, 6), &[]);
    assert!(matches!(
        world.journal().deliver(&other),
        Err(JournalError::OutOfOrder {
            given: 1,
            last: 1,
            ..
        })
    ));
    assert_eq!(world.journal().head(1, 0).unwrap(), first.head());
    assert_eq!(world.journal().totals().unwrap().pending, 1);
}

#[test]
fn a_lane_has_one_request_in_flight() {
    let world = World::new();
    let guard = world.journal().take_lane(1, 0).unwrap();
    assert!(matches!(
        world.journal().take_lane(1, 0),
        Err(JournalError::LaneBusy(1, 0))
    ));
    let _other = world.journal().take_lane(1, 1).unwrap();
    drop(guard);
    world.journal().take_lane(1, 0).unwrap();
}

#[test]
fn unsettled_fees_are_those_the_chain_does_not_know() {
    let world = World::new();
    let first = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let second = answer(1, 0, &first.head(), 7, (9, 9), &[]);
    let elsewhere = answer(2, 0, &LaneHead::default(), 7, (50, 5), &[]);
    for delivered in [&first, &second, &elsewhere] {
        world.journal().deliver(delivered).unwrap();
    }
    let fees = |settled| {
        let lanes = [(0, settled), (1, 0)].into_iter();
        world.journal().unsettled_fees(1, lanes).unwrap()
    };
    assert_eq!(fees(0), second.receipt.receipt.cum);
    assert_eq!(fees(first.receipt.receipt.cum), second.receipt.receipt.fee);
    assert_eq!(fees(second.receipt.receipt.cum), 0);
}

#[test]
fn what_is_written_off_is_kept_and_owed_no_more() {
    let world = World::new();
    let journal = world.journal();
    let first = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let second = answer(1, 0, &first.head(), 7, (9, 9), &[]);
    let elsewhere = answer(1, 1, &LaneHead::default(), 7, (50, 5), &[]);
    for delivered in [&first, &second, &elsewhere] {
        journal.deliver(delivered).unwrap();
    }
    let lanes: Vec<_> = journal
        .pending_lanes()
        .unwrap()
        .iter()
        .map(|one| (one.channel, one.lane, one.receipts))
        .collect();
    assert_eq!(lanes, [(1, 0, 2), (1, 1, 1)]);
    assert_eq!(journal.write_off(1, 0).unwrap(), second.receipt.receipt.cum);
    assert_eq!(journal.write_off(1, 0).unwrap(), 0);
    let totals = journal.totals().unwrap();
    assert_eq!((totals.pending, totals.lapsed), (1, 2));
    assert_eq!(journal.unsubmitted_fees(), elsewhere.receipt.receipt.fee);
    assert_eq!(
        journal.by_voucher(&second.voucher.voucher.hash()).unwrap(),
        Some(second)
    );
    let chain = Chain::default();
    let batch = journal
        .prepare(
            &WORKER,
            &chain.limits(),
            |c, l| Some(chain.lane(c, l)),
            always,
        )
        .unwrap()
        .unwrap();
    assert_eq!(batch.leaves, [(1, 1, 1)]);
}

#[test]
fn what_another_batch_claimed_is_pending_no_more() {
    let world = World::new();
    let journal = world.journal();
    let first = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let second = answer(1, 0, &first.head(), 7, (9, 9), &[]);
    for delivered in [&first, &second] {
        journal.deliver(delivered).unwrap();
    }
    journal.drop_claimed(1, 0, 2).unwrap();
    journal.drop_claimed(1, 0, 0).unwrap();
    let totals = journal.totals().unwrap();
    assert_eq!((totals.pending, totals.lapsed), (1, 0));
    assert_eq!(journal.unsubmitted_fees(), second.receipt.receipt.fee);
}

/// The bond need not cover what no claim can rest on, until the lane goes on.
#[test]
fn what_lapsed_is_not_owed_until_the_lane_goes_on() {
    let mut world = World::new();
    let first = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let second = answer(1, 0, &first.head(), 7, (9, 9), &[]);
    let elsewhere = answer(2, 0, &LaneHead::default(), 7, (50, 5), &[]);
    for delivered in [&first, &elsewhere] {
        world.journal().deliver(delivered).unwrap();
    }
    world.journal().set_lapsed([(1, 0, 1)].into_iter());
    assert_eq!(
        world.journal().unsubmitted_fees(),
        elsewhere.receipt.receipt.fee
    );
    assert_eq!(world.journal().totals().unwrap().pending, 2);
    let all = second.receipt.receipt.cum + elsewhere.receipt.receipt.fee;
    world.journal().deliver(&second).unwrap();
    assert_eq!(world.journal().unsubmitted_fees(), all);
    // What was looked at before the last answer says nothing of it.
    world.journal().set_lapsed([(1, 0, 1)].into_iter());
    assert_eq!(world.journal().unsubmitted_fees(), all);
    world.kill();
    assert_eq!(world.journal().unsubmitted_fees(), all);
}

#[test]
fn a_parked_lane_is_remembered_and_holds_nothing_up() {
    let mut world = World::new();
    let bad = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let good = answer(1, 1, &LaneHead::default(), 7, (50, 5), &[]);
    for delivered in [&bad, &good] {
        world.journal().deliver(delivered).unwrap();
    }
    let both = bad.receipt.receipt.fee + good.receipt.receipt.fee;
    let unsettled = |world: &World| {
        let lanes = [(0, 0), (1, 0)].into_iter();
        world.journal().unsettled_fees(1, lanes).unwrap()
    };
    let aside = Hold::Aside {
        refusals: 1,
        until: 9,
    };
    world.journal().hold(1, 0, &aside).unwrap();
    assert_eq!(world.journal().unsubmitted_fees(), both);
    let parked = Hold::Parked {
        error: "BadSignature".into(),
    };
    world.journal().hold(1, 0, &parked).unwrap();
    for _ in 0..2 {
        assert_eq!(world.journal().unsubmitted_fees(), good.receipt.receipt.fee);
        assert_eq!(unsettled(&world), good.receipt.receipt.fee);
        assert!(world.journal().is_refused(1, 0).unwrap());
        assert!(!world.journal().is_refused(1, 1).unwrap());
        let held = world.journal().held().unwrap();
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].channel, held[0].lane), (1, 0));
        assert_eq!(held[0].hold, parked);
        assert_eq!(held[0].fees, bad.receipt.receipt.fee);
        world.kill();
    }
    world.journal().hold(1, 1, &aside).unwrap();
    assert_eq!(world.journal().unpark().unwrap(), 1);
    assert!(world.journal().is_refused(1, 1).unwrap());
    world.journal().unhold(1, 1).unwrap();
    assert_eq!(world.journal().unsubmitted_fees(), both);
    assert_eq!(unsettled(&world), both);
    assert!(!world.journal().is_refused(1, 0).unwrap());
    // A lane that is written off is held no more.
    world.journal().hold(1, 0, &parked).unwrap();
    world.journal().write_off(1, 0).unwrap();
    assert_eq!(world.journal().held().unwrap(), []);
}

#[test]
fn a_lane_ends_where_its_terms_are_over() {
    let mut world = World::new();
    let first = answer(1, 0, &LaneHead::default(), 7, (5, 5), &[]);
    let second = answer(1, 0, &first.head(), 8, (9, 9), &[]);
    let third = answer(1, 0, &second.head(), 7, (9, 9), &[]);
    for delivered in [&first, &second, &third] {
        world.journal().deliver(delivered).unwrap();
    }
    let lanes = world.journal().pending_lanes().unwrap();
    assert_eq!(lanes[0].terms, [((7, 1), 1), ((8, 1), 2)].into());
    assert_eq!(
        (lanes[0].first, lanes[0].last, lanes[0].receipts),
        (1, 3, 3)
    );
    assert_eq!(lanes[0].fees, third.receipt.receipt.cum);
    let lost = world.journal().cut_off(1, 0, 2).unwrap();
    assert_eq!(lost, third.receipt.receipt.cum - first.receipt.receipt.cum);
    world.kill();
    assert!(world.journal().is_refused(1, 0).unwrap());
    let totals = world.journal().totals().unwrap();
    assert_eq!((totals.pending, totals.lapsed), (1, 2));
    // What came before can still be claimed.
    assert_eq!(
        world.journal().unsubmitted_fees(),
        first.receipt.receipt.fee
    );
    assert!(world.submit(true, true));
    assert_eq!(world.chain.batches[0].2, 1);
}

const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

/// Four batches, one in each state that the first layout knew, and the last only written down.
fn with_batches() -> World {
    let mut world = World::new();
    let mut head = LaneHead::default();
    for _ in 0..4 {
        let delivered = answer(1, 0, &head, 7, (5, 5), &[]);
        head = delivered.head();
        world.journal().deliver(&delivered).unwrap();
        world.delivered.push(delivered);
        let last = world.delivered.len() == 4;
        assert!(world.submit(!last, !last));
    }
    world.journal().mark_settled(1).unwrap();
    world.journal().mark_settled(2).unwrap();
    world
}

#[test]
fn leaves_are_kept_until_the_batch_is_released() {
    let mut world = with_batches();
    assert_eq!(world.journal().settled().unwrap(), [1, 2]);
    world.journal().mark_released(1).unwrap();
    world.kill();
    assert_eq!(world.journal().settled().unwrap(), [2]);
    assert_eq!(world.journal().leaf_table(1).unwrap(), []);
    assert_eq!(world.journal().leaf_table(2).unwrap().len(), 1);
    let hash = world.delivered[0].voucher.voucher.hash();
    assert!(world.journal().by_voucher(&hash).unwrap().is_some());
}

/// However many batches were ever written, those that are over are not read.
#[test]
fn released_batches_are_not_read_again() {
    let mut world = with_batches();
    world.journal().mark_released(1).unwrap();
    world.journal = None;
    let database = Database::create(world.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut batches = transaction.open_table(BATCHES).unwrap();
        batches.insert(1, [0xff].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let journal = Journal::open(&world.path()).unwrap();
    assert_eq!(journal.prepared().unwrap().unwrap().header.sequence, 4);
    assert_eq!(journal.submitted().unwrap(), [3]);
    assert_eq!(journal.totals().unwrap().open_batches, 2);
}

/// A file of the first layout: no list of open batches, no layout, no held lanes.
#[test]
fn a_journal_of_the_first_layout_opens() {
    let mut world = with_batches();
    let fees = world.journal().unsubmitted_fees();
    assert_eq!(fees, world.delivered[3].receipt.receipt.fee);
    world.journal = None;
    let database = Database::create(world.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    for added in ["meta", "unreleased", "held", "ended"] {
        let tables = transaction.list_tables().unwrap();
        let table = tables.into_iter().find(|table| {
            use redb::TableHandle;
            table.name() == added
        });
        assert!(transaction.delete_table(table.unwrap()).unwrap());
    }
    transaction.commit().unwrap();
    // What the first layout wrote of a batch: its state by number, then the batch.
    let batches = database.begin_read().unwrap().open_table(BATCHES).unwrap();
    let states: Vec<u8> = batches
        .iter()
        .unwrap()
        .map(|entry| entry.unwrap().1.value()[0])
        .collect();
    assert_eq!(states, [2, 2, 1, 0]);
    drop(batches);
    drop(database);
    for _ in 0..2 {
        let journal = Journal::open(&world.path()).unwrap();
        assert_eq!(journal.prepared().unwrap().unwrap().header.sequence, 4);
        assert_eq!(journal.submitted().unwrap(), [3]);
        assert_eq!(journal.settled().unwrap(), [1, 2]);
        assert_eq!(journal.unsubmitted_fees(), fees);
        assert_eq!(journal.totals().unwrap().open_batches, 2);
    }
}

#[test]
fn a_journal_of_a_later_layout_is_left_alone() {
    let mut world = World::new();
    world.journal = None;
    let meta: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
    let database = Database::create(world.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(meta)
        .unwrap()
        .insert("layout", 9)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(
        Journal::open(&world.path()),
        Err(JournalError::Layout(9))
    ));
}

/// The states keep their numbers: journals on disk name them so.
#[test]
fn states_keep_their_numbers() {
    let states = [
        BatchState::Prepared,
        BatchState::Submitted,
        BatchState::Settled,
        BatchState::Released,
    ];
    assert_eq!(states.map(|state| state.encode()[0]), [0, 1, 2, 3]);
    let batch = with_batches().journal().prepared().unwrap().unwrap();
    let journaled = JournaledBatch {
        state: BatchState::Settled,
        batch: batch.clone(),
    };
    assert_eq!(journaled.encode(), (2u8, batch).encode());
}

#[test]
fn a_lost_lane_goes_on_from_what_was_settled() {
    let world = World::new();
    let journal = world.journal();
    let settled = LaneHead {
        sequence: 7,
        cumulative: 900,
        receipt: [3; 32],
    };
    let next = answer(1, 0, &settled, 7, (5, 5), &[]);
    assert!(matches!(
        journal.deliver(&next),
        Err(JournalError::OutOfOrder {
            given: 8,
            last: 0,
            ..
        })
    ));
    journal.adopt(1, 0, &settled).unwrap();
    journal.deliver(&next).unwrap();
    // What is known to be later is not undone.
    journal.adopt(1, 0, &settled).unwrap();
    assert_eq!(journal.head(1, 0).unwrap(), next.head());
}

#[test]
fn a_second_process_does_not_open_the_journal() {
    let world = World::new();
    assert!(matches!(
        Journal::open(&world.path()),
        Err(JournalError::InUse)
    ));
}

const CHILD: &str = "OPENLEDGER_TEST_JOURNAL";

/// The body of the process that is killed below; nothing without its variable.
#[test]
fn deliver_until_killed() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let journal = Journal::open(Path::new(&path)).unwrap();
    let mut head = journal.head(1, 0).unwrap();
    loop {
        let delivered = answer(1, 0, &head, 7, (5, 5), &[(1, 5)]);
        journal.deliver(&delivered).unwrap();
        head = delivered.head();
        println!("\ndelivered {}", head.sequence);
    }
}

#[test]
fn what_was_delivered_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("journal.redb");
    let mut promised = 0;
    for life in 1..=3u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "deliver_until_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(sequence) = line.unwrap().strip_prefix("delivered ") {
                promised = sequence.parse().unwrap();
                if promised >= life * 5 {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let journal = Journal::open(&path).unwrap();
        let head = journal.head(1, 0).unwrap();
        assert!(head.sequence >= promised);
        let batch = journal
            .prepare(
                &WORKER,
                &Chain::default().limits(),
                |c, l| Some(Chain::default().lane(c, l)),
                always,
            )
            .unwrap()
            .unwrap();
        assert_eq!(u64::from(batch.header.count), head.sequence);
        assert_eq!(batch.header.fee, head.cumulative);
        // Refused by the chain: pending again, so that the next life begins as this one did.
        journal.discard(batch.header.sequence).unwrap();
        assert_eq!(journal.totals().unwrap().pending, head.sequence);
    }
}
