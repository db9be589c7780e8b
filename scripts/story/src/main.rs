//! The story of the README as a program that drives real processes: a node, a worker, a gateway,
//! and the people who use them. `scripts/run` and the end-to-end tests are this one program.

mod acts;
mod ask;
mod cast;
mod footprint;
mod javascript;
mod narrator;
mod processes;
mod scene;
mod signals;
mod trials;

use anyhow::{bail, Result};
use clap::{Args, Parser, Subcommand};
use signals::asked_to_end;
use std::{future::Future, path::PathBuf, process::ExitCode};

/// Tells the story of OpenLedger with real processes.
#[derive(Debug, Parser)]
#[command(name = "openledger-story", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell the story, then stay up until Ctrl-C.
    Run {
        /// End after the story.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Tell the story, then try to break it: swapped adapters, a killed worker, other clients.
    Test {
        #[command(flatten)]
        options: Options,
    },
}

/// What both need.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Seed of the invented facts; drawn when absent.
    #[arg(long, env = "OPENLEDGER_STORY_SEED")]
    seed: Option<u64>,
    /// Folder of the programs; beside this one when absent.
    #[arg(long, env = "OPENLEDGER_BIN")]
    bin: Option<PathBuf>,
    /// Folder of the base model.
    #[arg(long, default_value = "inference-worker/factory/base")]
    base: PathBuf,
    /// Folder for chain, stores, keys and logs; a temporary one when absent.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let command = Cli::parse().command;
    let (Command::Run { options, .. } | Command::Test { options }) = &command;
    let seed = options
        .seed
        .unwrap_or_else(|| rand::random_range(0..1_000_000));
    match perform(command, seed).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe story ends badly: {error:#}");
            eprintln!("OPENLEDGER_STORY_SEED={seed} tells the same one again.");
            ExitCode::FAILURE
        }
    }
}

async fn perform(command: Command, seed: u64) -> Result<()> {
    match command {
        Command::Run { once, options } => {
            let mut told = to_the_end(acts::tell(&options, seed)).await?;
            if !once {
                told.scene.invite();
                tokio::select! {
                    // Ctrl-C reaches the programs too: that they end then is no news.
                    biased;
                    asked = asked_to_end() => println!("\n{}: everything ends.", asked?),
                    ended = told.scene.watch() => return ended,
                }
            }
            told.scene.close().await;
            Ok(())
        }
        Command::Test { options } => {
            to_the_end(async {
                let mut told = acts::tell(&options, seed).await?;
                let passed = trials::all(&mut told).await?;
                told.scene.close().await;
                println!("\n{passed} passed, 0 failed");
                Ok(())
            })
            .await
        }
    }
}

/// Performs, unless asked to end before; whatever runs then ends with what is dropped here.
async fn to_the_end<T>(performance: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        asked = asked_to_end() => bail!("{} came before the end", asked?),
        told = performance => told,
    }
}
