//! A round of settlement: batches until nothing is left to claim now.
//!
//! Apart from the service and the chain it runs on, so that what it does with lanes that the chain
//! refuses can be shown.

use super::{
    caution::{Caution, Change, LaneId, Pick, Refusal},
    fate::Fate,
};
use anyhow::{Context, Result};
use openledger_chain::SubmitError;
use openledger_metering::{journal::Hold, BatchLimits, ChainLane, Journal, PreparedBatch};
use openledger_primitives::{Balance, BlockNumber, RevisionId, TermsIndex};
use std::{collections::HashMap, future::Future, sync::Arc};

/// What chain and journal say of what is to be claimed.
#[derive(Clone, Debug)]
pub struct View {
    /// Of the next batch; its claims are those of a full one.
    pub limits: BatchLimits,
    /// Lanes that can be claimed.
    pub lanes: HashMap<LaneId, ChainLane>,
    /// Fees of each lane's receipts in no batch, planck.
    pub owed: HashMap<LaneId, Balance>,
    /// Last block at which usage of each revision and terms is accepted.
    pub terms: HashMap<(RevisionId, TermsIndex), BlockNumber>,
}

/// Where a round takes place.
pub trait Place: Clone + Send + Sync + 'static {
    /// What is owed.
    fn journal(&self) -> &Journal;
    /// The worker's account.
    fn worker(&self) -> [u8; 32];
    /// What can be claimed now.
    fn view(&self) -> impl Future<Output = Result<View>> + Send;
    /// Hands a batch over and waits until a finalized block has it. Gives the block.
    fn submit(
        &self,
        batch: &PreparedBatch,
    ) -> impl Future<Output = Result<BlockNumber, SubmitError>> + Send;
    /// What became of a batch.
    fn fate(&self, batch: &PreparedBatch) -> impl Future<Output = Result<Fate>> + Send;
}

/// What a step of a round did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// More can be done at once.
    Again,
    /// The rest waits for the next period.
    Done,
}

/// Submits what is pending. What the chain refuses is tried again at once in smaller batches: a period
/// later, what others owe might have lapsed.
pub async fn round<P: Place>(place: &P, caution: &mut Caution) -> Result<()> {
    while step(place, caution).await? == Step::Again {}
    Ok(())
}

async fn step<P: Place>(place: &P, caution: &mut Caution) -> Result<Step> {
    if let Some(prepared) = place.journal().prepared()? {
        // The process may have ended between submission and the note of it.
        let sequence = prepared.header.sequence;
        match place.fate(&prepared).await? {
            Fate::Included => place.journal().mark_submitted(sequence)?,
            Fate::Displaced => place.journal().discard(sequence)?,
            Fate::Open => {
                let now = place.view().await?.limits.now;
                return submit(place, caution, prepared, now, false).await;
            }
        }
        return Ok(Step::Again);
    }
    if place.journal().totals()?.pending == 0 {
        return Ok(Step::Done);
    }
    let view = Arc::new(place.view().await?);
    let now = view.limits.now;
    let owed = |lane: LaneId| view.owed.get(&lane).copied();
    note(place, caution.forget(|lane| owed(lane).is_some()))?;
    let mut pick = Some(caution.first());
    while let Some(this) = pick {
        let most = caution.max_claims(this);
        if let Some(batch) = prepare(place, caution, &view, this).await? {
            let full = u32::try_from(batch.claims.len()).unwrap_or(u32::MAX) >= most;
            return submit(place, caution, batch, now, full).await;
        }
        let changes = caution.nothing_in(this, now, |lane| owed(lane).unwrap_or(0));
        note(place, changes)?;
        pick = match this {
            Pick::Suspects => Some(Pick::Common),
            Pick::Common | Pick::Alone(_) => caution.due(now).map(Pick::Alone),
        };
    }
    Ok(Step::Done)
}

async fn prepare<P: Place>(
    place: &P,
    caution: &Caution,
    view: &Arc<View>,
    pick: Pick,
) -> Result<Option<PreparedBatch>> {
    let limits = BatchLimits {
        max_claims: caution.max_claims(pick),
        ..view.limits
    };
    let lanes: HashMap<LaneId, ChainLane> = view
        .lanes
        .iter()
        .filter(|(lane, _)| caution.allows(pick, **lane))
        .map(|(lane, state)| (*lane, *state))
        .collect();
    let (place, view) = (place.clone(), view.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        place.journal().prepare(
            &place.worker(),
            &limits,
            |channel, lane| lanes.get(&(channel, lane)).copied(),
            // Delivered since the chain was asked: it waits for the next batch.
            |revision, terms| view.terms.get(&(revision, terms)).copied().unwrap_or(0),
        )
    })
    .await
    .context("the journal's thread")??;
    Ok(prepared)
}

