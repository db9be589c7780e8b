//! Trains the base model of `base/recipe.json`: `cargo run --release --example train_base -- OUT`.

use std::path::PathBuf;

use openledger_factory::base::{train_base, Recipe};
use openledger_factory::progress::{Cancel, JsonLines};
use openledger_factory::train::Watch;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    openledger_factory::gradients::one_thread_per_lane();
    let mut args = std::env::args().skip(1);
    let out = PathBuf::from(args.next().ok_or("which folder?")?);
    let recipe = match args.next() {
        Some(path) => std::fs::read_to_string(path)?,
        None => include_str!("../base/recipe.json").to_string(),
    };
    let watch = Watch {
        progress: &JsonLines::new(std::io::stdout()),
        cancel: &Cancel::default(),
        checkpoint: Some(out.join("checkpoint")),
        save_every: 200,
    };
    let outcome = train_base(&Recipe::from_json(&recipe)?, &out, &watch)?;
    println!("{}", serde_json::to_string(&outcome.held_out)?);
    Ok(())
}
