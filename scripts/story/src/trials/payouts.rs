//! A claim through polkadot.js.

use crate::{
    acts::{check::subject, pay::earnings, Told},
    javascript,
    narrator::open,
};
use anyhow::{ensure, Context, Result};
use openledger_chain::apis::payouts::Role;

/// The contributor that was asked about again claims with `@polkadot/api`, which decodes the events.
pub async fn polkadot_js_claims_and_decodes(told: &Told) -> Result<String> {
    let holder = subject(&told.story, 0)?.holder;
    let actor = &told.scene.cast.contributors[holder];
    let earned = earnings(told, actor.account()).await?;
    let sum: u128 = earned.iter().map(|earning| earning.amount).sum();
    let last = earned.iter().map(|earning| earning.vests_at).max();
    let last = last.with_context(|| format!("{} earned nothing since", actor.name))?;
    told.scene.client.wait_for_block(last).await?;
    let claimed = javascript::run("scripts/polkadot-js", "claim.mjs", |command| {
        command
            .env("OPENLEDGER_WS", told.scene.client.url())
            .arg(&actor.key_file);
    })
    .await?;
    ensure!(
        claimed["account"].as_str() == Some(&javascript::account(actor.account()))
            && claimed["amount"].as_str() == Some(&sum.to_string()),
        "{} is owed {sum} planck, and polkadot.js decoded {claimed}",
        actor.account()
    );
    let paid = claimed["paid"].as_array().context("parts of the claim")?;
    ensure!(
        paid.len() == earned.len(),
        "{} parts of {} were decoded",
        paid.len(),
        earned.len()
    );
    for (part, earning) in paid.iter().zip(&earned) {
        let Role::Contributor { contribution, .. } = earning.role else {
            anyhow::bail!("{} earned as {:?}", actor.name, earning.role);
        };
        let decoded = part["role"]["contributor"]["contribution"].as_u64();
        ensure!(
            decoded == Some(contribution),
            "a part for contribution {contribution} was decoded as {part}"
        );
    }
    ensure!(
        earnings(told, actor.account()).await?.is_empty(),
        "{} is still owed what was claimed",
        actor.name
    );
    Ok(format!(
        "polkadot.js claims {} for {} and decodes Claimed and {} Paid with their reasons",
        open(sum),
        actor.name,
        paid.len()
    ))
}
