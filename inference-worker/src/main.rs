//! `openledger-worker`: serves LoRA adapters, meters every answer and settles on chain.

mod api;
mod cli;
mod commands;
mod device;
mod indexing;
mod metrics;
mod serve;
mod storage;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        // Colours are for people: a journal or a file would keep their codes.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let result = match Cli::parse().command {
        Command::GpuSelftest(args) => match commands::gpu_selftest::run(args) {
            Ok(status) => return status,
            Err(error) => Err(error),
        },
        Command::Run(args) => commands::run::run(args).await,
        Command::Serve(args) => commands::serve::run(args).await,
        Command::Join(args) => commands::join::run(args).await,
        Command::Leave(args) => commands::leave::run(args).await,
        Command::Status(args) => commands::status::run(args).await,
        Command::Train(args) => commands::train::run(args).await,
        Command::TrainBase(args) => commands::train_base::run(args).await,
        Command::Index(args) => commands::index::run(args).await,
        // It waits for tokens on this thread, which the runtime must not count on meanwhile.
        Command::Put(args) => tokio::task::block_in_place(|| commands::put::run(args)),
        Command::Quantise(args) => commands::quantise::run(args),
        Command::Generate(args) => tokio::task::block_in_place(|| commands::generate::run(args)),
        Command::VerifyReceipt(args) => commands::verify_receipt::run(args).await,
        Command::Bench(args) => commands::bench::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", whole(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes. Many errors say what their cause is: that is said once.
fn whole(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_should_be_told_of_once() {
        let missing = std::fs::read("/missing/file").unwrap_err();
        let told = missing.to_string();
        let model = openledger_model::ModelError::Io {
            path: "config.json".into(),
            source: missing,
        };
        let error = Err::<(), _>(model).context("the base").unwrap_err();
        assert_eq!(whole(&error), format!("the base: config.json: {told}"));
    }
}
