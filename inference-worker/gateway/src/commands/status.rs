//! What a channel and its lanes look like from chain and data folder.

use crate::{lanes::LaneState, GatewayError};
use openledger_chain::{apis::settlement::ChannelInfo, ChainClient};
use openledger_primitives::{ChannelId, LaneIndex};
use std::collections::BTreeMap;

/// A channel.
#[derive(Clone, Debug)]
pub struct Status {
    /// On chain; `None` when closed.
    pub channel: Option<ChannelInfo>,
    /// Lanes, by chain and data folder.
    pub lanes: Vec<LaneStatus>,
}

/// A lane.
#[derive(Clone, Debug)]
pub struct LaneStatus {
    /// Which.
    pub lane: LaneIndex,
    /// Charges that batches have claimed, planck.
    pub claimed: u128,
    /// As the gateway has it; `None` when it was never used here.
    pub state: Option<LaneState>,
}

/// Reads a channel; `known` are the lanes of the data folder.
pub async fn status(
    chain: &ChainClient,
    channel: ChannelId,
    known: Vec<(LaneIndex, LaneState)>,
) -> Result<Status, GatewayError> {
    let info = chain.channel(channel).await?;
    let mut known: BTreeMap<LaneIndex, LaneState> = known.into_iter().collect();
    let mut lanes: Vec<LaneStatus> = info
        .iter()
        .flat_map(|info| &info.lanes)
        .map(|lane| LaneStatus {
            lane: lane.lane,
            claimed: lane.cumulative,
            state: known.remove(&lane.lane),
        })
        .collect();
    lanes.extend(known.into_iter().map(|(lane, state)| LaneStatus {
        lane,
        claimed: state.position.cumulative,
        state: Some(state),
    }));
    Ok(Status {
        channel: info,
        lanes,
    })
}
