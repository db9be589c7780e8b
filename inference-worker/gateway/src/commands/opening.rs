//! Finding a channel whose opening this program did not live to see, and channels by their signer.
//!
//! What is about to be opened is on disk before the transaction leaves. The next run looks for it among
//! the channels opened since, in finalized blocks, until nothing that was signed can be included any
//! more: only then may another be opened.

use crate::GatewayError;
use openledger_chain::{
    apis::settlement::{ChannelInfo, GetChannel},
    AccountId, ChainClient, ChainError, Key,
};
use openledger_primitives::{BlockNumber, ChannelId, Digest, PublicKey};
use parity_scale_codec::{Decode, Encode};
use std::{future::Future, time::Duration};

/// Blocks after which a transaction that was signed cannot be included any more, with some to spare:
/// it is mortal for 64.
const MORTAL: BlockNumber = 66;
/// Newest channels that are looked at for a signer.
const NEWEST: u64 = 1_000;
/// How often finalized blocks are looked at.
const POLL: Duration = Duration::from_secs(2);

/// A channel that is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Opening {
    /// Genesis of its chain.
    pub genesis: Digest,
    /// Who pays.
    pub consumer: [u8; 32],
    /// Who serves.
    pub worker: [u8; 32],
    /// Who signs vouchers.
    pub signer: PublicKey,
    /// No channel below this number is the one.
    pub first: ChannelId,
}

impl Opening {
    /// Notes down what `consumer` is about to open.
    pub async fn now(
        chain: &ChainClient,
        consumer: AccountId,
        worker: AccountId,
        signer: &Key,
    ) -> Result<Self, ChainError> {
        Ok(Opening {
            genesis: chain.genesis_hash(),
            consumer: consumer.0,
            worker: worker.0,
            signer: signer.public(),
            first: next_channel(chain).await?,
        })
    }

    fn is(&self, info: &ChannelInfo) -> bool {
        info.consumer.0 == self.consumer
            && info.worker.0 == self.worker
            && info.signers.iter().any(|signer| signer.key == self.signer)
    }

    /// The channel, once it is in a finalized block; `None` when it is not there and cannot come any
    /// more.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn outcome(
        &self,
        chain: &ChainClient,
    ) -> Result<Option<(ChannelId, BlockNumber)>, GatewayError> {
        if chain.genesis_hash() != self.genesis {
            return Ok(None);
        }
        // Whatever the earlier run signed is anchored at this block or before it.
        let last = chain.best_block().await?.number.saturating_add(MORTAL);
        let mut said = false;
        loop {
            let finalized = chain.finalized_block().await?;
            let next = next_channel(chain).await?;
            let found = newest(
                self.first,
                next,
                |info| self.is(info),
                |channel| async move {
                    chain
                        .query_at(&GetChannel { channel }, &finalized.hash)
                        .await
                },
            );
            if let Some((channel, _)) = found.await? {
                return Ok(Some((channel, finalized.number)));
            }
            if finalized.number > last {
                return Ok(None);
            }
            if !said {
                said = true;
                tracing::info!("an earlier run may have opened a channel: looking for it until block {last} is finalized");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Open channels that have `key` as a signer, the newest first, among the newest `NEWEST` on chain.
/// Anyone can open a channel with anyone's key as a signer: whose they are is for the reader to judge.
pub async fn by_signer(
    chain: &ChainClient,
    key: &Key,
) -> Result<Vec<(ChannelId, ChannelInfo)>, ChainError> {
    let mut next = next_channel(chain).await?;
    let last = next.saturating_sub(NEWEST);
    let mine = |info: &ChannelInfo| {
        info.is_open() && info.signers.iter().any(|signer| signer.key == key.public())
    };
    let mut found = Vec::new();
    while let Some(one) = newest(last, next, mine, |id| chain.channel(id)).await? {
        next = one.0;
        found.push(one);
    }
    Ok(found)
}

/// The newest channel from `first` to before `end` that fits.
async fn newest<F: Future<Output = Result<Option<ChannelInfo>, ChainError>>>(
    first: ChannelId,
    end: ChannelId,
    fits: impl Fn(&ChannelInfo) -> bool,
    get: impl Fn(ChannelId) -> F,
) -> Result<Option<(ChannelId, ChannelInfo)>, ChainError> {
    for channel in (first..end).rev() {
        if let Some(info) = get(channel).await?.filter(|info| fits(info)) {
            return Ok(Some((channel, info)));
        }
    }
    Ok(None)
}

/// The number that the next channel gets; they are dense.
pub(super) async fn next_channel(chain: &ChainClient) -> Result<ChannelId, ChainError> {
    let next = chain.storage("Settlement", "NextChannel", &[]).await?;
    Ok(next.unwrap_or(0))
}
