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
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Nothing was tested, which says nothing about a GPU.
const UNTESTED: u8 = 2;

/// How long nothing may be heard of a stage: more than any part of one takes, references on the CPU included.
const SILENCE: Duration = Duration::from_secs(180);

/// How long the process of a stage that has ended may take to end, a driver's own clearing up included.
const GRACE: Duration = Duration::from_secs(10);

/// Prints what is found as it is found, and the report. Status 1 when something is wrong, 2 when nothing was
/// tested.
pub fn run(args: GpuSelftestArgs) -> Result<ExitCode> {
    let mut plan = Plan::full();
    if args.no_speed {
        plan.speed = None;
    }
    if let Some(name) = &args.stage {
        let folder = args.folder.as_deref();
        let folder = folder.context("--stage takes --folder: leave both to the test itself")?;
        return process::run_stage(&plan, name, &args.device, args.first, folder);
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
            return Ok(ExitCode::from(UNTESTED));
        }
    };
    let first = facts.into_iter().next().context("no GPU is named")?;
    let mut report = Report::new(first, ordinals.len());
    // A file that cannot be written is better known before the test than after it.
    write(&report, args.json.as_deref())?;
    let program = std::env::current_exe().context("find this program")?;
    let device = Gpus::Numbers(ordinals).to_string();
    let mut runner = Processes {
        command: Box::new(move |stage: &Stage, first: usize, folder: &Path| {
            let mut command = Command::new(&program);
            command.args(["gpu-selftest", "--device", &device]);
            command.args(["--stage", &stage.name(), "--first", &first.to_string()]);
            command.arg("--folder").arg(folder);
            command
        }),
        silence: SILENCE,
        grace: GRACE,
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
    Ok(match (report.passed(), report.is_tested()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => {
            eprintln!("nothing was tested: the notes say why");
            ExitCode::from(UNTESTED)
        }
        (false, _) => ExitCode::FAILURE,
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
    let json = serde_json::to_string_pretty(report)? + "\n";
    replace(path, json.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// Puts a file in the place of another. What is there and is no plain file, as a pipe or a link, is written to
/// as it is.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return std::fs::write(path, bytes);
    }
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    // Read by others as any file is: it is no secret.
    let permissions = Permissions::from_mode(0o666);
    let mut draft = tempfile::Builder::new()
        .permissions(permissions)
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_should_take_the_place_of_a_file_and_be_written_to_what_is_none() {
        let folder = tempfile::tempdir().unwrap();
        // A file of the user's that is named as a draft might be.
        let other = folder.path().join("report.draft");
        std::fs::write(&other, "mine").unwrap();
        let path = folder.path().join("report.json");
        for text in ["first", "second"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, b"third").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third");
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        replace(Path::new("/dev/null"), b"gone").unwrap();
        let nowhere = folder.path().join("none").join("report.json");
        assert!(replace(&nowhere, b"").is_err());
    }
}
