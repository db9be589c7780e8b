//! `gpu-selftest`: whether a GPU computes what it should, and how fast.

use crate::cli::GpuSelftestArgs;
use anyhow::{Context, Result};
use openledger_engine::backend::cuda::device::driver::Driver;
use openledger_engine::backend::cuda::device::Device;
use openledger_engine::backend::cuda::selftest::whole::{run as run_plan, Plan};
use std::process::ExitCode;
use std::sync::Arc;

/// Without a GPU, which says nothing about one.
const NO_GPU: u8 = 2;

/// Prints the report. Status 1 when something is wrong, 2 when there is no GPU to test.
pub fn run(args: GpuSelftestArgs) -> Result<ExitCode> {
    let device: Arc<dyn Device> = match Driver::open(args.device) {
        Ok(device) => Arc::new(device),
        Err(error) => {
            eprintln!("no GPU was tested: {error}");
            return Ok(ExitCode::from(NO_GPU));
        }
    };
    let mut plan = Plan::full();
    if args.no_speed {
        plan.speed = None;
    }
    let folder = tempfile::tempdir().context("a folder for the test's files")?;
    let report = run_plan(&device, &plan, folder.path(), &mut |part| {
        eprintln!("{part}");
    });
    print!("{report}");
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(match report.passed() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
