//! One task per key that gets calls onto the chain, each exactly once.
//!
//! A call is signed with the next nonce of its account and handed to the node; the next call follows
//! as soon as the node's pool has it, so calls of one key can share a block. Each call is then
//! watched to finality. What makes *exactly once* hold through drops, reorgs, restarts of the node
//! and runtime upgrades is one rule: **a call keeps its nonce until finalized state shows who used
//! it.** Signing the call again with the same nonce is always safe, since at most one of the
//! transactions can be included. It gets another nonce only when a finalized block shows the nonce
//! taken by a transaction that is not one of the call's own, or when everything signed for it is
//! past its last valid block. See [`follow`].

mod follow;
mod place;

use crate::{
    calls::{Call, EncodedCall},
    error::{ChainError, SubmitError},
    outcome::Outcome,
    signing::Signed,
    AccountId, ChainClient, Key,
};
use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use subxt::{
    rpcs::{client::RpcSubscription, methods::legacy::TransactionStatus},
    utils::H256,
};
use tokio::{
    sync::{mpsc, oneshot, Mutex},
    task::JoinSet,
};

/// How a submitter behaves.
#[derive(Clone, Copy, Debug)]
pub struct SubmitterOptions {
    /// Calls that may wait in the queue.
    pub queue: usize,
    /// Paid to the block's author on top of each call's fee, planck.
    pub tip: u128,
    /// How often the chain is asked about a call whose watch has ended.
    pub poll: Duration,
    /// Silence on a watch after which the chain is asked.
    pub silence: Duration,
}

impl Default for SubmitterOptions {
    fn default() -> Self {
        SubmitterOptions {
            queue: 256,
            tip: 0,
            poll: Duration::from_secs(1),
            silence: Duration::from_secs(30),
        }
    }
}

/// Status messages about one transaction.
type Watch = RpcSubscription<TransactionStatus<H256>>;

/// A queued call and who waits for it.
struct Job {
    call: EncodedCall,
    done: oneshot::Sender<Result<Outcome, SubmitError>>,
}

/// A call that has a nonce.
struct Placed {
    nonce: u32,
    /// Every transaction signed for the call with this nonce, oldest first; never empty.
    signed: Vec<Signed>,
    watch: Option<Watch>,
}

impl Placed {
    fn hashes(&self) -> Vec<[u8; 32]> {
        self.signed.iter().map(|signed| signed.hash).collect()
    }
}

/// What the submitter's task and the calls under way share.
struct Shared {
    client: ChainClient,
    key: Key,
    options: SubmitterOptions,
    /// Nonces of the calls under way. Locked while a nonce is chosen and first used.
    reserved: Mutex<BTreeSet<u32>>,
}

/// Submits the calls of one key. Clones share the task; it ends when the last is dropped and every
/// queued call is resolved.
#[derive(Clone)]
pub struct Submitter {
    account: AccountId,
    jobs: mpsc::Sender<Job>,
}

impl Submitter {
    /// Starts the task for `key`. There must be one submitter per key: two would take each other's
    /// nonces, which costs time though never applies a call twice.
    pub fn start(client: ChainClient, key: Key, options: SubmitterOptions) -> Self {
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let account = key.account();
        let shared = Arc::new(Shared {
            client,
            key,
            options,
            reserved: Mutex::new(BTreeSet::new()),
        });
        tokio::spawn(run(shared, queue));
        Submitter { account, jobs }
    }

    /// The account that signs.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Queues a call and waits until a finalized block has it. Waits as long as the node is away.
    pub async fn submit<C: Call>(&self, call: &C) -> Result<Outcome, SubmitError> {
        self.queue(call.encoded()).await?.await
    }

    /// Queues a call; the result is a future that resolves with the finalized outcome. The call is
    /// made even when the future is dropped.
    pub async fn queue(&self, call: EncodedCall) -> Result<PendingCall, SubmitError> {
        let label = call.label();
        let (done, result) = oneshot::channel();
        self.jobs
            .send(Job { call, done })
            .await
            .map_err(|_| SubmitError::Closed(label.clone()))?;
        Ok(PendingCall { label, result })
    }
}

/// A call under way.
pub struct PendingCall {
    label: String,
    result: oneshot::Receiver<Result<Outcome, SubmitError>>,
}

impl Future for PendingCall {
    type Output = Result<Outcome, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result)
            .poll(context)
            .map(|result| result.unwrap_or_else(|_| Err(SubmitError::Closed(self.label.clone()))))
    }
}

async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Job>) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            job = queue.recv() => match job {
                Some(job) => match shared.place(&job.call).await {
                    Ok(placed) => {
                        let shared = shared.clone();
                        under_way.spawn(async move { shared.follow(job, placed).await });
                    }
                    Err(error) => report(job, Err(error)),
                },
                None => break,
            },
            Some(_) = under_way.join_next() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Hands the result to who waits, if anyone still does.
fn report(job: Job, result: Result<Outcome, SubmitError>) {
    let call = job.call.label();
    if let Ok(outcome) = &result {
        tracing::debug!(call, block = outcome.number, "call finalized");
    }
    // Who waits tells of an error in its own words.
    if let Err(Err(error)) = job.done.send(result) {
        tracing::warn!(call, %error, "call failed");
    }
}

impl Shared {
    /// The runtime no longer fits, or the node serves another chain: waiting does not help.
    fn is_fatal(error: &ChainError) -> bool {
        matches!(
            error,
            ChainError::Incompatible { .. } | ChainError::OtherChain { .. }
        )
    }
}
