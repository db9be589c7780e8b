//! Opening a channel and adding to it.

use super::Opening;
use crate::{lanes::LaneStore, GatewayError};
use openledger_chain::{
    calls::settlement::{Deposit, OpenChannel},
    events::settlement::ChannelOpened,
    AccountId, ChainClient, FundsError, Key, SubmitError, Submitter,
};
use openledger_primitives::{voucher::EvidenceClass, Balance, BlockNumber, ChannelId, RevisionId};
use std::path::PathBuf;

/// A channel to open.
#[derive(Clone, Debug)]
pub struct Open {
    /// The gateway's signer.
    pub signer: Key,
    /// The worker, or a revision that some worker must serve.
    pub worker: Result<AccountId, RevisionId>,
    /// Planck.
    pub deposit: Balance,
    /// Requests at the same time.
    pub lanes: u16,
    /// Most that the signer may spend, planck.
    pub limit: Balance,
    /// Blocks for which the signer is valid.
    pub blocks: BlockNumber,
    /// The gateway's data folder, which notes the channel.
    pub data: PathBuf,
}

/// What was opened.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The channel.
    pub channel: ChannelId,
    /// Its worker.
    pub worker: AccountId,
    /// Block in which it was opened, or in which it was found.
    pub block: BlockNumber,
    /// Whether an earlier run had opened it.
    pub found: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The chain refused a call.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The account has too little.
    #[error(transparent)]
    Funds(#[from] FundsError),
    /// Anything else.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A slip of the number.
    #[error("there never was a channel {0} on this chain; `openledger-gateway run` without --channel names those of your key")]
    NoChannel(ChannelId),
    /// No worker can be asked for the revision.
    #[error("no worker serves revision {0} now; one that has just started is announced within a few blocks, and `curl WORKER/v1/models` shows what it serves")]
    NoWorker(RevisionId),
}

/// Opens a channel and notes it in the data folder; a channel that an earlier run was opening when it
/// was ended is found, and no other is opened.
pub async fn open(
    chain: &ChainClient,
    submitter: &Submitter,
    wanted: &Open,
) -> Result<Opened, CommandError> {
    let worker = match wanted.worker {
        Ok(worker) => worker,
        Err(revision) => {
            chain
                .find_workers(revision)
                .await
                .map_err(GatewayError::from)?
                .first()
                .ok_or(CommandError::NoWorker(revision))?
                .worker
        }
    };
    // Before anything is paid: the folder must be writable.
    let store = LaneStore::open(&wanted.data)?;
    if let Some(opening) = store.opening()? {
        if let Some(found) = adopt(chain, &store, &opening).await? {
            return Ok(found);
        }
    }
    let opening = Opening::now(chain, submitter.account(), worker, &wanted.signer)
        .await
        .map_err(GatewayError::from)?;
    chain.funds(submitter.account(), wanted.deposit).await?;
    store.set_opening(Some(&opening))?;
    let now = chain.best_block().await.map_err(GatewayError::from)?.number;
    let call = OpenChannel {
        worker,
        deposit: wanted.deposit,
        lanes: wanted.lanes,
        signer: wanted.signer.public(),
        limit: wanted.limit,
        valid_until: now.saturating_add(wanted.blocks),
        evidence: EvidenceClass::Open,
    };
    let outcome = match submitter.submit(&call).await {
        Ok(outcome) => outcome,
        // It is in a block that the node no longer remembers.
        Err(error @ SubmitError::EventsPruned { .. }) => {
            return adopt(chain, &store, &opening)
                .await?
                .ok_or_else(|| error.into())
        }
        Err(error) => {
            if matches!(
                error,
                SubmitError::Dispatch { .. } | SubmitError::Invalid { .. }
            ) {
                store.set_opening(None)?;
            }
            return Err(error.into());
        }
    };
    let opened: ChannelOpened = outcome.expect().map_err(GatewayError::from)?;
    store.set_channel(opened.channel)?;
    Ok(Opened {
        channel: opened.channel,
        worker,
        block: outcome.number,
        found: false,
    })
}

/// Notes the channel that was being opened, if it was opened.
async fn adopt(
    chain: &ChainClient,
    store: &LaneStore,
    opening: &Opening,
) -> Result<Option<Opened>, CommandError> {
    let Some((channel, block)) = opening.outcome(chain).await? else {
        store.set_opening(None)?;
        return Ok(None);
    };
    store.set_channel(channel)?;
    Ok(Some(Opened {
        channel,
        worker: AccountId(opening.worker),
        block,
        found: true,
    }))
}

/// Adds planck to a channel's deposit.
pub async fn deposit(
    chain: &ChainClient,
    submitter: &Submitter,
    channel: ChannelId,
    amount: Balance,
) -> Result<(), CommandError> {
    chain.funds(submitter.account(), amount).await?;
    submitter.submit(&Deposit { channel, amount }).await?;
    Ok(())
}
