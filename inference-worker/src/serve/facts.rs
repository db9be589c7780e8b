//! What the chain says, read once a block and not once a request.

use openledger_chain::{
    apis::settlement::{ChannelInfo, GetChannel, WorkerExposure},
    AccountId, ChainClient, ChainError,
};
use openledger_primitives::{
    voucher::EvidenceClass, Balance, BlockNumber, ChannelId, Digest, LaneIndex, PublicKey, Sequence,
};
use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicU32, Ordering},
        Mutex, PoisonError,
    },
    time::{Duration, Instant},
};

/// Without a new block for this long the worker calls itself not ready.
const STALE: Duration = Duration::from_secs(60);

/// A channel as admission needs it.
#[derive(Clone, Debug)]
pub struct Channel {
    /// The worker that it pays.
    pub worker: AccountId,
    /// Whether new work may be paid from it.
    pub open: bool,
    /// Deposit not yet in a batch's escrow, planck.
    pub free_deposit: Balance,
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
    /// Its signer, where valid.
    pub signer: Option<PublicKey>,
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
}

#[derive(Default)]
struct Cache {
    block: BlockNumber,
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
            .map(|info| of_info(&info, best));
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
    fn renew(&mut self, block: BlockNumber) {
        if self.block != block {
            *self = Cache {
                block,
                ..Cache::default()
            };
        }
    }
}

fn of_info(info: &ChannelInfo, now: BlockNumber) -> Channel {
    let valid = |key: &PublicKey| {
        info.signers
            .iter()
            .any(|signer| signer.key == *key && signer.valid_until >= now)
    };
    Channel {
        worker: info.worker,
        open: info.is_open(),
        free_deposit: info.free_deposit,
        evidence: info.evidence,
        lanes: info
            .lanes
            .iter()
            .map(|lane| Lane {
                index: lane.lane,
                next_sequence: lane.next_sequence,
                cumulative: lane.cumulative,
                signer: Some(lane.signer).filter(valid),
            })
            .collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
