//! Measures the engine's bars alone: `cargo run --release -p openledger-engine --example bench`. All of the
//! bench is `openledger-worker bench engine`.

use openledger_engine::bench::bars;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bars = bars::run(bars::BarOptions::default(), |what| eprintln!("{what}"))?;
    println!("{bars}");
    println!("{}", serde_json::to_string(&bars)?);
    Ok(())
}
