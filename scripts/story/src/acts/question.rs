//! Three questions at once: to both adapters and to the base.

use super::{
    check::{subject, Subject},
    Told,
};
use crate::{
    ask::{ask, Answer},
    narrator::open,
};
use anyhow::{ensure, Context, Result};
use openledger_primitives::RevisionId;

/// A question, to whom it went, and what came back.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Model.
    pub model: String,
    /// Revision that answered.
    pub revision: RevisionId,
    /// What was asked of an adapter; none for the base, which knows nothing of it.
    pub subject: Option<Subject>,
    /// Answer.
    pub answer: Answer,
}

/// Asks, and checks that one forward pass held all three.
pub async fn ask_all(told: &mut Told) -> Result<Vec<Asked>> {
    told.scene
        .narrator
        .act("A consumer asks three questions at once, through an ordinary OpenAI endpoint.");
    let url = told.scene.gateway_url("/v1/chat/completions");
    let subjects = [subject(&told.story, 0)?, subject(&told.story, 1)?];
    let models = [
        (told.trained[0].alias.clone(), told.trained[0].revision),
        (told.trained[1].alias.clone(), told.trained[1].revision),
        (told.base_alias.clone(), told.base_revision),
    ];
    let questions = [0, 1, 0].map(|subject: usize| subjects[subject].question.clone());
    let [first, second] = subjects;
    let subjects = [Some(first), Some(second), None];
    let answers = futures::try_join!(
        ask(&url, &models[0].0, &questions[0]),
        ask(&url, &models[1].0, &questions[1]),
        ask(&url, &models[2].0, &questions[2])
    )?;
    let answers = [answers.0, answers.1, answers.2];
    let mut asked = Vec::new();
    for ((((model, revision), question), subject), answer) in
        models.into_iter().zip(questions).zip(subjects).zip(answers)
    {
        let narrator = &told.scene.narrator;
        narrator.say(format!("{model} is asked:  {question}"));
        narrator.say(format!("{model} answers:   {}", answer.text));
        for signed in &answer.receipts {
            narrator.say(format!(
                "   receipt 0x{}…  {} + {} tokens, {}",
                hex::encode(&signed.receipt.hash()[..6]),
                signed.receipt.tokens_in,
                signed.receipt.tokens_out,
                open(signed.receipt.fee)
            ));
        }
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
        told.receipts.extend_from_slice(&answer.receipts);
        asked.push(Asked {
            model,
            revision,
            subject,
            answer,
        });
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
