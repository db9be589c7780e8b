//! The loop that turns journaled receipts into settled batches.

mod caution;
mod fate;
mod lanes;

use super::Service;
use anyhow::{Context, Result};
use caution::Caution;
use fate::{fate, Fate};
use openledger_chain::{
    apis::settlement::{BatchState, GetBatch},
    calls::settlement::{SettlePage, SubmitBatch},
    events::settlement::BatchFinalized,
    SubmitError,
};
use openledger_metering::{BatchLimits, PreparedBatch};
use openledger_primitives::BatchSequence;

/// Submits a batch every period, and finalizes those whose window passed, until the process ends.
/// An error is logged and tried again: inference never waits for settlement.
pub async fn run(service: Service) {
    let mut caution = Caution::default();
    let mut interval = tokio::time::interval(service.rules.settle_every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = settle(&service, &mut caution).await {
            tracing::warn!("settlement is tried again later: {error:#}");
        }
        if let Err(error) = finalize(&service).await {
            tracing::warn!("finalization is tried again later: {error:#}");
        }
    }
}

/// Submits what is pending, and what an earlier run prepared and may not have submitted.
async fn settle(service: &Service, caution: &mut Caution) -> Result<()> {
    if let Some(prepared) = service.journal.prepared()? {
        // The process may have ended between submission and the note of it.
        match fate(service, &prepared).await? {
            Fate::Included => service.journal.mark_submitted(prepared.header.sequence)?,
            Fate::Displaced => service.journal.discard(prepared.header.sequence)?,
            Fate::Open => submit(service, caution, prepared).await?,
        }
        return Ok(());
    }
    if service.journal.totals()?.pending == 0 {
        return Ok(());
    }
    let (next, parent) = service.client.next_batch(service.worker).await?;
    let mut lanes = lanes::claimable(service).await?;
    lanes.retain(|(channel, lane), _| caution.allows(*channel, *lane));
    let limits = BatchLimits {
        sequence: next,
        parent,
        epoch: service.client.epoch_index().await?,
        now: service.facts.best_block(),
        voucher_grace: service.rules.voucher_grace,
        room: service.facts.exposure_room().await?,
        max_claims: caution.max_claims(),
    };
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
        Some(batch) => submit(service, caution, batch).await,
        None => Ok(()),
    }
}

async fn submit(service: &Service, caution: &mut Caution, batch: PreparedBatch) -> Result<()> {
    let sequence = batch.header.sequence;
    let call = SubmitBatch {
        worker: service.worker,
        header: batch.header,
        claims: batch.claims.clone(),
        usage: batch.usage.clone(),
        credits: batch.credits.clone(),
    };
    match service.submitter.submit(&call).await {
        Ok(outcome) => {
            caution.accepted();
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
            // A copy that was handed over before may have been faster than this one.
            if fate(service, &batch).await? == Fate::Included {
                service.journal.mark_submitted(sequence)?;
                return Ok(());
            }
            // Refused as it is: its receipts go into a new one that fits what the chain says now.
            service.journal.discard(sequence)?;
            if let Some((channel, lane)) = caution.refused(&batch, &error) {
                tracing::error!(channel, lane, %error, "the lane is set aside for an hour");
            }
            Err(error).context("the chain refused the batch")
        }
        Err(error) => Err(error.into()),
    }
}

/// Pays out batches whose window passed. Anyone may, and the chain does in idle blocks; the worker
/// has the most to gain and does not rely on it.
async fn finalize(service: &Service) -> Result<()> {
    let submitted = service.journal.submitted()?;
    if submitted.is_empty() {
        return Ok(());
    }
    let finalized = service.client.finalized_block().await?;
    for batch in submitted {
        let sequence = batch.header.sequence;
        let query = GetBatch {
            worker: service.worker,
            sequence,
        };
        match service.client.query_at(&query, &finalized.hash).await? {
            // It was in a finalized block, so this is no block before it: its liability has ended and
            // it was released, long after it was settled.
            None => note_settled(service, sequence)?,
            Some(batch) if batch.state == BatchState::Settled => note_settled(service, sequence)?,
            Some(batch) if finalized.number <= batch.window_end => {}
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
