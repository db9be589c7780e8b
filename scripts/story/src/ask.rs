//! Asking through the gateway, as any OpenAI client does.

use anyhow::{ensure, Context, Result};
use openledger_metering::SignedReceipt;
use serde_json::{json, Value};

/// An answer and where it comes from.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The gateway's `openledger` object.
    pub openledger: Value,
    /// The receipts that the gateway checked, one a chunk.
    pub receipts: Vec<SignedReceipt>,
}

impl Answer {
    /// What the answer costs, planck.
    pub fn fee(&self) -> u128 {
        self.receipts.iter().map(|one| one.receipt.fee).sum()
    }
}

/// Asks one question.
pub async fn ask(url: &str, model: &str, question: &str) -> Result<Answer> {
    let body = json!({
        "model": model,
        "messages": [{ "role": "user", "content": question }],
        "max_tokens": 64,
        "temperature": 0,
    });
    let response = reqwest::Client::new().post(url).json(&body).send().await?;
    let status = response.status();
    let answer: Value = response.json().await.context("the gateway's answer")?;
    ensure!(status.is_success(), "{model}: {status} {answer}");
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .with_context(|| format!("no text in {answer}"))?;
    Ok(Answer {
        text: text.trim().to_owned(),
        openledger: answer["openledger"].clone(),
        receipts: receipts(&answer["openledger"])?,
    })
}

/// The receipts in an `openledger` object; there is at least one.
pub fn receipts(openledger: &Value) -> Result<Vec<SignedReceipt>> {
    let listed = openledger["receipts"].as_array();
    let listed = listed.with_context(|| format!("no receipts in {openledger}"))?;
    ensure!(!listed.is_empty(), "an answer without a receipt");
    listed
        .iter()
        .map(|one| {
            let bytes = one["receipt"].as_str().context("a receipt is hex")?;
            SignedReceipt::from_bytes(&hex::decode(bytes)?).context("a receipt does not decode")
        })
        .collect()
}
