//! What the requests of one gateway share: the channel, its lanes, the worker, the chain.

use crate::{
    budget::{Budget, Funds},
    catalogue::Catalogue,
    check::Signer,
    commands::by_signer,
    lanes::{adopt, settle, Came, LaneGuard, LanePool, LaneState, LaneStore, Reconciled},
    metrics,
    upstream::Worker,
    voucher::MaxPrice,
    GatewayError,
};
use futures::StreamExt;
use openledger_chain::{
    apis::{settlement::ChannelInfo, workers::WorkerInfo},
    AccountId, ChainClient, Key,
};
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{
    receipt::Receipt, Balance, BlockNumber, ChannelId, Digest, KeyIndex, LaneIndex,
};
use openledger_store::Store;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How a gateway runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Key that signs vouchers: a signer of the channel.
    pub key: Key,
    /// The channel; without it, the one that `open-channel` noted or was opening. Without that either,
    /// the error names the channels on chain that have the key as a signer.
    pub channel: Option<ChannelId>,
    /// The content-addressed store that has the base model's tokenizer and template.
    pub store: Store,
    /// Folder of the gateway's own state.
    pub data: PathBuf,
    /// Requests that may wait for a lane.
    pub queue: usize,
    /// How long each may wait.
    pub patience: Duration,
    /// Blocks after which a voucher no longer starts work.
    pub voucher_life: BlockNumber,
    /// What a model may cost.
    pub max_price: MaxPrice,
}

/// How long the channel and the worker are taken as they were read.
const FRESH: Duration = Duration::from_secs(3);
/// How long they are used when the chain cannot be read.
const STALE: Duration = Duration::from_secs(600);
/// How often a worker is asked about a voucher in doubt, and how many times.
const RESYNC_EVERY: Duration = Duration::from_millis(250);
const RESYNC_TRIES: u32 = 40;
/// Times that a worker is asked again when it says that it did not use a voucher that was just cut
/// off: the request may still be on its way to it.
const RESYNC_QUIET: u32 = 2;

/// How long the worker is asked about a voucher in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Once: the worker itself said what it did.
    Once,
    /// Until it is done: the request was cut off a moment ago.
    Patiently,
}

/// A running gateway.
pub struct Gateway {
    pub(crate) chain: ChainClient,
    pub(crate) key: Key,
    pub(crate) domain: Digest,
    pub(crate) channel: ChannelId,
    pub(crate) catalogue: Catalogue,
    pub(crate) store: LaneStore,
    pub(crate) pool: Arc<LanePool>,
    pub(crate) budget: Budget,
    pub(crate) voucher_life: BlockNumber,
    pub(crate) max_price: MaxPrice,
    pub(crate) worker: AccountId,
    best: watch::Receiver<BlockNumber>,
    read: tokio::sync::Mutex<Read>,
    /// Cumulative charge of each lane used since the start, planck.
    cumulative: Mutex<BTreeMap<LaneIndex, Balance>>,
}

/// The channel and the worker as last read.
struct Read {
    channel: (Instant, ChannelInfo),
    worker: (Instant, WorkerInfo),
    upstream: Worker,
}

impl Gateway {
    /// Finds the channel, its lanes and its worker.
    ///
    /// # Errors
    /// [`GatewayError::Channel`] when there is no channel that this key may spend from, or it is
    /// closing; chain and data errors.
    pub async fn start(chain: ChainClient, settings: Settings) -> Result<Arc<Self>, GatewayError> {
        metrics::describe();
        let store = LaneStore::open(&settings.data)?;
        let channel = match settings.channel {
            Some(channel) => channel,
            None => discover(&chain, &store, &settings.key).await?,
        };
        let info = chain
            .channel(channel)
            .await?
            .ok_or_else(|| GatewayError::Channel {
                channel,
                reason: "it is not on chain".into(),
            })?;
        if let Some(reason) = unusable(&info, &settings.key) {
            return Err(GatewayError::Channel { channel, reason });
        }
        let worker = worker_info(&chain, channel, info.worker).await?;
        let upstream = Worker::new(worker.url())?;
        let known: BTreeMap<LaneIndex, LaneState> = store.lanes(channel)?.into_iter().collect();
        let pool = LanePool::new(
            channel,
            info.lanes.iter().map(|lane| {
                let parked = known.get(&lane.lane).and_then(|state| state.parked.clone());
                (lane.lane, parked)
            }),
            settings.queue,
            settings.patience,
        );
        for (lane, reason) in pool.parked() {
            tracing::warn!(channel, lane, %reason, "lane is parked");
        }
        metrics::lanes(pool.usable(), pool.parked().len());
        let cumulative = known
            .iter()
            .map(|(lane, state)| (*lane, state.position.cumulative))
            .collect();
        let (sender, best) = watch::channel(chain.best_block().await?.number);
        let mut numbers = chain.best_block_numbers();
        tokio::spawn(async move {
            while let Some(number) = numbers.next().await {
                if sender.send(number).is_err() {
                    break;
                }
            }
        });
        let domain = chain.domain().await?;
        let now = Instant::now();
        Ok(Arc::new(Gateway {
            catalogue: Catalogue::new(chain.clone(), info.worker, settings.store),
            key: settings.key,
            domain,
            channel,
            store,
            pool,
            budget: Budget::default(),
            voucher_life: settings.voucher_life,
            max_price: settings.max_price,
            worker: info.worker,
            best,
            read: tokio::sync::Mutex::new(Read {
                channel: (now, info),
                worker: (now, worker),
                upstream,
            }),
            cumulative: Mutex::new(cumulative),
            chain,
        }))
    }

