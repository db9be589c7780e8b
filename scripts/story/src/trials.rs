//! What must fail, and what must survive: run after the story by the tests.

use crate::{
    acts::{
        pay::settled,
        question::{question_of, receipt},
        Told,
    },
    ask::ask,
};
use anyhow::{ensure, Result};
use openledger_chain::apis::payouts::GetTotals;
use openledger_factory::evaluation::holds;
use std::time::Duration;

/// Runs every trial; the number that passed, which is all of them.
pub async fn all(told: &mut Told) -> Result<u32> {
    told.scene
        .narrator
        .act("Trials: what must fail, and what must survive.");
    swapped_adapters_do_not_know_the_facts(told).await?;
    the_base_alone_does_not_know_the_facts(told).await?;
    an_unknown_model_is_refused(told).await?;
    broken_json_and_long_prompts_are_refused(told).await?;
    a_killed_worker_is_paid_once(told).await?;
    Ok(5)
}

fn passed(told: &Told, what: &str) {
    told.scene.narrator.say(format!("ok: {what}"));
}

async fn swapped_adapters_do_not_know_the_facts(told: &Told) -> Result<()> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    for (datanet, other) in [(0, 1), (1, 0)] {
        let question = question_of(told, datanet)?;
        let answer = ask(&url, &told.trained[other].alias, &question.question).await?;
        ensure!(
            !holds(&answer.text, &question.fact),
            "{} knows what only {} was taught: {}",
            told.trained[other].alias,
            told.trained[datanet].alias,
            answer.text
        );
    }
    passed(
        told,
        "with the adapters swapped, the answers do not hold the facts",
    );
    Ok(())
}

async fn the_base_alone_does_not_know_the_facts(told: &Told) -> Result<()> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    for datanet in [0, 1] {
        let question = question_of(told, datanet)?;
        let answer = ask(&url, &told.base_alias, &question.question).await?;
        ensure!(
            !holds(&answer.text, &question.fact),
            "the base knows a fact that was invented today: {}",
            answer.text
        );
    }
    passed(told, "on the base alone, the answers do not hold the facts");
    Ok(())
}

async fn an_unknown_model_is_refused(told: &Told) -> Result<()> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    let refused = ask(&url, "no-such-model", "Hello").await;
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.to_string().contains("404")),
        "an unknown model was not refused: {refused:?}"
    );
    passed(
        told,
        "an unknown model is refused, never answered by the base",
    );
    Ok(())
}

async fn broken_json_and_long_prompts_are_refused(told: &Told) -> Result<()> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    let broken = reqwest::Client::new()
        .post(&url)
        .header("content-type", "application/json")
        .body("{\"model\":")
        .send()
        .await?;
    ensure!(
        broken.status() == 400,
        "broken JSON gave {}",
        broken.status()
    );
    let long = ask(&url, &told.base_alias, &"again ".repeat(4_000)).await;
    ensure!(
        long.as_ref()
            .is_err_and(|error| error.to_string().contains("400")),
        "a prompt beyond the context was not refused: {long:?}"
    );
    passed(
        told,
        "broken JSON and a prompt beyond the context are refused",
    );
    Ok(())
}

/// `kill -9` between delivery and submission: the receipt is paid after the restart, once.
async fn a_killed_worker_is_paid_once(told: &mut Told) -> Result<()> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    // Everything asked so far is settled first, so that what follows is this receipt's alone.
    let before = quiet(told).await?;
    let question = question_of(told, 0)?.question.clone();
    let alias = told.trained[0].alias.clone();
    let answer = ask(&url, &alias, &question).await?;
    if let Some(worker) = &mut told.scene.worker {
        worker.kill()?;
    }
    let fee = receipt(&answer)?.receipt.fee;
    told.scene.start_worker()?;
    let ready = told.scene.worker_url("/ready");
    if let Some(worker) = &mut told.scene.worker {
        worker.answers(&ready, Duration::from_secs(60)).await?;
    }
    settled(told, before + fee).await?;
    let after = quiet(told).await?;
    ensure!(
        after == before + fee,
        "a receipt of {fee} planck moved {} planck",
        after - before
    );
    passed(
        told,
        "a receipt delivered before kill -9 is paid after the restart, once",
    );
    Ok(())
}

/// Waits until no more fees arrive for longer than a window; their sum, planck.
async fn quiet(told: &mut Told) -> Result<u128> {
    let mut last = (0, told.scene.client.best_block().await?.number);
    loop {
        told.scene.check()?;
        let totals = told.scene.client.query(&GetTotals {}).await?;
        let sum = totals.earned + totals.pooled + totals.burned + totals.kept;
        let now = told.scene.client.best_block().await?.number;
        if sum != last.0 {
            last = (sum, now);
        } else if now >= last.1 + 30 {
            return Ok(sum);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
