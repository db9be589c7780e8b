//! One WebSocket connection to a node, and its replacement when it breaks.

use crate::{error::ChainError, requirements};
use std::{
    collections::BTreeSet,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    time::Duration,
};
use subxt::{
    backend::LegacyBackend,
    client::OnlineClientAtBlock,
    config::RpcConfigFor,
    rpcs::{Error as RpcError, LegacyRpcMethods, RpcClient},
    utils::H256,
    OnlineClient, SubstrateConfig,
};

/// Methods of the node's JSON-RPC.
pub(crate) type Rpc = LegacyRpcMethods<RpcConfigFor<SubstrateConfig>>;

/// Waits between attempts to reconnect: doubled from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Most time that a new connection takes to be usable. A machine that is frozen or a port that others
/// listen on takes the connection and never says a word.
const OPENING: Duration = Duration::from_secs(30);

/// A connection. It stays usable until a request on it fails for want of a connection.
pub(crate) struct Connection {
    pub(crate) rpc: Rpc,
    online: OnlineClient<SubstrateConfig>,
    broken: AtomicBool,
    /// Versions of the runtime that were found to fit.
    fitting: Mutex<BTreeSet<u32>>,
    url: String,
}

impl Connection {
    async fn open(url: &str) -> Result<Self, ChainError> {
        Self::open_within(url, OPENING).await
    }

    async fn open_within(url: &str, limit: Duration) -> Result<Self, ChainError> {
        tokio::time::timeout(limit, Self::opened(url))
            .await
            .unwrap_or_else(|_| {
                Err(ChainError::Unreachable {
                    url: url.to_owned(),
                    reason: format!("it does not answer within {} seconds", limit.as_secs()),
                })
            })
    }

    async fn opened(url: &str) -> Result<Self, ChainError> {
        let unreachable = |reason: String| ChainError::Unreachable {
            url: url.to_owned(),
            reason,
        };
        let rpc = RpcClient::from_insecure_url(url)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let backend: LegacyBackend<SubstrateConfig> = LegacyBackend::builder().build(rpc.clone());
        let online = OnlineClient::from_backend(Arc::new(backend))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let connection = Connection {
            rpc: Rpc::new(rpc),
            online,
            broken: AtomicBool::new(false),
            fitting: Mutex::new(BTreeSet::new()),
            url: url.to_owned(),
        };
        let best = connection.best_hash().await?;
        connection.at(best).await?;
        Ok(connection)
    }

    pub(crate) fn genesis(&self) -> [u8; 32] {
        self.online.genesis_hash().0
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Notes that the connection is gone, so that the next user opens another.
    pub(crate) fn mark_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Types an RPC error, and notes when the connection is gone.
    pub(crate) fn error(&self, what: &str, error: RpcError) -> ChainError {
        match error {
            RpcError::Client(reason) => {
                self.mark_broken();
                ChainError::Unreachable {
                    url: self.url.clone(),
                    reason: reason.to_string(),
                }
            }
            other => ChainError::Refused {
                what: what.to_owned(),
                reason: other.to_string(),
            },
        }
    }

    pub(crate) async fn best_hash(&self) -> Result<H256, ChainError> {
        self.rpc
            .chain_get_block_hash(None)
            .await
            .map_err(|error| self.error("the best block's hash", error))?
            .ok_or_else(|| ChainError::Missing("the best block".into()))
    }

    pub(crate) async fn finalized_hash(&self) -> Result<H256, ChainError> {
        self.rpc
            .chain_get_finalized_head()
            .await
            .map_err(|error| self.error("the finalized head", error))
    }

    pub(crate) async fn number(&self, hash: H256) -> Result<u32, ChainError> {
        self.rpc
            .chain_get_header(Some(hash))
            .await
            .map_err(|error| self.error("a header", error))?
            .map(|header| header.number as u32)
            .ok_or_else(|| ChainError::Missing(format!("block {hash:?}")))
    }

    /// The runtime at a block, held against what this client needs when it is a new version.
    pub(crate) async fn at(
        &self,
        hash: H256,
    ) -> Result<OnlineClientAtBlock<SubstrateConfig>, ChainError> {
        let at = self.online.at_block(hash).await.map_err(|error| {
            // subxt hides whether the connection broke; asking once more tells.
            ChainError::Refused {
                what: format!("block {hash:?}"),
                reason: error.to_string(),
            }
        })?;
        let version = at.spec_version();
        let known = self
            .fitting
            .lock()
            .is_ok_and(|fitting| fitting.contains(&version));
        if !known {
            let mismatches = requirements::mismatches(at.metadata_ref());
            if !mismatches.is_empty() {
                return Err(ChainError::Incompatible {
                    spec_version: version,
                    mismatches,
                });
            }
            if let Ok(mut fitting) = self.fitting.lock() {
                fitting.insert(version);
            }
        }
        Ok(at)
    }

    /// Calls a runtime function with encoded arguments.
    pub(crate) async fn state_call(
        &self,
        function: &str,
        arguments: &[u8],
        at: H256,
    ) -> Result<Vec<u8>, ChainError> {
        self.rpc
            .state_call(function, Some(arguments), Some(at))
            .await
            .map_err(|error| self.error(function, error))
    }
}

/// The connection in use, replaced when it breaks.
pub(crate) struct Link {
    url: String,
    genesis: [u8; 32],
    current: tokio::sync::Mutex<Arc<Connection>>,
}

impl Link {
    pub(crate) async fn open(url: &str) -> Result<Self, ChainError> {
        let connection = Connection::open(url).await?;
        Ok(Link {
            url: url.to_owned(),
            genesis: connection.genesis(),
            current: tokio::sync::Mutex::new(Arc::new(connection)),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn genesis(&self) -> [u8; 32] {
        self.genesis
    }

    /// A connection that works as far as is known. Reconnects for at most `patience`, forever when
    /// there is none.
    pub(crate) async fn connection(
        &self,
        patience: Option<Duration>,
    ) -> Result<Arc<Connection>, ChainError> {
        let started = tokio::time::Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            // The lock is held for one attempt only: each caller has a patience of its own.
            match self.reconnected().await {
                Ok(connection) => return Ok(connection),
                Err(error @ (ChainError::Incompatible { .. } | ChainError::OtherChain { .. })) => {
                    return Err(error)
                }
                Err(error) => {
                    if patience.is_some_and(|patience| started.elapsed() + wait > patience) {
                        return Err(error);
                    }
                    tracing::warn!(url = %self.url, %error, "node unreachable, trying again");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// The connection in use, or a new one in its place when it is broken.
    async fn reconnected(&self) -> Result<Arc<Connection>, ChainError> {
        let mut current = self.current.lock().await;
        if current.is_broken() {
            let fresh = Connection::open(&self.url).await?;
            if fresh.genesis() != self.genesis {
                return Err(ChainError::OtherChain {
                    url: self.url.clone(),
                    expected: hex::encode(self.genesis),
                    found: hex::encode(fresh.genesis()),
                });
            }
            tracing::info!(url = %self.url, "connected to the node again");
            *current = Arc::new(fresh);
        }
        Ok(current.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_says_nothing_is_given_up() {
        let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", mute.local_addr().unwrap());
        let opened = Connection::open_within(&url, Duration::from_secs(1)).await;
        assert!(matches!(opened, Err(ChainError::Unreachable { .. })));
    }
}