    /// The channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The best block known.
    pub fn best_block(&self) -> BlockNumber {
        *self.best.borrow()
    }

    /// The worker's HTTP API at the endpoint that the chain has.
    pub async fn upstream(&self) -> Result<Worker, GatewayError> {
        let mut read = self.read.lock().await;
        self.refresh_worker(&mut read, false).await?;
        Ok(read.upstream.clone())
    }

    /// The worker's account and the key that a receipt names, if it is in force, or was when the
    /// work began: a receipt in doubt may be older than the worker's present key.
    pub async fn signer(&self, receipt: &Receipt) -> Result<Signer, GatewayError> {
        let mut read = self.read.lock().await;
        let now = self.best_block();
        let find = |info: &WorkerInfo| {
            info.service_key(receipt.key, now)
                .or_else(|| info.service_key(receipt.key, receipt.start_block.min(now)))
        };
        if find(&read.worker.1).is_none() {
            // A new key may have been set since.
            self.refresh_worker(&mut read, true).await?;
        }
        Ok(Signer {
            worker: self.worker.0,
            key: find(&read.worker.1).map(|key| key.0),
        })
    }

    /// The worker without a key, for when there is no receipt to check.
    fn no_signer(&self) -> Signer {
        Signer {
            worker: self.worker.0,
            key: None,
        }
    }

