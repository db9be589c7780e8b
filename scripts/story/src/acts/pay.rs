//! The batch, its window, the split, the claims.

use super::{
    question::{total_fee, Asked},
    Told,
};
use crate::narrator::open;
use anyhow::{ensure, Result};
use futures::future::try_join_all;
use openledger_chain::{
    apis::payouts::{EarningInfo, GetEarnings, GetTotals, Role, Totals},
    calls::{payouts::Claim, Call},
    events::payouts::{Claimed, Paid},
    AccountId,
};
use std::time::{Duration, Instant};

/// Waits for the batch, checks that the fee was split to the planck, and lets everyone claim.
pub async fn settle_and_claim(told: &mut Told, asked: &[Asked]) -> Result<()> {
    let fee = total_fee(asked);
    let worker = told.scene.cast.operator.account();
    told.scene.narrator.act(&format!(
        "The worker submits one batch: {} receipts, {} in all. Its challenge window runs.",
        asked.len(),
        open(fee)
    ));
    let totals = settled(told, fee).await?;
    told.scene
        .narrator
        .act("The window has passed; the batch is finalized and the fee is split.");
    ensure!(
        totals.earned + totals.pooled + totals.burned + totals.kept == fee,
        "the parts {totals:?} do not sum to the fee of {fee} planck"
    );
    let narrator = &told.scene.narrator;
    narrator.say(format!("fee       {}", open(fee)));
    narrator.say(format!("earned    {}", open(totals.earned)));
    narrator.say(format!(
        "pooled    {} (not attributed to anybody)",
        open(totals.pooled)
    ));
    narrator.say(format!("burned    {}", open(totals.burned)));
    narrator.say(format!("kept      {} (protocol)", open(totals.kept)));
    told.scene.narrator.act("Each contributor claims.");
    let mut earned = Vec::new();
    let mut claims = Vec::new();
    for actor in &told.scene.cast.contributors {
        let earnings = earnings(told, actor.account()).await?;
        let sum: u128 = earnings.iter().map(|earning| earning.amount).sum();
        earned.push(sum);
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
    ensure!(
        earned[0] > earned[1],
        "the contributor whose documents held the fact earned {} planck, the other {}",
        earned[0],
        earned[1]
    );
    told.scene.narrator.say(format!(
        "{} earned more than {}: the fact stood in their documents",
        told.scene.cast.contributors[0].name, told.scene.cast.contributors[1].name
    ));
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

/// Waits until fees of `fee` planck in all were shared out.
pub async fn settled(told: &mut Told, fee: u128) -> Result<Totals> {
    let begun = Instant::now();
    loop {
        told.scene.check()?;
        let totals = told.scene.client.query(&GetTotals {}).await?;
        if totals.earned + totals.pooled + totals.burned + totals.kept >= fee {
            return Ok(totals);
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(180),
            "no batch was finalized within three minutes"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
