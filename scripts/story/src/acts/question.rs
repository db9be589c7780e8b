//! Three questions at once: to both adapters and to the base.

use super::Told;
use crate::{
    ask::{ask, Answer},
    narrator::open,
};
use anyhow::{ensure, Context, Result};
use openledger_factory::{evaluation::holds, invented::StoryQuestion};
use openledger_metering::SignedReceipt;

/// A question, to whom it went, and what came back.
pub struct Asked {
    /// Model.
    pub model: String,
    /// Question.
    pub question: String,
    /// What the answer must contain; none for the base, which knows nothing of it.
    pub fact: Option<String>,
    /// Answer.
    pub answer: Answer,
    /// The receipt that the gateway checked.
    pub receipt: SignedReceipt,
}

/// The question that is put to the adapter of a Datanet: the first of its first contributor.
pub fn question_of(told: &Told, datanet: usize) -> Result<&StoryQuestion> {
    told.story
        .datanets
        .get(datanet)
        .and_then(|datanet| datanet.contributors.first())
        .and_then(|contributor| contributor.questions.first())
        .context("a story has a question for each Datanet")
}

/// Asks, checks that the answers hold the facts and that one forward pass held all three.
pub async fn ask_all(told: &mut Told) -> Result<Vec<Asked>> {
    told.scene
        .narrator
        .act("A consumer asks three questions at once, through an ordinary OpenAI endpoint.");
    let url = told.scene.gateway_url("/v1/chat/completions");
    let first = question_of(told, 0)?;
    let second = question_of(told, 1)?;
    let models = [
        told.trained[0].alias.clone(),
        told.trained[1].alias.clone(),
        told.base_alias.clone(),
    ];
    let questions = [&first.question, &second.question, &first.question];
    let facts = [Some(&first.fact), Some(&second.fact), None];
    let answers = futures::try_join!(
        ask(&url, &models[0], questions[0]),
        ask(&url, &models[1], questions[1]),
        ask(&url, &models[2], questions[2])
    )?;
    let mut asked = Vec::new();
    let answers = [answers.0, answers.1, answers.2];
    for (((model, question), fact), answer) in
        models.into_iter().zip(questions).zip(facts).zip(answers)
    {
        let narrator = &told.scene.narrator;
        narrator.say(format!("{model} is asked:  {question}"));
        narrator.say(format!("{model} answers:   {}", answer.text));
        let receipt = receipt(&answer)?;
        narrator.say(format!(
            "   receipt 0x{}…  {} + {} tokens, {}",
            hex::encode(&receipt.receipt.hash()[..6]),
            receipt.receipt.tokens_in,
            receipt.receipt.tokens_out,
            open(receipt.receipt.fee)
        ));
        for source in answer.openledger["sources"]
            .as_array()
            .into_iter()
            .flatten()
        {
            narrator.say(format!(
                "   source: row {} of contribution {} by {}, {} ppm: “{}”",
                source["row"],
                source["contribution"],
                source["owner"].as_str().unwrap_or("?"),
                source["share_ppm"],
                source["span"].as_str().unwrap_or("").trim()
            ));
        }
        asked.push(Asked {
            model,
            question: question.clone(),
            fact: fact.cloned(),
            answer,
            receipt,
        });
    }
    for one in &asked {
        let Some(fact) = &one.fact else { continue };
        ensure!(
            holds(&one.answer.text, fact),
            "{} was asked “{}” and did not say “{fact}”: {}",
            one.model,
            one.question,
            one.answer.text
        );
    }
    let shared = widest_step(told).await?;
    ensure!(
        shared >= 3.0,
        "no forward pass held all three questions; the widest held {shared}"
    );
    told.scene.narrator.say("one forward pass held both adapters and the base (openledger_step_requests on the worker's metrics page)");
    told.scene.check()?;
    Ok(asked)
}

/// The receipt in an answer.
pub fn receipt(answer: &Answer) -> Result<SignedReceipt> {
    let hex_receipt = answer.openledger["receipts"][0]["receipt"]
        .as_str()
        .with_context(|| format!("no receipt in {}", answer.openledger))?;
    SignedReceipt::from_bytes(&hex::decode(hex_receipt)?).context("the receipt does not decode")
}

/// The most requests that one forward pass held, by the worker's metrics page.
async fn widest_step(told: &Told) -> Result<f64> {
    let url = format!(
        "http://127.0.0.1:{}/metrics",
        told.scene.ports.worker_metrics
    );
    let page = reqwest::get(url).await?.text().await?;
    let adapters = metric(&page, "openledger_step_distinct_adapters_max").unwrap_or(0.0);
    ensure!(
        adapters >= 2.0,
        "no forward pass held both adapters: {adapters}"
    );
    metric(&page, "openledger_step_requests{quantile=\"1\"}")
        .context("the worker's metrics page has no openledger_step_requests")
}

fn metric(page: &str, name: &str) -> Option<f64> {
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The fee of all answers, planck.
pub fn total_fee(asked: &[Asked]) -> u128 {
    asked.iter().map(|one| one.receipt.receipt.fee).sum()
}