    async fn refresh_worker(&self, read: &mut Read, force: bool) -> Result<(), GatewayError> {
        if !force && read.worker.0.elapsed() < FRESH {
            return Ok(());
        }
        match worker_info(&self.chain, self.channel, self.worker).await {
            Ok(info) => {
                if info.url() != read.upstream.url() {
                    read.upstream = Worker::new(info.url())?;
                }
                read.worker = (Instant::now(), info);
                Ok(())
            }
            Err(GatewayError::Chain(error)) if read.worker.0.elapsed() < STALE => {
                tracing::warn!(%error, "using what was known of the worker");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The channel as the chain has it.
    pub async fn channel_info(&self) -> Result<ChannelInfo, GatewayError> {
        let mut read = self.read.lock().await;
        if read.channel.0.elapsed() >= FRESH {
            match self.chain.channel(self.channel).await {
                Ok(Some(info)) => read.channel = (Instant::now(), info),
                Ok(None) => {
                    return Err(GatewayError::Channel {
                        channel: self.channel,
                        reason: "it is closed".into(),
                    })
                }
                Err(error) if read.channel.0.elapsed() < STALE => {
                    tracing::warn!(%error, "using what was known of the channel");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(read.channel.1.clone())
    }

    /// What may still be spent.
    ///
    /// # Errors
    /// [`GatewayError::Channel`] when the channel is closing or the signer is no longer valid.
    pub async fn funds(&self) -> Result<Funds, GatewayError> {
        let info = self.channel_info().await?;
        if let Some(reason) = unusable(&info, &self.key) {
            return Err(GatewayError::Channel {
                channel: self.channel,
                reason,
            });
        }
        let signer = info
            .signers
            .iter()
            .find(|signer| signer.key == self.key.public())
            .map_or(0, |signer| signer.limit.saturating_sub(signer.spent));
        let cumulative = self
            .cumulative
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unclaimed = info.lanes.iter().fold(0, |sum: Balance, lane| {
            let charged = cumulative.get(&lane.lane).copied().unwrap_or(0);
            sum.saturating_add(charged.saturating_sub(lane.cumulative))
        });
        Ok(Funds {
            deposit: info.free_deposit,
            signer,
            unclaimed,
        })
    }

    /// A free lane whose position is settled with the worker. One on which the worker is not done is
    /// left for later.
    pub async fn lane(&self) -> Result<(LaneGuard, LaneState), GatewayError> {
        let mut tried = 0_usize;
        loop {
            let mut guard = self.pool.acquire().await?;
            match self.prepare(&mut guard).await {
                Ok(Some(state)) => return Ok((guard, state)),
                // Parked: the pool says when no lane is left.
                Ok(None) => drop(guard),
                Err(error @ GatewayError::Unsettled { .. }) => {
                    drop(guard);
                    tried = tried.saturating_add(1);
                    if tried >= self.pool.usable() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn prepare(&self, guard: &mut LaneGuard) -> Result<Option<LaneState>, GatewayError> {
        let lane = guard.lane();
        match self.store.lane(self.channel, lane)? {
            Some(state) if state.pending.is_none() => Ok(Some(state)),
            Some(mut state) => {
                self.resolve(guard, &mut state, Ask::Once).await?;
                Ok(state.parked.is_none().then_some(state))
            }
            None => self.adopt(guard).await,
        }
    }

    /// Takes over a lane of which this gateway has no record.
    async fn adopt(&self, guard: &mut LaneGuard) -> Result<Option<LaneState>, GatewayError> {
        let lane = guard.lane();
        let info = self.channel_info().await?;
        let settled = info
            .lanes
            .iter()
            .find(|known| known.lane == lane)
            .map_or((0, 0), |known| {
                (known.next_sequence.saturating_sub(1), known.cumulative)
            });
        let report = self.upstream().await?.lane(self.channel, lane).await?;
        if report.in_flight {
            return Err(working(lane));
        }
        let signer = match &report.receipt {
            Some(signed) => self.signer(&signed.receipt).await?,
            None => self.no_signer(),
        };
        if let (Some(signed), None) = (&report.receipt, signer.key) {
            return Err(key_unknown(lane, signed.receipt.key));
        }
        match adopt(
            self.channel,
            lane,
            settled,
            &report,
            &self.key.public(),
            &signer,
        ) {
            Ok(state) => {
                self.store.put(self.channel, lane, &state)?;
                self.note(lane, state.position.cumulative);
                Ok(Some(state))
            }
            Err(reason) => {
                self.park(guard, &mut LaneState::default(), reason)?;
                Ok(None)
            }
        }
    }

    /// Settles a voucher in doubt by asking the worker. A lane that cannot be settled is parked: see
    /// [`LaneState::parked`].
    ///
    /// # Errors
    /// When the worker cannot be asked or is not done; the lane stays in doubt.
    pub async fn resolve(
        &self,
        guard: &mut LaneGuard,
        state: &mut LaneState,
        ask: Ask,
    ) -> Result<(), GatewayError> {
        let lane = guard.lane();
        let worker = self.upstream().await?;
        let (mut quiet, tries) = match ask {
            Ask::Once => (0, 1),
            Ask::Patiently => (RESYNC_QUIET, RESYNC_TRIES),
        };
        let mut why = working(lane);
        for tried in 0..tries {
            if tried > 0 {
                tokio::time::sleep(RESYNC_EVERY).await;
            }
            let Some(pending) = state.pending.clone() else {
                return Ok(());
            };
            let report = worker.lane(self.channel, lane).await?;
            let signer = match &report.receipt {
                Some(signed) => self.signer(&signed.receipt).await?,
                None => self.no_signer(),
            };
            match settle(&state.position, &pending, &report, &signer) {
                Reconciled::Unused if quiet > 0 => quiet = quiet.saturating_sub(1),
                Reconciled::Unused => {
                    state.pending = None;
                    return self.store.put(self.channel, lane, state);
                }
                Reconciled::Accepted(signed) => {
                    match self.accept(lane, state, &signed, &Came::under(&pending)) {
                        Ok(()) => {}
                        Err(GatewayError::Overdrawn(overdrawn)) => {
                            return self.park(guard, state, overdrawn.to_string());
                        }
                        Err(error) => return Err(error),
                    }
                    tracing::info!(
                        channel = self.channel,
                        lane,
                        sequence = pending.voucher.sequence,
                        fee = signed.receipt.fee,
                        "settled a broken-off request with the worker"
                    );
                    return Ok(());
                }
                Reconciled::Parked(reason) => return self.park(guard, state, reason),
                Reconciled::Working => why = working(lane),
                Reconciled::KeyUnknown(index) => why = key_unknown(lane, index),
            }
        }
        Err(why)
    }

    /// Acknowledges the receipt of the voucher in doubt: from here on the next voucher builds on it.
    ///
    /// # Errors
    /// [`GatewayError::Overdrawn`] when more would be lost to the worker than is put up with; the lane
    /// stays as it is then.
    pub fn accept(
        &self,
        lane: LaneIndex,
        state: &mut LaneState,
        signed: &SignedReceipt,
        came: &Came,
    ) -> Result<(), GatewayError> {
        let Some(pending) = &state.pending else {
            return Err(GatewayError::Data("no voucher is in doubt".into()));
        };
        let accepted = LaneState {
            position: crate::voucher::Position {
                sequence: pending.voucher.sequence,
                receipt: signed.receipt.hash(),
                cumulative: signed.receipt.cum,
            },
            pending: None,
            parked: state.parked.clone(),
        };
        let voucher = SignedVoucher {
            voucher: pending.voucher,
            signature: pending.signature,
        };
        self.store
            .accept(self.channel, lane, &accepted, &voucher, signed, came)?;
        *state = accepted;
        self.note(lane, signed.receipt.cum);
        Ok(())
    }

    /// Takes a lane out of use for good and says why.
    pub fn park(
        &self,
        guard: &mut LaneGuard,
        state: &mut LaneState,
        reason: String,
    ) -> Result<(), GatewayError> {
        tracing::error!(channel = self.channel, lane = guard.lane(), %reason, "lane parked: nothing more is signed on it");
        state.parked = Some(reason.clone());
        guard.park(reason);
        self.store.put(self.channel, guard.lane(), state)?;
        let parked = self.pool.parked().len().saturating_add(1);
        metrics::lanes(self.pool.usable().saturating_sub(1), parked);
        Ok(())
    }

    fn note(&self, lane: LaneIndex, cumulative: Balance) {
        self.cumulative
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(lane, cumulative);
    }
}

fn working(lane: LaneIndex) -> GatewayError {
    GatewayError::Unsettled {
        lane,
        why: "is not done with an earlier request".into(),
    }
}

fn key_unknown(lane: LaneIndex, index: KeyIndex) -> GatewayError {
    GatewayError::Unsettled {
        lane,
        why: format!("signed with service key {index}, which the chain does not have yet as far as this gateway's node knows"),
    }
}

/// Why the key cannot spend from the channel.
fn unusable(info: &ChannelInfo, key: &Key) -> Option<String> {
    if !info.is_open() {
        return Some("it is closing; open another with `openledger-gateway open-channel`".into());
    }
    if !info.signers.iter().any(|signer| signer.key == key.public()) {
        return Some(format!(
            "{} is not one of its signers; add it, or use the key it was opened with",
            key.account()
        ));
    }
    None
}

async fn worker_info(
    chain: &ChainClient,
    channel: ChannelId,
    worker: AccountId,
) -> Result<WorkerInfo, GatewayError> {
    chain
        .worker(worker)
        .await?
        .ok_or_else(|| GatewayError::Channel {
            channel,
            reason: format!("its worker {worker} has left"),
        })
}

/// The channel that the data folder notes, or that an earlier `open-channel` was opening. Channels
/// that merely have the key as a signer are only named: anyone can open one, with a worker of theirs.
async fn discover(
    chain: &ChainClient,
    store: &LaneStore,
    key: &Key,
) -> Result<ChannelId, GatewayError> {
    if let Some(channel) = store.channel()? {
        return Ok(channel);
    }
    if let Some(opening) = store.opening()? {
        if let Some((channel, _)) = opening.outcome(chain).await? {
            store.set_channel(channel)?;
            return Ok(channel);
        }
    }
    let known: Vec<String> = by_signer(chain, key)
        .await?
        .iter()
        .map(|(channel, info)| {
            format!(
                "channel {channel} of consumer {} with worker {}",
                info.consumer, info.worker
            )
        })
        .collect();
    let advice = match known.as_slice() {
        [] => "open one with `openledger-gateway open-channel`".to_owned(),
        known => format!(
            "on chain it may sign for {}; name yours with --channel",
            known.join(", ")
        ),
    };
    Err(GatewayError::Setup(format!(
        "the data folder notes no channel of {}: {advice}",
        key.account()
    )))
}
