//! Lanes of the data folder, and taking a parked one back into use.

use crate::{
    check::Signer,
    lanes::{release as lane_release, Breakage, Came, LaneState, LaneStore, Release},
    upstream::Worker,
    GatewayError,
};
use openledger_chain::{ChainClient, Key};
use openledger_primitives::{ChannelId, LaneIndex};

/// How a lane stands, in words.
pub fn standing(state: &LaneState) -> String {
    match (&state.parked, &state.pending) {
        (Some(reason), Some(pending)) => format!(
            "PARKED at request {} (at most {} planck): {reason}",
            pending.voucher.sequence, pending.voucher.max_fee
        ),
        (Some(reason), None) => format!("PARKED: {reason}"),
        (None, Some(pending)) => format!(
            "request {} in doubt (at most {} planck), settled at its next use",
            pending.voucher.sequence, pending.voucher.max_fee
        ),
        (None, None) => "in use".into(),
    }
}

/// What was lost to a worker, in words.
pub fn losses(breakage: &Breakage) -> String {
    format!(
        "{} answers broke off: {} planck charged for their prompts and {} output tokens that did not come; {} planck for what came",
        breakage.answers, breakage.lost.fee, breakage.lost.tokens, breakage.delivered.fee
    )
}

/// What taking `lane` back into use would come to; nothing is changed.
///
/// # Errors
/// [`GatewayError::Lane`] when it cannot be used again; errors of chain, worker and data folder.
pub async fn look(
    chain: &ChainClient,
    store: &LaneStore,
    channel: ChannelId,
    lane: LaneIndex,
    key: &Key,
) -> Result<Release, GatewayError> {
    let refuse = |reason: String| GatewayError::Lane { lane, reason };
    let state = store
        .lane(channel, lane)?
        .ok_or_else(|| refuse("it was never used here".into()))?;
    let gone = |reason: &str| GatewayError::Channel {
        channel,
        reason: reason.into(),
    };
    let info = chain
        .channel(channel)
        .await?
        .ok_or_else(|| gone("it is not on chain"))?;
    let settled = info
        .lanes
        .iter()
        .find(|known| known.lane == lane)
        .map(|known| (known.next_sequence.saturating_sub(1), known.cumulative))
        .ok_or_else(|| refuse("the channel has no such lane".into()))?;
    let worker = chain
        .worker(info.worker)
        .await?
        .ok_or_else(|| gone("its worker has left"))?;
    let report = Worker::new(worker.url())?.lane(channel, lane).await?;
    let now = chain.best_block().await?.number;
    let key_of = |index, block| worker.service_key(index, block).map(|key| key.0);
    let signer = Signer {
        worker: info.worker.0,
        key: report.receipt.and_then(|signed| {
            let receipt = signed.receipt;
            key_of(receipt.key, now).or_else(|| key_of(receipt.key, receipt.start_block.min(now)))
        }),
    };
    lane_release(
        channel,
        lane,
        &state,
        settled,
        &report,
        &key.public(),
        &signer,
    )
    .map_err(refuse)
}

/// Takes the lane back into use as [`look`] said.
///
/// # Errors
/// When the data folder cannot be written.
pub fn release(
    store: &LaneStore,
    channel: ChannelId,
    lane: LaneIndex,
    release: &Release,
) -> Result<(), GatewayError> {
    match &release.pays {
        Some((voucher, receipt)) => store.accept(
            channel,
            lane,
            &release.state,
            voucher,
            receipt,
            &Came::Aside,
        ),
        None => store.put(channel, lane, &release.state),
    }
}
