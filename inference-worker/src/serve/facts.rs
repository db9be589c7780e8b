//! What the chain says, read once a block and not once a request.

use openledger_chain::{
    apis::settlement::{ChannelInfo, ChannelState, GetChannel, WorkerExposure},
    AccountId, ChainClient, ChainError,
};
use openledger_primitives::{
    voucher::EvidenceClass, Balance, BlockNumber, ChannelId, Digest, LaneIndex, PublicKey, Sequence,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        atomic::{AtomicU32, Ordering},
        Mutex, PoisonError,
    },
    time::{Duration, Instant},
};

/// Without a new block for this long the worker calls itself not ready.
const STALE: Duration = Duration::from_secs(60);

/// Channels that were never seen on chain and are looked up in one block: each look-up is asked for by
/// somebody who has shown nothing yet.
const STRANGERS: usize = 256;

/// A channel as admission needs it.
#[derive(Clone, Debug)]
pub struct Channel {
    /// The worker that it pays.
    pub worker: AccountId,
    /// Who pays.
    pub consumer: AccountId,
    /// Whether new work may be paid from it.
    pub open: bool,
    /// Deposit that new work can count on: neither claimed nor about to be cut, planck.
    pub free_deposit: Balance,
    /// Deposit that claims can still take, planck.
    pub deposit: Balance,
    /// Last block at which claims are accepted.
    pub claim_until: BlockNumber,
    /// Block at which a cut of the deposit can be paid out.
    pub cut_from: Option<BlockNumber>,
    /// How answers may be audited.
    pub evidence: EvidenceClass,
    lanes: Vec<Lane>,
}

/// A lane on chain.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// Index.
    pub index: LaneIndex,
    /// First unsettled sequence.
    pub next_sequence: Sequence,
    /// Cumulative charge settled, planck.
    pub cumulative: Balance,
    /// Its signer.
    pub signer: PublicKey,
    /// Last block at which the signer's vouchers count; 0 when it is no signer of the channel.
    pub valid_until: BlockNumber,
    /// What the signer may still spend, planck.
    pub signer_room: Balance,
}

impl Channel {
    /// All lanes.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// A lane.
    pub fn lane(&self, index: LaneIndex) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.index == index)
    }
}

/// See the module.
pub struct Facts {
    client: ChainClient,
    worker: AccountId,
    domain: Digest,
    best: AtomicU32,
    seen: Mutex<Instant>,
    cache: Mutex<Cache>,
    /// Channels with this worker that were once on chain.
    known: Mutex<HashSet<ChannelId>>,
}

#[derive(Default)]
struct Cache {
    block: BlockNumber,
    /// Channels looked up that were not known before.
    strangers: usize,
    channels: HashMap<ChannelId, Option<Channel>>,
    room: Option<Balance>,
}

impl Facts {
    /// Reads what never changes.
    pub async fn new(client: ChainClient, worker: AccountId) -> Result<Self, ChainError> {
        let domain = client.domain().await?;
        let best = client.best_block().await?.number;
        Ok(Facts {
            client,
            worker,
            domain,
            best: AtomicU32::new(best),
            seen: Mutex::new(Instant::now()),
            cache: Mutex::default(),
            known: Mutex::default(),
        })
    }

    /// The signing domain.
    pub fn domain(&self) -> Digest {
        self.domain
    }

    /// The best block seen.
    pub fn best_block(&self) -> BlockNumber {
        self.best.load(Ordering::Relaxed)
    }

    /// A new best block.
    pub fn saw_block(&self, number: BlockNumber) {
        self.best.store(number, Ordering::Relaxed);
        *lock(&self.seen) = Instant::now();
    }

    /// Whether blocks keep coming.
    pub fn is_fresh(&self) -> bool {
        lock(&self.seen).elapsed() < STALE
    }

    /// Whether a channel may be looked up now, on behalf of somebody who has shown no signature.
    pub fn admits_stranger(&self, id: ChannelId) -> bool {
        let mut cache = lock(&self.cache);
        cache.renew(self.best_block());
        cache.admits(id, &lock(&self.known))
    }

