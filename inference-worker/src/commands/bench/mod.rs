//! `bench`: the engine's ratios, interleaved in this process, and what batches weigh.

mod batches;

use crate::cli::BenchArgs;
use anyhow::Result;
use openledger_chain::ChainClient;
use openledger_engine::bench::{run as run_engine, BenchOptions};
use serde_json::json;

pub async fn run(args: BenchArgs) -> Result<()> {
    let options = BenchOptions {
        repeats: args.repeats,
        ..BenchOptions::default()
    };
    let engine =
        tokio::task::block_in_place(|| run_engine(options, |next| eprintln!("{next} ...")))?;
    let node = match &args.chain {
        Some(url) => Some(ChainClient::connect(url).await?),
        None => None,
    };
    let batches = batches::measure(node.as_ref()).await?;
    if args.json {
        let report = json!({ "engine": engine, "batches": batches });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{engine}\n{batches}");
    }
    Ok(())
}
