//! Closing a channel.

use super::{open::CommandError, opening::next_channel};
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
///
/// # Errors
/// When there never was such a channel, or the chain refuses.
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
        // Closed channels are removed; one that never was is a slip of the number.
        None if channel >= next_channel(chain).await.map_err(read)? => {
            Err(CommandError::NoChannel(channel))
        }
        None => Ok(Close::Finished),
    }
}
