//! Reading the chain.

use crate::{
    apis::{settlement, system::AccountNonce, Query},
    connection::{Connection, Link},
    error::ChainError,
    AccountId,
};
use futures::{stream, Stream, StreamExt};
use openledger_primitives::Digest;
use parity_scale_codec::Decode;
use std::{future::Future, sync::Arc, time::Duration};
use subxt::utils::H256;

/// How long a read waits for a lost node to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time without a new head after which a connection is taken for dead: ten slots of six seconds. A
/// peer that vanished without a word (a lost route, a frozen machine) is found in no other way: the
/// WebSocket sends no pings, and the operating system gives a connection up only after many minutes.
const SILENCE: Duration = Duration::from_secs(60);

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Hash.
    pub hash: [u8; 32],
    /// Number.
    pub number: u32,
}

/// Reads of one chain through one node. Clones share the connection, which is replaced when it
/// breaks: a read waits for the node to come back, 30 seconds unless told otherwise.
#[derive(Clone)]
pub struct ChainClient {
    pub(crate) link: Arc<Link>,
    patience: Duration,
    silence: Duration,
}

impl ChainClient {
    /// Connects to a node's WebSocket address (`ws://127.0.0.1:9944`) and checks that its runtime
    /// has everything that this client uses.
    pub async fn connect(url: &str) -> Result<Self, ChainError> {
        Ok(ChainClient {
            link: Arc::new(Link::open(url).await?),
            patience: PATIENCE,
            silence: SILENCE,
        })
    }

    /// [`connect`](Self::connect), tried again until `patience` is over while the node is not
    /// reachable.
    pub async fn connect_within(url: &str, patience: Duration) -> Result<Self, ChainError> {
        let started = tokio::time::Instant::now();
        loop {
            match ChainClient::connect(url).await {
                Err(ChainError::Unreachable { .. } | ChainError::Refused { .. })
                    if started.elapsed() < patience =>
                {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                result => return result,
            }
        }
    }

    /// The same client, whose reads wait this long for a lost node instead of 30 seconds.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same client, whose [`best_block_numbers`](Self::best_block_numbers) takes a connection for
    /// dead after this long without a head instead of 60 seconds.
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// The node's address.
    pub fn url(&self) -> &str {
        self.link.url()
    }

    /// Hash of the genesis block.
    pub fn genesis_hash(&self) -> Digest {
        self.link.genesis()
    }

    /// Runs a read, once more on a new connection when the first turns out to be broken.
    pub(crate) async fn read<T, F, R>(&self, read: F) -> Result<T, ChainError>
    where
        F: Fn(Arc<Connection>) -> R,
        R: Future<Output = Result<T, ChainError>>,
    {
        let connection = self.link.connection(Some(self.patience)).await?;
        match read(connection.clone()).await {
            Err(ChainError::Unreachable { .. }) if connection.is_broken() => {
                read(self.link.connection(Some(self.patience)).await?).await
            }
            result => result,
        }
    }

    /// The best block.
    pub async fn best_block(&self) -> Result<BlockRef, ChainError> {
        self.read(|connection| async move {
            let hash = connection.best_hash().await?;
            let number = connection.number(hash).await?;
            Ok(BlockRef {
                hash: hash.0,
                number,
            })
        })
        .await
    }

    /// The finalized head.
    pub async fn finalized_block(&self) -> Result<BlockRef, ChainError> {
        self.read(|connection| async move {
            let hash = connection.finalized_hash().await?;
            let number = connection.number(hash).await?;
            Ok(BlockRef {
                hash: hash.0,
                number,
            })
        })
        .await
    }

    /// Numbers of best blocks as they come, without end: the stream outlives reconnections, and
    /// reconnects by itself when no block comes for a minute. A reorg may repeat or lower a number.
    pub fn best_block_numbers(&self) -> impl Stream<Item = u32> + Send + Unpin {
        let client = self.clone();
        Box::pin(
            stream::unfold(None, move |subscription| {
                let client = client.clone();
                async move {
                    let mut subscription = subscription;
                    loop {
                        if subscription.is_none() {
                            let Ok(connection) = client.link.connection(None).await else {
                                return None;
                            };
                            match connection.rpc.chain_subscribe_new_heads().await {
                                Ok(fresh) => subscription = Some((connection, fresh)),
                                Err(error) => {
                                    connection.error("new heads", error);
                                    tokio::time::sleep(Duration::from_millis(500)).await;
                                    continue;
                                }
                            }
                        }
                        let (connection, mut heads) = subscription.take()?;
                        match tokio::time::timeout(client.silence, heads.next()).await {
                            Ok(Some(Ok(header))) => {
                                return Some((header.number as u32, Some((connection, heads))));
                            }
                            Ok(Some(Err(error))) => {
                                connection.error("new heads", error);
                            }
                            Ok(None) => connection.mark_broken(),
                            Err(_) => {
                                tracing::warn!(
                                    url = client.url(),
                                    seconds = client.silence.as_secs(),
                                    "no new block, connecting to the node again"
                                );
                                connection.mark_broken();
                            }
                        }
                    }
                }
            })
            .fuse(),
        )
    }

    /// Waits until the best block is `number` or later.
    pub async fn wait_for_block(&self, number: u32) -> Result<(), ChainError> {
        while self.best_block().await?.number < number {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Waits until the finalized head is `number` or later.
    pub async fn wait_for_finalized(&self, number: u32) -> Result<(), ChainError> {
        while self.finalized_block().await?.number < number {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Calls a runtime API at the best block.
    pub async fn query<Q: Query>(&self, query: &Q) -> Result<Q::Output, ChainError> {
        self.read(|connection| async move {
            let hash = connection.best_hash().await?;
            query_on(&connection, query, hash).await
        })
        .await
    }

    /// Calls a runtime API at a block.
    pub async fn query_at<Q: Query>(
        &self,
        query: &Q,
        block: &[u8; 32],
    ) -> Result<Q::Output, ChainError> {
        self.read(|connection| async move { query_on(&connection, query, H256(*block)).await })
            .await
    }

    /// The signing domain: genesis and fork nonce.
    pub async fn domain(&self) -> Result<Digest, ChainError> {
        self.query(&settlement::Domain {}).await
    }

    /// Transactions of the account included up to the best block.
    pub async fn nonce(&self, account: AccountId) -> Result<u32, ChainError> {
        self.query(&AccountNonce { account }).await
    }
}

/// Calls a runtime API on a connection.
pub(crate) async fn query_on<Q: Query>(
    connection: &Connection,
    query: &Q,
    at: H256,
) -> Result<Q::Output, ChainError> {
    let function = format!("{}_{}", Q::API, Q::METHOD);
    let bytes = connection
        .state_call(&function, &query.encode(), at)
        .await?;
    decode(&function, &bytes)
}

/// Decodes `bytes` to their end.
pub(crate) fn decode<T: Decode>(what: &str, bytes: &[u8]) -> Result<T, ChainError> {
    let error = |reason: String| ChainError::Decode {
        what: what.to_owned(),
        reason,
    };
    let mut input = bytes;
    let value = T::decode(&mut input).map_err(|reason| error(reason.to_string()))?;
    if input.is_empty() {
        Ok(value)
    } else {
        Err(error(format!("{} bytes are left over", input.len())))
    }
}
