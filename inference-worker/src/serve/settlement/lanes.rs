//! What the chain says of the lanes that have receipts to claim.

use super::super::{facts::Channel, Service};
use anyhow::Result;
use openledger_chain::apis::settlement::GetChannel;
use openledger_metering::{journal::PendingLane, ChainLane};
use openledger_primitives::{BlockNumber, ChannelId, LaneIndex};
use std::collections::HashMap;

/// Lanes that can be claimed, by channel and index. Writes off those that never can be again.
pub async fn claimable(service: &Service) -> Result<HashMap<(ChannelId, LaneIndex), ChainLane>> {
    let reader = service.clone();
    let pending = tokio::task::spawn_blocking(move || reader.journal.pending_lanes()).await??;
    let mut lanes = HashMap::new();
    for one in pending {
        // Asked for each lane, answered once a block.
        let channel = service.facts.channel(one.channel).await?;
        let now = service.facts.best_block();
        if is_lost(&one, channel.as_ref(), now) {
            write_off(service, one).await?;
            continue;
        }
        let state = channel.and_then(|channel| on_chain(&channel, one.lane));
        if let Some(state) = state {
            if one.first < state.next_sequence {
                drop_claimed(service, &one).await?;
            }
            lanes.insert((one.channel, one.lane), state);
        }
    }
    Ok(lanes)
}

fn on_chain(channel: &Channel, lane: LaneIndex) -> Option<ChainLane> {
    let lane = channel.lane(lane)?;
    Some(ChainLane {
        next_sequence: lane.next_sequence,
        cumulative: lane.cumulative,
        deposit: channel.deposit,
        signer: lane.signer,
        signer_room: lane.signer_room,
        claim_until: channel.claim_until.min(lane.valid_until),
        cut_from: channel.cut_from,
    })
}

/// Whether no claim on the lane will ever be accepted again: its channel is gone or takes no more
/// claims, or its signer ran out.
///
/// A node that is still catching up shows a past in which the channel was not open yet; from that
/// nothing follows.
fn is_lost(pending: &PendingLane, channel: Option<&Channel>, now: BlockNumber) -> bool {
    if now < pending.latest_start {
        return false;
    }
    let Some(channel) = channel else {
        return true;
    };
    let signed_until = channel
        .lane(pending.lane)
        .map_or(0, |lane| lane.valid_until);
    channel.claim_until.min(signed_until) < now
}

/// Drops from the pending receipts those that a finalized batch has claimed: the journal was brought
/// back from a backup, or another batch took the place of the one that they were noted in.
async fn drop_claimed(service: &Service, pending: &PendingLane) -> Result<()> {
    let query = GetChannel {
        channel: pending.channel,
    };
    let finalized = service.client.finalized_block().await?.hash;
    let settled = service
        .client
        .query_at(&query, &finalized)
        .await?
        .and_then(|info| {
            let lane = info.lanes.iter().find(|lane| lane.lane == pending.lane)?;
            Some(lane.next_sequence)
        });
    if let Some(below) = settled.filter(|next| *next > pending.first) {
        let writer = service.clone();
        let PendingLane { channel, lane, .. } = *pending;
        tokio::task::spawn_blocking(move || writer.journal.drop_claimed(channel, lane, below))
            .await??;
    }
    Ok(())
}

async fn write_off(service: &Service, lane: PendingLane) -> Result<()> {
    let writer = service.clone();
    let PendingLane { channel, lane, .. } = lane;
    let fees =
        tokio::task::spawn_blocking(move || writer.journal.write_off(channel, lane)).await??;
    metrics::counter!("openledger_lapsed_planck_total")
        .increment(u64::try_from(fees).unwrap_or(u64::MAX));
    tracing::error!(
        channel,
        lane,
        %fees,
        "receipts can no longer be claimed: their channel closed, or its signer ran out, before they \
         were in a batch. Settle more often, and keep the worker running"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::facts::tests::channel;

    const PENDING: PendingLane = PendingLane {
        channel: 1,
        lane: 0,
        first: 1,
        receipts: 2,
        latest_start: 50,
    };

    #[test]
    fn only_what_no_block_to_come_can_claim_is_lost() {
        let open = channel(BlockNumber::MAX, 200);
        assert!(!is_lost(&PENDING, Some(&open), 200));
        assert!(is_lost(&PENDING, Some(&open), 201));
        let closing = channel(100, 200);
        assert!(!is_lost(&PENDING, Some(&closing), 100));
        assert!(is_lost(&PENDING, Some(&closing), 101));
        assert!(is_lost(&PENDING, None, 50));
    }

    #[test]
    fn a_node_that_catches_up_proves_nothing() {
        assert!(!is_lost(&PENDING, None, 49));
        assert!(!is_lost(&PENDING, Some(&channel(10, 10)), 49));
    }
}
