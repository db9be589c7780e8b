//! `bench`: the engine's ratios, interleaved in this process.

use crate::cli::BenchArgs;
use anyhow::Result;
use openledger_engine::bench::{run as run_bench, BenchOptions};

pub fn run(args: BenchArgs) -> Result<()> {
    let options = BenchOptions {
        repeats: args.repeats,
        ..BenchOptions::default()
    };
    let report = run_bench(options, |next| eprintln!("{next} ..."))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
