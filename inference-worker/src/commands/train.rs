//! `train`: fine-tunes a LoRA adapter on sealed versions.

use crate::cli::TrainArgs;
use anyhow::{bail, Context, Result};
use openledger_factory::{
    adapter::{gate, train_adapter, Base, Choices, VersionRows},
    gradients::one_thread_per_lane,
    progress::{Cancel, JsonLines, Progress, Terminal},
    train::Watch,
};
use openledger_primitives::Digest;
use std::fs;

pub fn run(args: TrainArgs) -> Result<()> {
    one_thread_per_lane();
    let base = Base::load(&args.base)
        .with_context(|| format!("the base model in {}", args.base.display()))?;
    let versions = versions(&args.versions)?;
    let mut choices = Choices::default();
    choices.lora.r = args.rank;
    choices.lora.alpha = args.alpha;
    choices.lora.seed = args.seed;
    if let Some(steps) = args.steps {
        choices.hyper.schedule.steps = steps;
    }
    let cancel = Cancel::default();
    let on_interrupt = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_interrupt.cancel();
        }
    });
    let bar: Box<dyn Progress> = if args.json {
        Box::new(JsonLines::new(std::io::stdout()))
    } else {
        Box::new(Terminal::default())
    };
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
        bail!("{error}; publish it all the same with --allow-worse");
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

/// Reads `DATANET:VERSION:ROOT:ROWS_FILE`; several files of one version follow one another.
fn versions(specs: &[String]) -> Result<Vec<VersionRows>> {
    let mut versions: Vec<VersionRows> = Vec::new();
    for spec in specs {
        let parts: Vec<&str> = spec.splitn(4, ':').collect();
        let [datanet, version, root, file] = parts[..] else {
            bail!("`{spec}` is not DATANET:VERSION:ROOT:ROWS_FILE");
        };
        let root: Option<Digest> = hex::decode(root.trim_start_matches("0x"))
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let datanet = datanet
            .parse()
            .with_context(|| format!("the Datanet in `{spec}`"))?;
        let version = version
            .parse()
            .with_context(|| format!("the version in `{spec}`"))?;
        let text = fs::read_to_string(file).with_context(|| format!("the rows in {file}"))?;
        let rows = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned);
        match versions
            .iter_mut()
            .find(|known| (known.datanet, known.version) == (datanet, version))
        {
            Some(known) => known.rows.extend(rows),
            None => versions.push(VersionRows {
                datanet,
                version,
                root: root.with_context(|| format!("the version's root in `{spec}`"))?,
                rows: rows.collect(),
            }),
        }
    }
    Ok(versions)
}
