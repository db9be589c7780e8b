//! `kill -9` of the worker between the delivery of an answer and the submission of its receipt.

use crate::{
    acts::{
        check::subject,
        pay::{next_batch, settled, submitted, submitted_fees},
        Told,
    },
    ask::ask,
};
use anyhow::{bail, ensure, Context, Result};
use openledger_chain::apis::settlement::GetBatch;
use openledger_primitives::BatchSequence;
use std::time::Duration;

/// How often a worker that submits before it can be killed is tried again.
const ATTEMPTS: u32 = 3;

/// A receipt that was delivered, unsubmitted when the worker was killed, and submitted afterwards.
pub struct Killed {
    fee: u128,
    batch: BatchSequence,
}

/// Kills the worker with a delivered, unsubmitted receipt, and starts it again.
pub async fn between_delivery_and_submission(told: &mut Told) -> Result<Killed> {
    for _ in 0..ATTEMPTS {
        if let Some(killed) = attempt(told).await? {
            return Ok(killed);
        }
        told.scene
            .narrator
            .say("the worker submitted before it could be killed: once more");
    }
    bail!("the worker was never caught before it submitted, {ATTEMPTS} times");
}

/// None when the receipt was on its way to the chain before the worker was dead.
async fn attempt(told: &mut Told) -> Result<Option<Killed>> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    let question = subject(&told.story, 0)?.question;
    let alias = told.trained[0].alias.clone();
    // Everything before is in a batch, so that what follows is this receipt's alone.
    submitted(told).await?;
    let before = (next_batch(told).await?, submitted_fees(told).await?);
    let answer = ask(&url, &alias, &question).await?;
    let worker = told.scene.worker.as_mut().context("the worker runs")?;
    worker.kill()?;
    let killed = (next_batch(told).await?, submitted_fees(told).await?);
    // What was in the node's pool by then is in one of the next two blocks.
    let now = told.scene.client.best_block().await?.number;
    told.scene
        .client
        .wait_for_block(now.saturating_add(2))
        .await?;
    let later = (next_batch(told).await?, submitted_fees(told).await?);
    told.receipts.extend_from_slice(&answer.receipts);
    restart(told).await?;
    submitted(told).await?;
    if killed != before || later != before {
        return Ok(None);
    }
    let worker = told.scene.cast.operator.account();
    let (batch, _) = before;
    let submitted = GetBatch {
        worker,
        sequence: batch,
    };
    let found = told.scene.client.query(&submitted).await?;
    let found = found.context("the batch that the restarted worker submitted")?;
    let fee = answer.fee();
    ensure!(
        found.fee == fee && found.count as usize == answer.receipts.len(),
        "batch {batch} is not of the one receipt of {fee} planck: {found:?}"
    );
    Ok(Some(Killed { fee, batch }))
}

async fn restart(told: &mut Told) -> Result<()> {
    told.scene.start_worker()?;
    let ready = told.scene.worker_url("/ready");
    let worker = told.scene.worker.as_mut().context("the worker runs")?;
    worker.answers(&ready, Duration::from_secs(60)).await
}

impl Killed {
    /// What the first half has shown.
    pub fn shown(&self) -> String {
        "a receipt that kill -9 left delivered and in no batch is submitted after the restart"
            .to_owned()
    }

    /// Once every receipt is settled: the fees of all are shared out, to the planck, and no batch
    /// came after the one with this receipt.
    pub async fn is_paid_once(&self, told: &mut Told) -> Result<String> {
        settled(told).await?;
        let next = next_batch(told).await?;
        ensure!(
            Some(next) == self.batch.checked_add(1),
            "the receipt was submitted in batch {}, yet the next is {next}",
            self.batch
        );
        Ok(format!("its {} planck are paid, once", self.fee))
    }
}
