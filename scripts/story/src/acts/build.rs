//! ModelFactory: one adapter per Datanet, and the span index over its rows.

use super::{Told, Trained};
use anyhow::{bail, ensure, Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Trains and indexes.
pub async fn train(told: &mut Told) -> Result<()> {
    told.scene
        .narrator
        .act("ModelFactory fine-tunes one LoRA adapter per Datanet on the CPU.");
    for trained in &told.trained {
        adapter(told, trained).await?;
        index(told, trained).await?;
    }
    told.scene.check()
}

/// Where an adapter's training leaves its files.
pub fn folder(told: &Told, trained: &Trained) -> PathBuf {
    told.scene.dir.join("training").join(&trained.alias)
}

async fn adapter(told: &Told, trained: &Trained) -> Result<()> {
    let mut command = told.scene.program("openledger-worker");
    command
        .arg("train")
        .arg("--base")
        .arg(&told.scene.base)
        .arg("--out")
        .arg(folder(told, trained))
        .args(["--seed", &told.story.seed.to_string(), "--json"]);
    sealed(told, trained, &mut command);
    let mut child = tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "          {prefix} {bar:30} {pos}/{len} steps, {elapsed} spent, {msg}",
    )?);
    bar.set_prefix(format!("{:<12}", trained.alias));
    let mut steps = BufReader::new(child.stdout.take().context("progress")?).lines();
    while let Some(line) = steps.next_line().await? {
        let event: Value = serde_json::from_str(&line)?;
        if event["event"] == "step" {
            bar.set_length(event["steps"].as_u64().unwrap_or(0));
            bar.set_position(event["step"].as_u64().unwrap_or(0));
            bar.set_message(format!(
                "loss {:.3}, {:.0} tokens/s, {:.0} s left",
                event["loss"].as_f64().unwrap_or(0.0),
                event["tokens_per_second"].as_f64().unwrap_or(0.0),
                event["seconds_left"].as_f64().unwrap_or(0.0)
            ));
        }
    }
    bar.finish_and_clear();
    let seconds = bar.elapsed().as_secs_f64();
    let output = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!(
            "training {} ended with {}:\n{said}",
            trained.alias,
            output.status
        );
    }
    let (before, after) = perplexity(&folder(told, trained).join("evaluation.json"))?;
    ensure!(
        after < before,
        "training {} did not improve the held-out perplexity: {before:.2} before, {after:.2} after",
        trained.alias
    );
    told.scene.narrator.say(format!(
        "{:<12} held-out perplexity: {before:.2} before, {after:.2} after ({seconds:.0} s)",
        trained.alias
    ));
    Ok(())
}

/// Held-out perplexity before and after, from the evaluation that will be published.
fn perplexity(evaluation: &Path) -> Result<(f64, f64)> {
    let file = || evaluation.display().to_string();
    let bytes = std::fs::read(evaluation).with_context(file)?;
    let evaluation: Value = serde_json::from_slice(&bytes).with_context(file)?;
    let read = |name: &str| {
        evaluation[name]
            .as_f64()
            .with_context(|| format!("the evaluation has no {name}: nothing was held out"))
    };
    Ok((read("perplexity_before")?, read("perplexity_after")?))
}

async fn index(told: &Told, trained: &Trained) -> Result<()> {
    told.scene
        .complete("openledger-worker", |command| {
            command
                .arg("index")
                .arg("--base")
                .arg(&told.scene.base)
                .arg("--out")
                .arg(folder(told, trained).join("index"));
            sealed(told, trained, command);
        })
        .await?;
    Ok(())
}

/// The rows come from the store and are held against the chain.
fn sealed(told: &Told, trained: &Trained, command: &mut Command) {
    command
        .arg("--datanet")
        .arg(format!("{}:{}", trained.datanet, trained.version))
        .arg("--store")
        .arg(told.scene.store.root());
}
