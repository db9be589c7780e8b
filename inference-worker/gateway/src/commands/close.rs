//! Closing a channel.

use super::open::CommandError;
use openledger_chain::{
    calls::settlement::{CloseChannel, FinishClose},
    ChainClient, Submitter,
};
use openledger_primitives::{BlockNumber, ChannelId};

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Asked for: claims are accepted until the block, then `close` again ends it.
    Until(BlockNumber),
    /// Over: what was left of the deposit is free.
    Finished,
}

/// Asks to close the channel, or ends a closing one whose claims are over.
pub async fn close(
    chain: &ChainClient,
    submitter: &Submitter,
    channel: ChannelId,
) -> Result<Close, CommandError> {
    use openledger_chain::apis::settlement::ChannelState;
    let read = |error| CommandError::Gateway(crate::GatewayError::Chain(error));
    let state =
        |info: Option<openledger_chain::apis::settlement::ChannelInfo>| info.map(|info| info.state);
    if state(chain.channel(channel).await.map_err(read)?) == Some(ChannelState::Open) {
        submitter.submit(&CloseChannel { channel }).await?;
    }
    match state(chain.channel(channel).await.map_err(read)?) {
        Some(ChannelState::Closing { claim_until })
            if chain.best_block().await.map_err(read)?.number <= claim_until =>
        {
            Ok(Close::Until(claim_until))
        }
        Some(_) => {
            submitter.submit(&FinishClose { channel }).await?;
            Ok(Close::Finished)
        }
        None => Ok(Close::Finished),
    }
}
