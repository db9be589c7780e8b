//! `bench`: what the engine does under a load, what batches weigh, what models cost.

pub mod args;
mod cost;
mod engine;
mod plot;
mod rounds;
mod settlement;

use anyhow::Result;
use args::{Bench, BenchArgs};

pub async fn run(args: BenchArgs) -> Result<()> {
    match args.what {
        // These compute and wait on this thread, which the runtime must not count on meanwhile.
        Bench::Engine(args) => tokio::task::block_in_place(|| engine::run(&args)),
        Bench::Rounds(args) => tokio::task::block_in_place(|| rounds::run(&args)),
        Bench::Cost(args) => cost::run(&args),
        Bench::Settlement(args) => settlement::run(args).await,
    }
}
