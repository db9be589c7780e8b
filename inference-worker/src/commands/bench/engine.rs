//! `bench engine`: the bars, a load, thousands of registered adapters.

use super::args::{EngineBenchArgs, Part};
use super::plot;
use anyhow::{Context, Result};
use openledger_engine::backend::cpu::CpuBackend;
use openledger_engine::bench::bars::{self, BarOptions, Bars};
use openledger_engine::bench::fleet::{self, Adapted, Member, Sites};
use openledger_engine::bench::machine::{resident_bytes, Machine};
use openledger_engine::bench::registered::{self, RegisteredReport};
use openledger_engine::bench::sweep::{self, Point};
use openledger_engine::{Engine, EngineOptions, Request};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// What adapters change that are registered and not asked for.
const OTHERS: Adapted = Adapted {
    rank: 4,
    sites: Sites::QueryValue,
};

/// Everything measured.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    bars: Option<Bars>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<LoadReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registered: Option<RegisteredReport>,
}

/// The load's part.
#[derive(Serialize)]
struct LoadReport {
    model: String,
    backend: String,
    adapted: Adapted,
    threads: Option<usize>,
    max_batch: usize,
    queue: usize,
    device_bytes: usize,
    host_bytes: usize,
    /// Bytes of all adapters' files.
    files_bytes: u64,
    /// Growth of this process from before the weights were there to the base model's first answer.
    model_process_bytes: Option<u64>,
    points: Vec<Point>,
}

pub fn run(args: &EngineBenchArgs) -> Result<()> {
    let machine = Machine::here();
    println!("{machine}");
    let progress = |what: &str| eprintln!("{what} ...");
    let mut report = Report {
        machine,
        bars: None,
        load: None,
        registered: None,
    };
    // First, while the process holds nothing else: its growth is the model's.
    if args.wants(Part::Load) {
        let dir = folder(args)?;
        let load = load(args, dir.path(), progress)?;
        println!("\n{}; {}", load.model, load.backend);
        for point in &load.points {
            println!("{point}");
        }
        if let Some(file) = &args.plot {
            plot::draw(file, &load.points)?;
        }
        report.load = Some(load);
    }
    if args.wants(Part::Bars) {
        let options = BarOptions {
            repeats: args.repeats,
            seed: args.seed,
            threads: args.threads,
        };
        let bars = bars::run(options, progress)?;
        println!("\n{bars}");
        report.bars = Some(bars);
    }
    if args.wants(Part::Registered) {
        let options = registered::Options {
            shape: args.shape(),
            registered: args.registered.unwrap_or(10_000),
            adapted: args.adapted(),
            others: OTHERS,
            repeats: args.repeats,
            seed: args.seed,
            threads: args.threads,
            ..registered::Options::default()
        };
        let dir = folder(args)?;
        let registered = registered::run(&options, dir.path(), progress)?;
        println!("\n{registered}");
        report.registered = Some(registered);
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}

/// A folder for adapters, gone when it is dropped.
fn folder(args: &EngineBenchArgs) -> Result<tempfile::TempDir> {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new()
        .prefix("openledger-bench-")
        .tempdir_in(&parent)
        .with_context(|| format!("no folder can be made in {}", parent.display()))
}

fn load(args: &EngineBenchArgs, dir: &Path, progress: impl Fn(&str)) -> Result<LoadReport> {
    let workloads = args.workloads();
    let distinct = workloads.iter().map(|w| w.distinct).max().unwrap_or(0);
    let registered = workloads.iter().map(|w| w.registered).max().unwrap_or(0);
    let shape = args.shape();
    let config = shape.config()?;
    for workload in &workloads {
        workload.validate(config.max_position_embeddings)?;
    }
    progress(&format!("load: writing {registered} adapters"));
    let members = fleet::write(
        &dir.join("asked-for"),
        &config,
        args.adapted(),
        0..distinct,
        args.seed,
    )?;
    let others = fleet::write(
        &dir.join("others"),
        &config,
        OTHERS,
        distinct..registered,
        args.seed,
    )?;
    let before = resident_bytes();
    let page_bytes = CpuBackend::page_bytes_of(&config).max(1);
    let pages = args.device_memory.map(|mib| (mib << 20) / page_bytes);
    let engine = Engine::start(
        &config,
        shape.base(&config, args.seed)?,
        EngineOptions {
            threads: args.threads,
            arena_pages: pages.map(u32::try_from).transpose()?,
            max_running: args.max_batch,
            max_step_rows: EngineOptions::default()
                .max_step_rows
                .max(2 * args.max_batch),
            max_requests: args.queue,
            max_tenant_requests: args.queue,
            host_bytes: args.host_memory << 20,
            batch_window: Duration::ZERO,
            ..EngineOptions::default()
        },
    )?;
    let first = engine.submit(Request::new(vec![0; 16], 2))?;
    first.blocking_collect().context("the engine stopped")?.1?;
    let model_process_bytes = before
        .zip(resident_bytes())
        .map(|(before, after)| after.saturating_sub(before));
    let all: Vec<&Member> = members.iter().chain(&others).collect();
    all.iter().try_for_each(|m| m.register(&engine))?;
    let points = sweep::run(&engine, &workloads, &members, |what| {
        progress(&format!("load: {what}"));
    })?;
    let stats = engine.stats();
    Ok(LoadReport {
        model: shape.describe(&config),
        backend: engine.backend().to_owned(),
        adapted: args.adapted(),
        threads: args.threads,
        max_batch: args.max_batch,
        queue: args.queue,
        device_bytes: stats.pages_total * stats.page_bytes,
        host_bytes: args.host_memory << 20,
        files_bytes: all.iter().map(|m| m.bytes).sum(),
        model_process_bytes,
        points,
    })
}