    /// A channel, as of the best block.
    pub async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
        let best = self.best_block();
        {
            let cache = lock(&self.cache);
            if let (true, Some(channel)) = (cache.block == best, cache.channels.get(&id)) {
                return Ok(channel.clone());
            }
        }
        let channel = self
            .client
            .query(&GetChannel { channel: id })
            .await?
            .map(|info| of_info(&info));
        if channel.as_ref().is_some_and(|c| c.worker == self.worker) {
            lock(&self.known).insert(id);
        }
        let mut cache = lock(&self.cache);
        cache.renew(best);
        cache.channels.insert(id, channel.clone());
        Ok(channel)
    }

    /// The largest fee that this worker's next batch may have, as of the best block.
    pub async fn exposure_room(&self) -> Result<Balance, ChainError> {
        let best = self.best_block();
        {
            let cache = lock(&self.cache);
            if let (true, Some(room)) = (cache.block == best, cache.room) {
                return Ok(room);
            }
        }
        let exposure = self
            .client
            .query(&WorkerExposure {
                worker: self.worker,
            })
            .await?;
        let mut cache = lock(&self.cache);
        cache.renew(best);
        cache.room = Some(exposure.room);
        Ok(exposure.room)
    }
}

impl Cache {
    fn admits(&mut self, id: ChannelId, known: &HashSet<ChannelId>) -> bool {
        if known.contains(&id) || self.channels.contains_key(&id) {
            return true;
        }
        self.strangers = self.strangers.saturating_add(1);
        self.strangers <= STRANGERS
    }

    fn renew(&mut self, block: BlockNumber) {
        if self.block != block {
            *self = Cache {
                block,
                ..Cache::default()
            };
        }
    }
}

/// The channel that the chain tells of.
pub(super) fn of_info(info: &ChannelInfo) -> Channel {
    let claim_until = match info.state {
        ChannelState::Open => BlockNumber::MAX,
        ChannelState::Closing { claim_until } => claim_until,
    };
    Channel {
        worker: info.worker,
        consumer: info.consumer,
        open: info.is_open(),
        free_deposit: info.free_deposit,
        deposit: info.deposit,
        claim_until,
        cut_from: info.cut.map(|cut| cut.effective),
        evidence: info.evidence,
        lanes: info
            .lanes
            .iter()
            .map(|lane| {
                let signer = info.signers.iter().find(|signer| signer.key == lane.signer);
                Lane {
                    index: lane.lane,
                    next_sequence: lane.next_sequence,
                    cumulative: lane.cumulative,
                    signer: lane.signer,
                    valid_until: signer.map_or(0, |signer| signer.valid_until),
                    signer_room: signer
                        .map_or(0, |signer| signer.limit.saturating_sub(signer.spent)),
                }
            })
            .collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A channel with one lane that can be claimed until `claim_until`, signed until `valid_until`.
    pub(crate) fn channel(claim_until: BlockNumber, valid_until: BlockNumber) -> Channel {
        Channel {
            worker: AccountId([1; 32]),
            consumer: AccountId([2; 32]),
            open: claim_until == BlockNumber::MAX,
            free_deposit: 100,
            deposit: 100,
            claim_until,
            cut_from: None,
            evidence: EvidenceClass::Open,
            lanes: vec![Lane {
                index: 0,
                next_sequence: 1,
                cumulative: 0,
                signer: [2; 32],
                valid_until,
                signer_room: 100,
            }],
        }
    }

    #[test]
    fn look_ups_for_strangers_should_be_bounded_and_hold_up_nobody_known() {
        let mut cache = Cache::default();
        let known = HashSet::from([7]);
        let admitted = (100..100 + 2 * STRANGERS as ChannelId)
            .filter(|id| cache.admits(*id, &known))
            .count();
        assert_eq!(admitted, STRANGERS);
        assert!(cache.admits(7, &known));
        cache.channels.insert(5, None);
        assert!(cache.admits(5, &known), "it costs no look-up");
        cache.renew(1);
        assert!(
            cache.admits(100, &known),
            "in the next block there are others"
        );
    }
}
