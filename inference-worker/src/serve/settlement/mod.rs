//! The loop that turns journaled receipts into settled batches.

mod caution;
mod fate;
mod lanes;
mod rounds;
mod terms;

use super::Service;
use anyhow::Result;
use caution::Caution;
use fate::{fate, Fate};
use openledger_chain::{
    apis::settlement::{BatchState, GetBatch},
    calls::settlement::{SettlePage, SubmitBatch},
    events::settlement::BatchFinalized,
    SubmitError,
};
use openledger_metering::{journal::Hold, BatchLimits, Journal, PreparedBatch};
use openledger_primitives::{batch::MAX_CLAIMS, Balance, BatchSequence, BlockNumber};
use rounds::{round, Place, View};

/// Submits what is pending every period, and finalizes the batches whose window passed, until the
/// process ends. An error is logged and tried again: inference never waits for settlement.
pub async fn run(service: Service) {
    let mut interval = tokio::time::interval(service.rules.settle_every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut caution = None;
    loop {
        interval.tick().await;
        if let Err(error) = settle(&service, &mut caution).await {
            tracing::warn!("settlement is tried again later: {error:#}");
        }
        if let Err(error) = finalize(&service).await {
            tracing::warn!("finalization is tried again later: {error:#}");
        }
        if let Err(error) = release(&service).await {
            tracing::warn!("ended batches are looked at again later: {error:#}");
        }
    }
}

async fn settle(service: &Service, caution: &mut Option<Caution>) -> Result<()> {
    let caution = match caution {
        Some(caution) => caution,
        None => {
            tell_parked(&service.journal)?;
            caution.insert(Caution::new(&service.journal.held()?))
        }
    };
    let settled = round(service, caution).await;
    measure(&service.journal)?;
    settled
}

/// Names the lanes that are parked, at each start.
fn tell_parked(journal: &Journal) -> Result<()> {
    for one in journal.held()? {
        if let Hold::Parked { error } = &one.hold {
            tracing::warn!(
                channel = one.channel,
                lane = one.lane,
                fees = %one.fees,
                error,
                "this lane is parked: the chain refused its claims. Start with --retry-parked to have \
                 it tried again"
            );
        }
    }
    Ok(())
}

/// Parked lanes on the metrics page.
fn measure(journal: &Journal) -> Result<()> {
    let mut lanes = 0u32;
    let mut planck: Balance = 0;
    for one in journal.held()? {
        if one.hold.is_parked() {
            lanes = lanes.saturating_add(1);
            planck = planck.saturating_add(one.fees);
        }
    }
    metrics::gauge!("openledger_parked_lanes").set(lanes);
    metrics::gauge!("openledger_parked_planck").set(planck as f64);
    Ok(())
}

impl Place for Service {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn worker(&self) -> [u8; 32] {
        self.worker.0
    }

    async fn view(&self) -> Result<View> {
        let (next, parent) = self.client.next_batch(self.worker).await?;
        let lanes::Pending { lanes, owed, terms } = lanes::pending(self).await?;
        let limits = BatchLimits {
            sequence: next,
            parent,
            epoch: self.client.epoch_index().await?,
            now: self.facts.best_block(),
            voucher_grace: self.rules.voucher_grace,
            room: self.facts.exposure_room().await?,
            max_claims: MAX_CLAIMS,
        };
        Ok(View {
            limits,
            lanes,
            owed,
            terms,
        })
    }

    async fn submit(&self, batch: &PreparedBatch) -> Result<BlockNumber, SubmitError> {
        let call = SubmitBatch {
            worker: self.worker,
            header: batch.header,
            claims: batch.claims.clone(),
            usage: batch.usage.clone(),
            credits: batch.credits.clone(),
        };
        Ok(self.submitter.submit(&call).await?.number)
    }

    async fn fate(&self, batch: &PreparedBatch) -> Result<Fate> {
        fate(self, batch).await
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
    for sequence in submitted {
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

/// Drops the leaves of batches whose liability has ended. The chain releases a worker's batches in their
/// order, so the first that it still has is as far as it got.
async fn release(service: &Service) -> Result<()> {
    let settled = service.journal.settled()?;
    if settled.is_empty() {
        return Ok(());
    }
    let finalized = service.client.finalized_block().await?;
    for sequence in settled {
        let query = GetBatch {
            worker: service.worker,
            sequence,
        };
        let known = service.client.query_at(&query, &finalized.hash).await?;
        if known.is_some() {
            break;
        }
        service.journal.mark_released(sequence)?;
    }
    Ok(())
}
