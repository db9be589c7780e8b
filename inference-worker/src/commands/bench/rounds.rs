//! `bench rounds`: batches of requests on demand, a JSON line each way.
//!
//! The first line out says what answers: backend and adapters. Then, for each line in, a list of requests,
//! one line out: seconds and tokens. It ends with its input.

use super::args::RoundsArgs;
use anyhow::{Context, Result};
use openledger_engine::bench::rounds::{RoundRequest, Rounds};
use serde_json::json;
use std::io::{BufRead, Write};

pub fn run(args: &RoundsArgs) -> Result<()> {
    let mut rounds = Rounds::open(&args.base, &args.adapters, args.threads)?;
    let mut out = std::io::stdout().lock();
    let adapters = rounds.adapters().count();
    let hello = json!({ "backend": rounds.backend(), "adapters": adapters });
    writeln!(out, "{hello}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let requests: Vec<RoundRequest> =
            serde_json::from_str(&line?).context("a line is not a list of requests")?;
        writeln!(out, "{}", serde_json::to_string(&rounds.ask(&requests)?)?)?;
        out.flush()?;
    }
    Ok(())
}
