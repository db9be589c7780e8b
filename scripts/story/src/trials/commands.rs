//! The worker's commands that the story itself does not need.

use crate::acts::{
    build::folder,
    pay::{next_batch, settled},
    Told,
};
use anyhow::{bail, ensure, Context, Result};
use openledger_metering::SignedReceipt;
use serde_json::Value;
use std::time::{Duration, Instant};

const WORKER: &str = "openledger-worker";

/// `generate`: the answers that were served, with the adapter and without, from the same files.
pub async fn generate_says_what_the_worker_serves(told: &Told) -> Result<String> {
    let mut same = 0;
    for (position, asked) in told.asked.iter().enumerate() {
        // The base was asked the first adapter's question.
        let subject = asked.subject.as_ref();
        let subject = subject.or_else(|| told.asked.first()?.subject.as_ref());
        let question = &subject.context("a question")?.question;
        let said = told
            .scene
            .complete(WORKER, |command| {
                command.arg("generate").arg("--base").arg(&told.scene.base);
                if let Some(trained) = told.trained.get(position) {
                    let adapter = folder(told, trained).join("adapter");
                    command.arg("--adapter").arg(adapter);
                }
                command.arg(question);
            })
            .await?;
        ensure!(
            said.trim() == asked.answer.text,
            "generate says “{}”, {} served “{}”",
            said.trim(),
            asked.model,
            asked.answer.text
        );
        same += 1;
    }
    Ok(format!(
        "`generate` gives the same {same} answers that were served"
    ))
}

/// `verify-receipt`: a voucher and receipt pass as the worker's journal has them, and fail altered.
pub async fn verify_receipt_tells_true_from_false(told: &Told) -> Result<String> {
    let (voucher, receipt) = last_of_some_lane(told).await?;
    let verify = |receipt: String| {
        let voucher = voucher.clone();
        async move {
            told.scene
                .complete(WORKER, |command| {
                    command.arg("verify-receipt");
                    command.args(["--voucher", &voucher, "--receipt", &receipt]);
                })
                .await
        }
    };
    let said = verify(receipt.clone()).await?;
    let read = SignedReceipt::from_bytes(&hex::decode(&receipt)?).context("a receipt")?;
    let hash = hex::encode(read.receipt.hash());
    ensure!(
        said.starts_with("Valid: channel ") && said.contains(&hash),
        "verify-receipt says of receipt 0x{hash}: {said}"
    );
    let mut bytes = hex::decode(&receipt)?;
    let last = bytes.last_mut().context("a receipt has bytes")?;
    *last ^= 1;
    let forged = verify(hex::encode(bytes)).await;
    ensure!(
        forged
            .as_ref()
            .is_err_and(|error| error.to_string().contains("not signed by the worker")),
        "verify-receipt takes a forged signature: {forged:?}"
    );
    Ok(
        "`verify-receipt` passes a receipt, and refuses it with a bit of its signature changed"
            .into(),
    )
}

/// Voucher and receipt, hex, of the last answer on a lane of the channel; the receipt is one that
/// the gateway accepted.
async fn last_of_some_lane(told: &Told) -> Result<(String, String)> {
    let answer = &told.asked.first().context("something was asked")?.answer;
    let channel = &answer.openledger["channel"];
    let lane = &answer.openledger["receipts"][0]["lane"];
    let path = format!("/openledger/channels/{channel}/lanes/{lane}");
    let state: Value = reqwest::get(told.scene.worker_url(&path))
        .await?
        .json()
        .await?;
    let field = |name: &str| {
        let text = state[name].as_str();
        let text = text.with_context(|| format!("no {name} in {state}"))?;
        anyhow::Ok(text.trim_start_matches("0x").to_owned())
    };
    let (voucher, receipt) = (field("voucher")?, field("receipt")?);
    let held = SignedReceipt::from_bytes(&hex::decode(&receipt)?).context("a receipt")?;
    ensure!(
        told.receipts
            .iter()
            .any(|known| known.receipt.hash() == held.receipt.hash()),
        "the worker holds a receipt that the gateway never showed: {state}"
    );
    Ok((voucher, receipt))
}