async fn submit<P: Place>(
    place: &P,
    caution: &mut Caution,
    batch: PreparedBatch,
    now: BlockNumber,
    full: bool,
) -> Result<Step> {
    let sequence = batch.header.sequence;
    let more = |caution: &Caution| {
        let searching = caution.first() == Pick::Suspects || caution.due(now).is_some();
        if full || searching {
            Step::Again
        } else {
            Step::Done
        }
    };
    match place.submit(&batch).await {
        Ok(block) => {
            place.journal().mark_submitted(sequence)?;
            note(place, caution.accepted(&batch))?;
            metrics::counter!("openledger_batches_submitted_total").increment(1);
            tracing::info!(
                sequence,
                receipts = batch.header.count,
                fee = %batch.header.fee,
                block,
                "batch finalized in a block; its challenge window runs"
            );
            Ok(more(caution))
        }
        Err(error @ (SubmitError::Dispatch { .. } | SubmitError::Invalid { .. })) => {
            // A copy that was handed over before may have been faster than this one.
            if place.fate(&batch).await? == Fate::Included {
                place.journal().mark_submitted(sequence)?;
                note(place, caution.accepted(&batch))?;
                return Ok(more(caution));
            }
            // Refused as it is: its receipts go into a new one that fits what the chain says now.
            place.journal().discard(sequence)?;
            match caution.refused(&batch, &error, now) {
                Refusal::NotOfALine => return Err(error).context("the chain refused the batch"),
                Refusal::OneOf(lanes) => tracing::warn!(
                    lanes, %error, "the chain refused a batch over one of its lanes; looking for it"
                ),
                Refusal::Lane(lane, hold) => {
                    tell(lane, &hold, &error);
                    note(place, vec![(lane, Some(hold))])?;
                }
            }
            Ok(Step::Again)
        }
        Err(error) => Err(error.into()),
    }
}

fn tell((channel, lane): LaneId, hold: &Hold, error: &SubmitError) {
    match hold {
        Hold::Aside { refusals, until } => tracing::error!(
            channel, lane, refusals, until, %error,
            "the chain refuses this lane: it is left out of batches, and tried alone from block `until`"
        ),
        Hold::Parked { .. } => tracing::error!(
            channel, lane, %error,
            "the chain refused this lane again and again: it is parked, and tried no more until the \
             worker is started with --retry-parked"
        ),
    }
}

