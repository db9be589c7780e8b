//! `train`: fine-tunes a LoRA adapter on sealed versions.

use super::versions::{self, SealedVersion};
use crate::cli::TrainArgs;
use anyhow::{bail, Context, Result};
use openledger_chain::ChainClient;
use openledger_factory::{
    adapter::{gate, train_adapter, Base, Choices, VersionRows},
    gradients::one_thread_per_lane,
    progress::{Cancel, JsonLines, Progress, Terminal},
    train::Watch,
};
use std::fs;

pub async fn run(args: TrainArgs) -> Result<()> {
    one_thread_per_lane();
    let base = Base::load(&args.base)
        .with_context(|| format!("the base model in {}", args.base.display()))?;
    let versions = versions(&args).await?;
    let mut choices = Choices::default();
    choices.lora.r = args.rank;
    choices.lora.alpha = args.alpha;
    choices.lora.seed = args.seed;
    if let Some(steps) = args.steps {
        choices.hyper.schedule.steps = steps;
    }
    let cancel = cancelled_by_interrupt();
    let bar = progress(args.json);
    fs::create_dir_all(&args.out)?;
    let watch = Watch {
        progress: bar.as_ref(),
        cancel: &cancel,
        checkpoint: Some(args.out.join("checkpoint")),
        save_every: args.save_every,
    };
    let trained =
        tokio::task::block_in_place(|| train_adapter(&base, &versions, &choices, &watch))?;
    let evaluation = &trained.manifest.evaluation;
    if let (Some(before), Some(after)) = (evaluation.perplexity_before, evaluation.perplexity_after)
    {
        eprintln!("held-out perplexity: {before:.2} before, {after:.2} after");
    }
    let verdict = gate(&trained.manifest, None);
    if let (Err(error), false) = (&verdict, args.allow_worse) {
        bail!("{error}; --allow-worse writes it all the same");
    }
    trained.adapter.save(&args.out.join("adapter"))?;
    fs::write(args.out.join("manifest.json"), trained.manifest.to_bytes()?)?;
    let evaluation = serde_json::to_vec(&trained.manifest.evaluation)?;
    fs::write(args.out.join("evaluation.json"), evaluation)?;
    eprintln!(
        "adapter in {}, manifest and evaluation beside it",
        args.out.join("adapter").display()
    );
    Ok(())
}

/// Training that is cancelled at Ctrl-C: it writes a checkpoint, and the same command goes on.
pub(super) fn cancelled_by_interrupt() -> Cancel {
    let cancel = Cancel::default();
    let on_interrupt = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_interrupt.cancel();
        }
    });
    cancel
}

/// A bar, or JSON lines on standard output.
pub(super) fn progress(json: bool) -> Box<dyn Progress> {
    if json {
        Box::new(JsonLines::new(std::io::stdout()))
    } else {
        Box::new(Terminal::default())
    }
}

/// The rows of the sealed versions, as the factory takes them.
async fn versions(args: &TrainArgs) -> Result<Vec<VersionRows>> {
    let client = ChainClient::connect(&args.chain.url).await?;
    let store = args.store.open()?;
    let sealed = versions::read(&client, &store, &args.versions).await?;
    let rows_of = |version: SealedVersion| {
        let contributions = version.contributions.iter();
        VersionRows {
            datanet: version.name.datanet,
            version: version.name.version,
            root: version.root,
            rows: contributions
                .flat_map(|(_, rows)| rows.as_slice().to_vec())
                .collect(),
        }
    };
    Ok(sealed.into_iter().map(rows_of).collect())
}
