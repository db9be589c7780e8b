//! Who signed what since genesis, read from the blocks by polkadot.js.

use crate::{acts::Told, javascript};
use anyhow::{ensure, Context, Result};
use openledger_chain::Key;
use std::collections::BTreeSet;

/// Everything is signed by the story's own generated keys; of the development keys one is used, and
/// only to fund them. Nothing is called by sudo.
pub async fn only_the_purse_is_a_development_key(told: &Told) -> Result<String> {
    let history = javascript::run("scripts/polkadot-js", "history.mjs", |command| {
        command.env("OPENLEDGER_WS", told.scene.client.url());
    })
    .await?;
    let mut own: BTreeSet<String> = told
        .scene
        .cast
        .all()
        .iter()
        .map(|actor| javascript::account(actor.account()))
        .collect();
    let service = Key::from_file(&told.scene.service_key())?;
    own.insert(javascript::account(service.account()));
    let purse = javascript::account(Key::from_uri("//Alice")?.account());
    ensure!(!own.contains(&purse), "an actor has the purse's key");
    let signers = history["signers"].as_object().context("the signers")?;
    for (signer, calls) in signers {
        let calls = calls.as_object().context("the calls of a signer")?;
        for call in calls.keys() {
            let allowed = match signer.as_str() {
                "unsigned" => call == "timestamp.set",
                signer if signer == purse => call == "balances.transferKeepAlive",
                signer => own.contains(signer) && !call.starts_with("sudo."),
            };
            ensure!(allowed, "{signer} called {call}");
        }
    }
    ensure!(
        signers.contains_key(&purse) && signers.len() > own.len(),
        "not everybody signed something: {history}"
    );
    Ok(format!(
        "in {} blocks every call is signed by a key made for the story, but the transfers that fund them",
        history["blocks"]
    ))
}
