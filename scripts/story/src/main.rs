//! The story of the README as a program that drives real processes: a node, a worker, a gateway,
//! and the people who use them. `scripts/run` and the end-to-end tests are this one program.

mod acts;
mod ask;
mod cast;
mod narrator;
mod processes;
mod scene;
mod trials;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

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
    /// Tell the story, then try to break it: swapped adapters, a killed worker.
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
    match perform(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe story ends badly: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(command: Command) -> Result<()> {
    match command {
        Command::Run { once, options } => {
            let told = acts::tell(&options).await?;
            if !once {
                told.scene.invite();
                tokio::signal::ctrl_c().await?;
            }
            told.scene.close().await;
            Ok(())
        }
        Command::Test { options } => {
            let mut told = acts::tell(&options).await?;
            let passed = trials::all(&mut told).await?;
            told.scene.close().await;
            println!("\n{passed} passed, 0 failed");
            Ok(())
        }
    }
}
