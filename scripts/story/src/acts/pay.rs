//! The batch, its window, the split, the claims.

use super::{check::cases, question::Asked, Told};
use crate::narrator::open;
use anyhow::{ensure, Context, Result};
use futures::future::try_join_all;
use openledger_chain::{
    apis::payouts::{EarningInfo, GetEarnings, GetTotals, Role, Totals},
    calls::{payouts::Claim, Call},
    events::payouts::{Claimed, Paid},
    AccountId,
};
use openledger_primitives::{BatchSequence, ChannelId};
use std::time::{Duration, Instant};

/// Waits for the batch, checks that the fee was split to the planck and by whose data it was, and
/// lets everyone claim.
pub async fn settle_and_claim(told: &mut Told, asked: &[Asked]) -> Result<()> {
    let fee = told.fees();
    let worker = told.scene.cast.operator.account();
    told.scene.narrator.act(&format!(
        "The worker submits one batch: {} receipts, {} in all. Its challenge window runs.",
        told.receipts.len(),
        open(fee)
    ));
    let totals = settled(told).await?;
    told.scene
        .narrator
        .act("The window has passed; the batch is finalized and the fee is split.");
    let narrator = &told.scene.narrator;
    narrator.say(format!("fee       {}", open(fee)));
    narrator.say(format!("earned    {}", open(totals.earned)));
    narrator.say(format!(
        "pooled    {} (not attributed to anybody)",
        open(totals.pooled)
    ));
    narrator.say(format!("burned    {}", open(totals.burned)));
    narrator.say(format!("kept      {} (protocol)", open(totals.kept)));
    // Before anything is claimed: what is claimed is no longer among the earnings.
    let cases = cases(told, asked, 0..next_batch(told).await?).await?;
    told.scene.narrator.act("Each contributor claims.");
    let mut claims = Vec::new();
    for actor in &told.scene.cast.contributors {
        let earnings = earnings(told, actor.account()).await?;
        let sum: u128 = earnings.iter().map(|earning| earning.amount).sum();
        if sum == 0 {
            told.scene.narrator.say(format!(
                "{:<6} earned nothing: no answer came from their documents",
                actor.name
            ));
            continue;
        }
        if let Some(last) = earnings.iter().map(|earning| earning.vests_at).max() {
            told.scene.client.wait_for_block(last).await?;
        }
        claims.push(async move {
            let claimed = actor.chain.queue(Claim {}.encoded()).await?.await?;
            anyhow::Ok((actor, claimed))
        });
    }
    for (actor, outcome) in try_join_all(claims).await? {
        let claimed: Claimed = outcome.expect()?;
        told.scene.narrator.say(format!(
            "{:<6} {} claimed {}",
            actor.name,
            claimed.account,
            open(claimed.amount)
        ));
        for paid in outcome.all::<Paid>()? {
            let why = match paid.role {
                Role::Contributor {
                    contribution,
                    reason,
                } => {
                    format!("contribution {contribution}, reason {reason:?}")
                }
                role => format!("{role:?}"),
            };
            told.scene.narrator.say(format!(
                "       {} for {why}, revision {}, batch {} of {}",
                open(paid.amount),
                paid.revision,
                paid.batch,
                paid.worker
            ));
        }
    }
    for case in cases {
        case.check()?;
        if let Some((holder, amount)) = case.earned.get(case.subject.holder) {
            told.scene.narrator.say(format!(
                "{holder} earned most by the answer of {}, {}: “{}” stood in their documents",
                case.model,
                open(*amount),
                case.subject.fact
            ));
        }
    }
    let owed = earnings(told, worker).await?;
    let worker_part: u128 = owed.iter().map(|earning| earning.amount).sum();
    told.scene.narrator.say(format!(
        "the worker's {} vest until its liability ends",
        open(worker_part)
    ));
    Ok(())
}

/// What an account is owed.
pub async fn earnings(told: &Told, account: AccountId) -> Result<Vec<EarningInfo>> {
    Ok(told.scene.client.query(&GetEarnings { account }).await?)
}

/// The worker's next batch.
pub async fn next_batch(told: &Told) -> Result<BatchSequence> {
    let worker = told.scene.cast.operator.account();
    Ok(told.scene.client.next_batch(worker).await?.0)
}

/// What batches have claimed of the consumer's deposits so far, planck.
pub async fn submitted_fees(told: &Told) -> Result<u128> {
    let mut claimed = 0;
    for channel in std::iter::once(gateways_channel(told)?).chain(told.own_channel) {
        let found = told.scene.client.channel(channel).await?;
        claimed += found.context("the channel exists")?.escrowed;
    }
    Ok(claimed)
}

/// The channel that the gateway pays from.
pub fn gateways_channel(told: &Told) -> Result<ChannelId> {
    let answer = &told.asked.first().context("something was asked")?.answer;
    let channel = answer.openledger["channel"].as_u64();
    channel.context("an answer names its channel")
}

/// Waits until every receipt so far is in some batch.
pub async fn submitted(told: &mut Told) -> Result<()> {
    let begun = Instant::now();
    loop {
        told.scene.check()?;
        let claimed = submitted_fees(told).await?;
        let fee = told.fees();
        ensure!(claimed <= fee, "{claimed} planck are claimed for {fee}");
        if claimed == fee {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(90),
            "after 90 s {claimed} of {fee} planck are in batches"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until every receipt so far is shared out, and fails when it is to more or less than their
/// fees.
pub async fn settled(told: &mut Told) -> Result<Totals> {
    let fee = told.fees();
    let begun = Instant::now();
    loop {
        told.scene.check()?;
        let totals = told.scene.client.query(&GetTotals {}).await?;
        let shared = totals.earned + totals.pooled + totals.burned + totals.kept;
        ensure!(
            shared <= fee,
            "{totals:?} sum to {shared} planck, all fees so far to {fee}"
        );
        if shared == fee {
            return Ok(totals);
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(180),
            "after three minutes {shared} of {fee} planck are shared out"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
