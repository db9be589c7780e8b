//! `train-base`: trains a small base model from its recipe.

use super::train::{cancelled_by_interrupt, progress};
use crate::cli::TrainBaseArgs;
use anyhow::{Context, Result};
use openledger_factory::{
    base::{train_base, Recipe},
    gradients::one_thread_per_lane,
    train::Watch,
};
use std::fs;

pub async fn run(args: TrainBaseArgs) -> Result<()> {
    one_thread_per_lane();
    let path = &args.recipe;
    let recipe =
        fs::read_to_string(path).with_context(|| format!("the recipe in {}", path.display()))?;
    let recipe =
        Recipe::from_json(&recipe).with_context(|| format!("the recipe in {}", path.display()))?;
    fs::create_dir_all(&args.out)?;
    let cancel = cancelled_by_interrupt();
    let bar = progress(args.json);
    let watch = Watch {
        progress: bar.as_ref(),
        cancel: &cancel,
        checkpoint: Some(args.out.join("checkpoint")),
        save_every: args.save_every,
    };
    let outcome = tokio::task::block_in_place(|| train_base(&recipe, &args.out, &watch))?;
    eprintln!("base model in {}", args.out.display());
    let kept = outcome.held_out.iter().find(|(s, _)| *s == outcome.kept);
    if let Some((step, loss)) = kept {
        eprintln!("held-out perplexity after step {step}: {:.2}", loss.exp());
    }
    Ok(())
}
