//! The loop that turns journaled receipts into settled batches.

use super::Service;
use anyhow::{Context, Result};
use openledger_chain::{
    apis::settlement::{BatchState, GetBatch},
    calls::settlement::{SettlePage, SubmitBatch},
    events::settlement::BatchFinalized,
    SubmitError,
};
use openledger_metering::{BatchLimits, ChainLane, PreparedBatch};
use openledger_primitives::{BatchSequence, ChannelId, LaneIndex};
use std::{collections::HashMap, time::Duration};

/// Submits a batch every `period`, and finalizes those whose window passed, until the process ends.
/// An error is logged and tried again: inference never waits for settlement.
pub async fn run(service: Service, period: Duration) {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = settle(&service).await {
            tracing::warn!("settlement is tried again later: {error:#}");
        }
        if let Err(error) = finalize(&service).await {
            tracing::warn!("finalization is tried again later: {error:#}");
        }
    }
}

/// Submits what is pending, and what an earlier run prepared and may not have submitted.
async fn settle(service: &Service) -> Result<()> {
    let (next, parent) = service.client.next_batch(service.worker).await?;
    if let Some(prepared) = service.journal.prepared()? {
        let sequence = prepared.header.sequence;
        if sequence < next {
            // The chain has it: the process ended between submission and the note of it.
            service.journal.mark_submitted(sequence)?;
        } else {
            submit(service, prepared).await?;
        }
        return Ok(());
    }
    if service.journal.totals()?.pending == 0 {
        return Ok(());
    }
    let exposure = service.facts.exposure_room().await?;
    let epoch = service.client.epoch_index().await?;
    let limits = BatchLimits {
        sequence: next,
        parent,
        epoch,
        room: exposure,
    };
    let lanes = lanes_on_chain(service).await?;
    let worker = service.worker.0;
    let writer = service.clone();
    let prepared = tokio::task::spawn_blocking(move || {
        writer.journal.prepare(&worker, &limits, |channel, lane| {
            lanes.get(&(channel, lane)).copied()
        })
    })
    .await
    .context("the journal's thread")??;
    match prepared {
        Some(batch) => submit(service, batch).await,
        None => Ok(()),
    }
}

/// What the chain has settled of every lane with pending receipts.
async fn lanes_on_chain(service: &Service) -> Result<HashMap<(ChannelId, LaneIndex), ChainLane>> {
    let mut lanes = HashMap::new();
    for channel in service.journal.pending_channels()? {
        let Some(info) = service.facts.channel(channel).await? else {
            continue;
        };
        for lane in info.lanes() {
            lanes.insert(
                (channel, lane.index),
                ChainLane {
                    next_sequence: lane.next_sequence,
                    cumulative: lane.cumulative,
                    free_deposit: info.free_deposit,
                },
            );
        }
    }
    Ok(lanes)
}

async fn submit(service: &Service, batch: PreparedBatch) -> Result<()> {
    let sequence = batch.header.sequence;
    let call = SubmitBatch {
        worker: service.worker,
        header: batch.header,
        claims: batch.claims,
        usage: batch.usage,
        credits: batch.credits,
    };
    match service.submitter.submit(&call).await {
        Ok(outcome) => {
            service.journal.mark_submitted(sequence)?;
            metrics::counter!("openledger_batches_submitted_total").increment(1);
            tracing::info!(
                sequence,
                receipts = call.header.count,
                fee = %call.header.fee,
                block = outcome.number,
                "batch finalized in a block; its challenge window runs"
            );
            Ok(())
        }
        Err(error @ (SubmitError::Dispatch { .. } | SubmitError::Invalid { .. })) => {
            // Refused as it is: its receipts go into a new one that fits what the chain says now.
            service.journal.discard(sequence)?;
            Err(error).context("the chain refused the batch")
        }
        Err(error) => Err(error.into()),
    }
}

/// Pays out batches whose window passed. Anyone may, and the chain does in idle blocks; the worker
/// has the most to gain and does not rely on it.
async fn finalize(service: &Service) -> Result<()> {
    for batch in service.journal.submitted()? {
        let sequence = batch.header.sequence;
        let known = service
            .client
            .query(&GetBatch {
                worker: service.worker,
                sequence,
            })
            .await?;
        match known {
            // Released: its liability has ended, so it was settled long ago.
            None => note_settled(service, sequence)?,
            Some(batch) if batch.state == BatchState::Settled => note_settled(service, sequence)?,
            Some(batch) if service.facts.best_block() <= batch.window_end => {}
            Some(_) => {
                let page = SettlePage {
                    worker: service.worker,
                    sequence,
                };
                match service.submitter.submit(&page).await {
                    Ok(outcome) if outcome.find::<BatchFinalized>()?.is_some() => {
                        note_settled(service, sequence)?;
                    }
                    // More pages follow; or the chain was faster, in an idle block.
                    Ok(_) | Err(SubmitError::Dispatch { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

fn note_settled(service: &Service, sequence: BatchSequence) -> Result<()> {
    service.journal.mark_settled(sequence)?;
    metrics::counter!("openledger_batches_settled_total").increment(1);
    tracing::info!(sequence, "batch settled");
    Ok(())
}
