//! The unmodified OpenAI client for JavaScript.

use crate::{
    acts::{question::Asked, Told},
    ask::receipts,
    javascript,
};
use anyhow::{ensure, Context, Result};

/// Lists models, asks plainly, asks streamed: text, usage and reason to finish are right.
pub async fn client_works_unmodified(told: &mut Told) -> Result<String> {
    let Asked {
        model,
        subject,
        answer,
        ..
    } = told.asked.first().context("something was asked")?.clone();
    let question = subject.context("an adapter was asked first")?.question;
    let printed = javascript::run("scripts/openai-js", "client.mjs", |command| {
        command
            .arg(told.scene.gateway_url("/v1"))
            .args([&model, &question]);
    })
    .await?;
    let aliases = told.trained.iter().map(|trained| &trained.alias);
    for alias in aliases.chain([&told.base_alias]) {
        let listed = printed["models"].as_array();
        ensure!(
            listed.is_some_and(|models| models.iter().any(|id| id.as_str() == Some(alias))),
            "{alias} is not among the models {}",
            printed["models"]
        );
    }
    for kind in ["plain", "streamed"] {
        let got = &printed[kind];
        let text = got["text"].as_str().unwrap_or_default();
        ensure!(
            text.trim() == answer.text,
            "the same question was answered otherwise, {kind}: {text}"
        );
        let receipts = receipts(&got["openledger"])?;
        let charged = |of: fn(&openledger_primitives::receipt::Receipt) -> u32| -> u64 {
            receipts.iter().map(|one| u64::from(of(&one.receipt))).sum()
        };
        let usage = &got["usage"];
        ensure!(
            usage["prompt_tokens"] == charged(|receipt| receipt.tokens_in)
                && usage["completion_tokens"] == charged(|receipt| receipt.tokens_out),
            "usage {usage} is not what the receipts charge, {kind}"
        );
        told.receipts.extend(receipts);
    }
    Ok(format!(
        "the unmodified OpenAI client lists the models and is answered plainly and in {} pieces",
        printed["streamed"]["pieces"]
    ))
}
