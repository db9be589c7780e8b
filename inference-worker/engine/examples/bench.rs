//! Runs the engine's bench: `cargo run --release -p openledger-engine --example bench`.

use openledger_engine::bench;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let report = bench::run(bench::BenchOptions::default(), |what| eprintln!("{what}"))?;
    println!("{report}");
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
