//! `gpu-selftest`: whether GPUs compute what they should, and how fast.
//!
//! Each stage runs in a process of its own ([`process`]): after an illegal address or a crash nothing works
//! any more in the process that it happened in, and the other stages are to be heard of all the same.

mod gpus;
mod process;

pub use gpus::Gpus;

use crate::cli::GpuSelftestArgs;
use anyhow::{anyhow, Context, Result};
use openledger_engine::backend::cuda::device::driver::Driver;
use openledger_engine::backend::cuda::selftest::report::{Finding, Report};
use openledger_engine::backend::cuda::selftest::stages::{select, Plan, Stage};
use openledger_engine::backend::cuda::selftest::whole::run as run_stages;
use process::Processes;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Without a GPU, which says nothing about one.
const NO_GPU: u8 = 2;

/// How long nothing may be heard of a stage: more than any part of one takes, references on the CPU included.
const SILENCE: Duration = Duration::from_secs(180);

/// Prints what is found as it is found, and the report. Status 1 when something is wrong, 2 when there is no GPU
/// to test.
pub fn run(args: GpuSelftestArgs) -> Result<ExitCode> {
    let mut plan = Plan::full();
    if args.no_speed {
        plan.speed = None;
    }
    if let Some(name) = &args.stage {
        return process::run_stage(&plan, name, &args.device, args.first);
    }
    let stages = select(plan.stages(), &args.only).map_err(|reason| anyhow!(reason))?;
    if args.list {
        for stage in &stages {
            println!("{:<22} {}", stage.name(), stage.about());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let described = args.device.ordinals().and_then(|ordinals| {
        let facts = ordinals.iter().map(|ordinal| Driver::describe(*ordinal));
        Ok((facts.collect::<Result<Vec<_>, _>>()?, ordinals))
    });
    let (facts, ordinals) = match described {
        Ok(described) => described,
        Err(error) => {
            eprintln!("no GPU was tested: {error}");
            return Ok(ExitCode::from(NO_GPU));
        }
    };
    let first = facts.into_iter().next().context("no GPU is named")?;
    let mut report = Report::new(first, ordinals.len());
    // A file that cannot be written is better known before the test than after it.
    write(&report, args.json.as_deref())?;
    let program = std::env::current_exe().context("find this program")?;
    let device = Gpus::Numbers(ordinals).to_string();
    let mut runner = Processes {
        command: Box::new(move |stage: &Stage, first: usize| {
            let mut command = Command::new(&program);
            command.args(["gpu-selftest", "--device", &device]);
            command.args(["--stage", &stage.name(), "--first", &first.to_string()]);
            command
        }),
        silence: SILENCE,
    };
    let budget = args.seconds.map(Duration::from_secs);
    let mut told_of = String::new();
    let mut told = |report: &Report, stage: &str, finding: &Finding| {
        if told_of != stage {
            stage.clone_into(&mut told_of);
            say(&format!("== {stage}"));
        }
        match finding {
            Finding::Begins { name, .. } => eprintln!("{stage}: {name}"),
            _ => {
                say(&finding.to_string());
                if let Err(error) = write(report, args.json.as_deref()) {
                    eprintln!("{error:#}");
                }
            }
        }
    };
    run_stages(&mut report, &stages, budget, &mut runner, &mut told);
    say(&format!("\n{report}"));
    write(&report, args.json.as_deref())?;
    Ok(match report.passed() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Prints a line at once. Whoever reads it may have gone; the report is written all the same.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes the report as it is now, whole or not at all.
fn write(report: &Report, path: Option<&Path>) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let json = serde_json::to_string_pretty(report)?;
    let draft = path.with_extension("draft");
    std::fs::write(&draft, json)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("write {}", path.display()))
}
