//! Several loads on one engine, taking turns.

use super::drive::drive;
use super::fleet::{forget, Member};
use super::measured::Measured;
use super::workload::{Asked, Pace, Start, Workload};
use super::BenchError;
use crate::adapters::AdapterId;
use crate::engine::EngineHandle;
use crate::stats::EngineStats;
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// Adapters that are asked for at once when a run's are warmed.
const WARMED_AT_ONCE: usize = 16;

/// The longest that an engine may take from its last token to being idle.
const SETTLING: Duration = Duration::from_secs(10);

/// One load and what its runs came to.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The load.
    pub workload: Workload,
    /// Its runs.
    pub runs: Vec<Measured>,
    /// The median of each figure.
    pub median: Measured,
}

/// Runs each load `repeats` times, all of them once before any twice. `members` are the adapters that are
/// asked for, most popular first; the engine knows them and as many others as the loads call for.
///
/// # Errors
/// When a load has no meaning for the engine, or the engine refuses what it should take.
pub fn run(
    engine: &EngineHandle,
    workloads: &[Workload],
    members: &[Member],
    mut progress: impl FnMut(&str),
) -> Result<Vec<Point>, BenchError> {
    let repeats = workloads.iter().map(|w| w.repeats).max().unwrap_or(0);
    let mut runs = vec![Vec::new(); workloads.len()];
    for workload in workloads {
        workload.validate(engine.context())?;
        if members.len() < workload.distinct {
            return Err(BenchError::Workload(format!(
                "{} adapters are asked for, {} are there",
                workload.distinct,
                members.len()
            )));
        }
    }
    for repeat in 0..repeats {
        for (workload, runs) in workloads.iter().zip(&mut runs) {
            if repeat >= workload.repeats {
                continue;
            }
            progress(&format!("{workload}, run {} of {repeats}", repeat + 1));
            runs.push(one(engine, workload, members, repeat)?);
        }
    }
    Ok(workloads
        .iter()
        .zip(runs)
        .map(|(workload, runs)| Point {
            workload: workload.clone(),
            median: Measured::median(&runs),
            runs,
        })
        .collect())
}

fn one(
    engine: &EngineHandle,
    workload: &Workload,
    members: &[Member],
    run: usize,
) -> Result<Measured, BenchError> {
    let plan = workload.plan(run, engine.config().vocab_size)?;
    let active = members.get(..workload.distinct).unwrap_or(members);
    let ids: Vec<AdapterId> = active.iter().map(|m| m.id).collect();
    if workload.start == Start::Cold {
        forget(engine, members)?;
        active.iter().try_for_each(Member::drop_pages)?;
    }
    // Once through in either case, so that the first request does not pay for the process's own start.
    let warmed = match workload.start {
        Start::Warm => &ids[..],
        Start::Cold => &[],
    };
    warm(engine, warmed)?;
    let before = settled(engine)?;
    let (records, took) = drive(engine, workload.pace, &plan, &ids, before.steps)?;
    let after = settled(engine)?;
    Ok(Measured::of(&records, took, &before, &after))
}

/// Asks for the base model once and then for each adapter, the first last.
fn warm(engine: &EngineHandle, adapters: &[AdapterId]) -> Result<(), BenchError> {
    let one = |adapter| Asked {
        due: None,
        adapter,
        prompt: vec![0; 2],
        output: 2,
    };
    let plan: Vec<Asked> = std::iter::once(None)
        .chain((0..adapters.len()).rev().map(Some))
        .map(one)
        .collect();
    let pace = Pace::Closed {
        clients: WARMED_AT_ONCE,
    };
    drive(engine, pace, &plan, adapters, engine.stats().steps)?;
    Ok(())
}

/// The engine's counts once it is idle: they follow the last token by a moment.
pub(super) fn settled(engine: &EngineHandle) -> Result<EngineStats, BenchError> {
    let until = Instant::now() + SETTLING;
    loop {
        let stats = engine.stats();
        if stats.running == 0 && stats.waiting == 0 {
            return Ok(stats);
        }
        if Instant::now() > until {
            return Err(BenchError::Request(
                "the engine still busy after all answers".to_owned(),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pace {
            Pace::Closed { clients } => write!(f, "{clients} clients")?,
            Pace::Open { rate } => write!(f, "{rate} requests/s")?,
        }
        let span = |l: super::Lengths| {
            if l.min == l.max {
                l.min.to_string()
            } else {
                format!("{}-{}", l.min, l.max)
            }
        };
        write!(
            f,
            ", {} requests of {} + {} tokens, {} of {} adapters ",
            self.requests,
            span(self.prompt),
            span(self.output),
            self.distinct,
            self.registered
        )?;
        match self.choice {
            super::Choice::Uniform => write!(f, "uniform")?,
            super::Choice::Zipf(s) => write!(f, "Zipf {s}")?,
        }
        if self.base_share > 0.0 {
            write!(f, ", base {:.0} %", self.base_share * 100.0)?;
        }
        match self.start {
            Start::Warm => write!(f, ", warm"),
            Start::Cold => write!(f, ", cold"),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}; medians of {} runs, seed {}",
            self.workload,
            self.runs.len(),
            self.workload.seed
        )?;
        write!(f, "{}", self.median)
    }
}