/// `status`: account, standing, bond and batches as the chain has them.
pub async fn status_shows_the_worker(told: &Told) -> Result<String> {
    let said = status(told).await?;
    let batches = next_batch(told).await?.saturating_sub(1);
    for (name, value) in [
        ("worker", told.scene.cast.operator.account().to_string()),
        ("endpoint", told.scene.worker_url("")),
        ("standing", "Active".to_owned()),
        ("own bond", "2000.000000000000 OPEN".to_owned()),
        ("batches", batches.to_string()),
    ] {
        ensure!(
            field(&said, name) == Some(&value),
            "`status` does not say {name} {value}:\n{said}"
        );
    }
    let serves = field(&said, "serves").unwrap_or_default();
    let revisions = told.trained.iter().map(|trained| trained.revision);
    for revision in revisions.chain([told.base_revision]) {
        let mut listed = serves.split(|c: char| !c.is_ascii_digit());
        ensure!(
            listed.any(|number| number == revision.to_string()),
            "`status` does not say that revision {revision} is served:\n{said}"
        );
    }
    Ok("`status` shows standing, revisions, bond and batches of the worker".to_owned())
}

async fn status(told: &Told) -> Result<String> {
    let worker = told.scene.cast.operator.account().to_string();
    told.scene
        .complete(WORKER, |command| {
            command.args(["status", "--worker", &worker]);
        })
        .await
}

/// What stands after a name at the beginning of a line.
fn field<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// `leave` while a batch can still be disputed: the worker drains, and is told why it must wait.
pub async fn leave_waits_for_what_is_owed(told: &Told) -> Result<String> {
    let refused = leave(told).await;
    let Err(error) = &refused else {
        bail!("a worker left with a batch in its window: {refused:?}");
    };
    let said = error.to_string();
    ensure!(
        said.contains("Draining since block")
            && said.contains("not yet free to leave")
            && said.contains("Liable"),
        "`leave` of a liable worker says: {said}"
    );
    let said = status(told).await?;
    ensure!(
        field(&said, "standing").is_some_and(|standing| standing.starts_with("Draining")),
        "the worker does not drain:\n{said}"
    );
    for trained in &told.trained {
        let offered = told.scene.client.find_workers(trained.revision).await?;
        ensure!(
            offered.is_empty(),
            "a draining worker is offered for revision {}",
            trained.revision
        );
    }
    Ok("`leave` drains a worker, and says that its batches are still liable".to_owned())
}

/// `leave` when nothing is owed any more: the worker is gone, and everything was paid.
pub async fn leave_lets_go_when_nothing_is_owed(told: &mut Told) -> Result<String> {
    let begun = Instant::now();
    let said = loop {
        match leave(told).await {
            Ok(said) => break said,
            Err(error) if !error.to_string().contains("Liable") => return Err(error),
            Err(error) => ensure!(
                begun.elapsed() < Duration::from_secs(240),
                "after four minutes: {error}"
            ),
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    ensure!(
        said.contains("Draining already.") && said.contains("Left in block"),
        "`leave` says: {said}"
    );
    let gone = status(told).await;
    ensure!(
        gone.as_ref()
            .is_err_and(|error| error.to_string().contains("is not a worker")),
        "the worker is still there: {gone:?}"
    );
    settled(told).await?;
    Ok("`leave` lets the worker go when nothing is owed; every receipt was paid, once".to_owned())
}

async fn leave(told: &Told) -> Result<String> {
    told.scene
        .complete(WORKER, |command| {
            command
                .arg("leave")
                .arg("--account-key")
                .arg(&told.scene.cast.operator.key_file);
        })
        .await
}