/// Writes down what became of lanes.
fn note<P: Place>(place: &P, changes: Vec<Change>) -> Result<()> {
    for ((channel, lane), hold) in changes {
        match hold {
            Some(hold) => place.journal().hold(channel, lane, &hold)?,
            None => place.journal().unhold(channel, lane)?,
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::serve::settlement::caution::Caution;
    use openledger_chain::DispatchFailure;
    use openledger_metering::{DeliveredReceipt, LaneHead, SignedReceipt, SignedVoucher};
    use openledger_primitives::{
        batch::MAX_CLAIMS,
        receipt::{BackendClass, Outcome, Receipt},
        voucher::{EvidenceClass, Voucher},
        BatchSequence, Digest, Signature, FORMAT_VERSION,
    };
    use std::{
        collections::BTreeSet,
        sync::{Mutex, MutexGuard},
    };
    use tempfile::TempDir;

    pub fn refusal(error: &str) -> SubmitError {
        SubmitError::Dispatch(Box::new(DispatchFailure {
            call: "Settlement.submit_batch".into(),
            pallet: "Settlement".into(),
            error: error.into(),
            docs: String::new(),
            block: [0; 32],
        }))
    }

    /// A chain that refuses every batch with one of the bad lanes in it.
    struct Chain {
        now: BlockNumber,
        bad: BTreeSet<LaneId>,
        paid: HashMap<LaneId, (u64, Balance)>,
        next: BatchSequence,
        parent: Digest,
        tries: u32,
        taken: u32,
    }

    #[derive(Clone)]
    struct World {
        chain: Arc<Mutex<Chain>>,
        journal: Arc<Journal>,
        folder: Arc<TempDir>,
    }

    impl World {
        /// Lanes `0..lanes` of channel 1 with an answer each.
        fn new(lanes: u16, bad: &[u16], fee: impl Fn(u16) -> Balance) -> Self {
            let folder = TempDir::new().unwrap();
            let journal = Journal::open(&folder.path().join("journal.redb")).unwrap();
            let world = World {
                chain: Arc::new(Mutex::new(Chain {
                    now: 100,
                    bad: bad.iter().map(|lane| (1, *lane)).collect(),
                    paid: HashMap::new(),
                    next: 1,
                    parent: [0; 32],
                    tries: 0,
                    taken: 0,
                })),
                journal: Arc::new(journal),
                folder: Arc::new(folder),
            };
            for lane in 0..lanes {
                world.deliver(lane, fee(lane));
            }
            world
        }

        fn chain(&self) -> MutexGuard<'_, Chain> {
            self.chain.lock().unwrap()
        }

        fn deliver(&self, lane: u16, fee: Balance) {
            let head: LaneHead = self.journal.head(1, lane).unwrap();
            let voucher = Voucher {
                version: FORMAT_VERSION,
                domain: [0; 32],
                channel: 1,
                lane,
                sequence: head.sequence + 1,
                prev_receipt: head.receipt,
                prev_cum: head.cumulative,
                max_fee: fee,
                revision: 7,
                terms: 0,
                agent: None,
                request_commit: [0; 32],
                chunk: 1,
                max_in: 1,
                max_out: 1,
                evidence: EvidenceClass::Open,
                expiry: 1_000_000,
            };
            let receipt = Receipt {
                version: FORMAT_VERSION,
                domain: [0; 32],
                voucher: voucher.hash(),
                worker: [7; 32],
                key: 0,
                outcome: Outcome::Complete,
                tokens_in: 1,
                tokens_out: 1,
                fee,
                cum: head.cumulative + fee,
                output_commit: [0; 32],
                fingerprint_root: [0; 32],
                attribution_root: [0; 32],
                retrieval_root: [0; 32],
                start_block: 9,
                first_token_ms: 1,
                total_ms: 1,
                backend: BackendClass::CpuF32,
            };
            let signature = Signature([0; 64]);
            let delivered = DeliveredReceipt {
                voucher: SignedVoucher { voucher, signature },
                receipt: SignedReceipt { receipt, signature },
                output_salt: [0; 32],
                credits: Vec::new(),
            };
            self.journal.deliver(&delivered).unwrap();
        }

        /// The process ends and begins again.
        fn restart(self) -> Self {
            let World {
                chain,
                journal,
                folder,
            } = self;
            drop(journal);
            let journal = Journal::open(&folder.path().join("journal.redb")).unwrap();
            World {
                chain,
                journal: Arc::new(journal),
                folder,
            }
        }

        fn caution(&self) -> Caution {
            Caution::new(&self.journal.held().unwrap())
        }

        /// A round; gives how many batches were tried, and how many of those taken.
        async fn round(&self, caution: &mut Caution) -> (u32, u32) {
            let counts = || {
                let chain = self.chain();
                (chain.tries, chain.taken)
            };
            let (tries, taken) = counts();
            round(self, caution).await.unwrap();
            let (later_tries, later_taken) = counts();
            (later_tries - tries, later_taken - taken)
        }

        fn unpaid(&self, lanes: u16) -> Vec<u16> {
            let chain = self.chain();
            (0..lanes)
                .filter(|lane| !chain.paid.contains_key(&(1, *lane)))
                .collect()
        }
    }

    impl Place for World {
        fn journal(&self) -> &Journal {
            &self.journal
        }

        fn worker(&self) -> [u8; 32] {
            [7; 32]
        }

        async fn view(&self) -> Result<View> {
            let pending = self.journal.pending_lanes()?;
            let chain = self.chain();
            let lane = |key: &LaneId| {
                let (settled, cumulative) = chain.paid.get(key).copied().unwrap_or_default();
                ChainLane {
                    next_sequence: settled + 1,
                    cumulative,
                    deposit: Balance::MAX,
                    signer: [1; 32],
                    signer_room: Balance::MAX,
                    claim_until: BlockNumber::MAX,
                    cut_from: None,
                }
            };
            let keys = pending.iter().map(|one| (one.channel, one.lane));
            Ok(View {
                limits: BatchLimits {
                    sequence: chain.next,
                    parent: chain.parent,
                    epoch: 0,
                    now: chain.now,
                    voucher_grace: 20,
                    room: Balance::MAX,
                    max_claims: MAX_CLAIMS,
                },
                lanes: keys.map(|key| (key, lane(&key))).collect(),
                owed: pending
                    .iter()
                    .map(|one| ((one.channel, one.lane), one.fees))
                    .collect(),
                terms: HashMap::from([((7, 0), BlockNumber::MAX)]),
            })
        }

        async fn submit(&self, batch: &PreparedBatch) -> Result<BlockNumber, SubmitError> {
            let mut chain = self.chain();
            chain.now += 3;
            chain.tries += 1;
            assert!(chain.tries < 2_000, "without end");
            if batch
                .claims
                .iter()
                .any(|claim| chain.bad.contains(&claim.key()))
            {
                return Err(refusal("BadSignature"));
            }
            for claim in &batch.claims {
                let paid = (claim.sequence_to, claim.cumulative);
                chain.paid.insert(claim.key(), paid);
            }
            chain.next += 1;
            chain.parent = batch.hash;
            chain.taken += 1;
            Ok(chain.now)
        }

        async fn fate(&self, _: &PreparedBatch) -> Result<Fate> {
            Ok(Fate::Open)
        }
    }

    /// Ten tries find one of 512, and nothing waits for the next period.
    #[tokio::test]
    async fn good_lanes_are_paid_in_the_round_that_meets_bad_ones() {
        for (bad, most) in [
            (vec![], 2),
            (vec![300], 14),
            (vec![3, 400], 28),
            (vec![0, 1, 255, 256, 511], 70),
        ] {
            let world = World::new(600, &bad, |_| 5);
            let mut caution = world.caution();
            let (tries, _) = world.round(&mut caution).await;
            assert_eq!(world.unpaid(600), bad);
            assert!(tries <= most, "{tries} tries for {bad:?}");
            // The bad ones cost nothing until their time has come, and hold up nobody.
            assert_eq!(world.round(&mut caution).await, (0, 0));
            world.deliver(7, 5);
            assert_eq!(world.round(&mut caution).await, (1, 1));
        }
    }

    /// Each bad lane found halves the next batch: not each costs a search of its own.
    #[tokio::test]
    async fn where_all_lanes_are_bad_each_costs_two_tries_at_most() {
        let world = World::new(64, &(0..64).collect::<Vec<_>>(), |_| 5);
        let mut caution = world.caution();
        let (tries, taken) = world.round(&mut caution).await;
        assert!(tries <= 2 * 64, "{tries} tries");
        assert_eq!(taken, 0);
    }

    /// Each time it is tried alone; then never again, across restarts, until the operator asks for it.
    #[tokio::test]
    async fn a_lane_that_stays_bad_is_parked() {
        let mut world = World::new(8, &[2, 5], |_| 5);
        let mut caution = world.caution();
        world.round(&mut caution).await;
        for _ in 0..3 {
            world.chain().now += 10_000;
            world = world.restart();
            caution = world.caution();
            assert_eq!(world.journal.unsubmitted_fees(), 10);
            assert_eq!(world.round(&mut caution).await, (2, 0));
        }
        for _ in 0..2 {
            world.chain().now += 1_000_000 / 4;
            let held = world.journal.held().unwrap();
            assert!(held.iter().all(|one| one.hold.is_parked()));
            assert_eq!(held.len(), 2);
            assert_eq!(world.journal.unsubmitted_fees(), 0);
            assert_eq!(world.round(&mut caution).await, (0, 0));
            world = world.restart();
            caution = world.caution();
        }
        world.chain().bad.clear();
        assert_eq!(world.journal.unpark().unwrap(), 2);
        caution = world.caution();
        assert_eq!(world.round(&mut caution).await, (1, 1));
        assert_eq!(world.unpaid(8), Vec::<u16>::new());
    }

    /// What was refused for a passing reason is paid when it is tried again, and is in batches with
    /// others from then on.
    #[tokio::test]
    async fn a_lane_that_is_good_again_is_held_no_more() {
        let world = World::new(8, &[2], |_| 5);
        let mut caution = world.caution();
        world.round(&mut caution).await;
        world.chain().bad.clear();
        world.chain().now += 10_000;
        assert_eq!(world.round(&mut caution).await, (1, 1));
        assert_eq!(world.journal.held().unwrap(), []);
        assert_eq!(world.unpaid(8), Vec::<u16>::new());
    }

    /// A bad lane that owes nothing can stand in no batch of its own.
    #[tokio::test]
    async fn a_bad_lane_that_is_free_holds_up_nobody() {
        let world = World::new(16, &[3], |lane| if lane == 3 { 0 } else { 5 });
        let mut caution = world.caution();
        let (tries, _) = world.round(&mut caution).await;
        assert!(tries <= 8, "{tries} tries");
        assert_eq!(world.unpaid(16), [3]);
        world.deliver(0, 5);
        assert_eq!(world.round(&mut caution).await, (1, 1));
    }
}
