//! Requests that must be refused.

use crate::{acts::Told, ask::ask};
use anyhow::{ensure, Result};

/// No adapter of that name: never an answer by the base.
pub async fn of_an_unknown_model(told: &Told) -> Result<String> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    let refused = ask(&url, "no-such-model", "Hello").await;
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.to_string().contains("404")),
        "an unknown model was not refused: {refused:?}"
    );
    Ok("an unknown model is refused, never answered by the base".to_owned())
}

/// What is no request, and what is too long for the model.
pub async fn of_broken_json_and_long_prompts(told: &Told) -> Result<String> {
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
    Ok("broken JSON and a prompt beyond the context are refused".to_owned())
}
