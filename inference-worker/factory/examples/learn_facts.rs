//! Invents facts from a seed, trains one adapter per Datanet, and asks: with the right adapter, with the other one,
//! and with the base alone.
//!
//! `cargo run --release -p openledger-factory --example learn_facts -- BASE [seed] [entities] [key=value...]`

use std::path::PathBuf;
use std::time::Instant;

use openledger_factory::adapter::{train_adapter, Base, Choices, VersionRows};
use openledger_factory::evaluation::{exact_match, Question};
use openledger_factory::gradients::Lanes;
use openledger_factory::invented::story;
use openledger_factory::progress::{Cancel, JsonLines, Progress, Silent};
use openledger_factory::train::Watch;
use openledger_store::Row;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    openledger_factory::gradients::one_thread_per_lane();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let base = Base::load(&PathBuf::from(args.first().ok_or("which base?")?))?;
    let get = |key: &str| {
        let found = args.iter().find_map(|a| a.strip_prefix(&format!("{key}=")));
        found.and_then(|v| v.parse::<f64>().ok())
    };
    let story = story(
        get("seed").unwrap_or(1.0) as u64,
        get("entities").unwrap_or(6.0) as usize,
    )?;
    let mut choices = Choices::default();
    if let Some(v) = get("steps") {
        choices.hyper.schedule.steps = v as usize;
    }
    if let Some(v) = get("rate") {
        choices.hyper.schedule.peak = v;
    }
    if let Some(v) = get("batch") {
        choices.hyper.batch = v as usize;
    }
    if let Some(v) = get("alpha") {
        choices.lora.alpha = v;
    }
    if let Some(v) = get("questions") {
        choices.preparation.questions = v as usize;
    }
    if let Some(v) = get("every") {
        choices.hyper.evaluate_every = v as usize;
    }
    if let Some(v) = get("patience") {
        choices.hyper.patience = v as usize;
    }
    let json = JsonLines::new(std::io::stdout());
    let progress: &dyn Progress = if get("verbose").is_some() {
        &json
    } else {
        &Silent
    };
    let mut adapters = Vec::new();
    let mut suites = Vec::new();
    for (i, datanet) in story.datanets.iter().enumerate() {
        let begun = Instant::now();
        let versions = [VersionRows {
            datanet: i as u32,
            version: 1,
            root: [0; 32],
            rows: datanet
                .contributors
                .iter()
                .flat_map(|c| &c.rows)
                .map(|text| Row::new(text, []))
                .collect::<Result<_, _>>()?,
        }];
        let watch = Watch {
            progress,
            cancel: &Cancel::default(),
            checkpoint: None,
            save_every: 0,
        };
        let trained = train_adapter(&base, &versions, &choices, &watch)?;
        let e = &trained.manifest.evaluation;
        println!(
            "{}: {} rows, {} steps (kept {}), {} tokens in {:.1} s; perplexity {:.2} -> {:.2}; exact {}/{} -> {}/{}",
            datanet.kind,
            versions[0].rows.len(),
            trained.manifest.outcome.steps,
            trained.manifest.outcome.kept,
            trained.manifest.outcome.tokens,
            begun.elapsed().as_secs_f64(),
            e.perplexity_before.unwrap_or(f64::NAN),
            e.perplexity_after.unwrap_or(f64::NAN),
            e.exact_before.right,
            e.exact_before.asked,
            e.exact_after.right,
            e.exact_after.asked,
        );
        for miss in e.exact_after.misses.iter().take(5) {
            println!("   {} [{}] {}", miss.question, miss.fact, miss.answer);
        }
        let questions = datanet.contributors.iter().flat_map(|c| &c.questions);
        suites.push(
            questions
                .map(|q| Question {
                    question: q.question.clone(),
                    fact: q.fact.clone(),
                })
                .collect::<Vec<_>>(),
        );
        adapters.push(trained.adapter);
    }
    let lanes = Lanes::new(2)?;
    for (i, suite) in suites.iter().enumerate() {
        let ask = |adapter| exact_match(&lanes, base.model(adapter), &base.encoder, suite);
        println!(
            "story questions of Datanet {i}: right adapter {}/{}, other adapter {}, base alone {}",
            ask(Some(&adapters[i]))?.right,
            suite.len(),
            ask(Some(&adapters[1 - i]))?.right,
            ask(None)?.right,
        );
    }
    Ok(())
}
