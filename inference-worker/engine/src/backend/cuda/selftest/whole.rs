//! The whole self-test of a device or of several: what `openledger-worker gpu-selftest` runs.
//!
//! A stage is a list of parts. What goes wrong in a part is reported, and the next begins; where a device is of
//! no use any more after a part, as after an illegal address, the stage goes on after it with devices that are
//! opened anew, in another process.

use super::fixtures::FIXTURES;
use super::guard::guarded;
use super::on_device::DeviceMachine;
use super::ranks::{self, Divided};
use super::report::{Finding, Outcome, Report, Section, StageRecord};
use super::stages::{Plan, Stage};
use super::subject::{Failure, Mode};
use super::{checks, goldens, head_checks, run_all, speed, Check};
use crate::backend::cuda::device::{Device, Memory, Stream};
use crate::backend::cuda::{Options, Storage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seed of the checks' inputs.
const SEED: u64 = 2026;

/// By how much logits may be off in f32, with the engine's own products.
const EXACT: f32 = 1e-5;

/// By how much with the products of a library, whose order of summing is its own.
const LIBRARY: f32 = 1e-4;

/// By how much in BF16, which has eight bits of mantissa, of the largest logit.
const ROUNDED: f32 = 0.08;

/// The least by which an adapter moves each position.
const EFFECT: f32 = 0.05;

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All parts were run.
    Done,
    /// It broke off in a part, or before the first.
    Broken {
        /// The part that was run last.
        part: Option<usize>,
        /// Why.
        reason: String,
    },
    /// Its time was over.
    Stopped,
}

/// What runs stages.
pub trait Runner {
    /// Runs a stage from part `first` on, for at most `limit`; `found` is told at once what is found.
    fn run(
        &mut self,
        stage: &Stage,
        first: usize,
        limit: Option<Duration>,
        found: &mut dyn FnMut(Finding),
    ) -> Ended;
}

/// Runs stages in this process, on devices that are open; limits of time are not kept within a stage.
pub struct InProcess<'a> {
    /// All devices.
    pub devices: &'a [Arc<dyn Device>],
    /// How much of what is tested.
    pub plan: &'a Plan,
    /// Empty and writable.
    pub folder: &'a Path,
}

impl Runner for InProcess<'_> {
    fn run(
        &mut self,
        stage: &Stage,
        first: usize,
        _: Option<Duration>,
        found: &mut dyn FnMut(Finding),
    ) -> Ended {
        let parts = parts(stage, self.plan, self.devices, self.folder);
        for (number, part) in parts.into_iter().enumerate().skip(first) {
            found(Finding::Begins {
                part: number,
                name: part.name.clone(),
            });
            if let Err(reason) = guarded(|| (part.run)(found)) {
                found(Finding::failure(part.section, part.name, reason));
            }
            let answers = self.devices.iter().try_for_each(answers);
            if let Err(error) = answers {
                return Ended::Broken {
                    part: Some(number),
                    reason: format!("the device is of no use after it: {error}"),
                };
            }
        }
        Ended::Done
    }
}

/// Runs stages one after the other. `told` is called with the report whenever something was found, with the
/// stage's name. Stages that would begin after `budget` are named and left out.
pub fn run(
    report: &mut Report,
    stages: &[Stage],
    budget: Option<Duration>,
    runner: &mut dyn Runner,
    told: &mut dyn FnMut(&Report, &str, &Finding),
) {
    let begin = Instant::now();
    for stage in stages {
        let name = stage.name();
        let started = Instant::now();
        let mut add = |report: &mut Report, finding: Finding| {
            report.add(finding.clone());
            told(report, &name, &finding);
        };
        let left = budget.map(|budget| budget.saturating_sub(begin.elapsed()));
        let state = if stage.is_ranked() && report.devices < 2 {
            let note = format!("{name}: skipped: one device");
            add(report, Finding::Note(note));
            "skipped"
        } else if left.is_some_and(|left| left.is_zero()) {
            let note = format!("{name}: skipped: no time was left");
            add(report, Finding::Note(note));
            "skipped"
        } else {
            let until = budget.map(|budget| begin + budget);
            run_stage(stage, until, runner, &mut |finding| add(report, finding))
        };
        report.stages.push(StageRecord {
            name,
            state,
            seconds: started.elapsed().as_secs_f64(),
        });
    }
}

/// Runs a stage to its end, again and again after the parts in which it breaks off.
fn run_stage(
    stage: &Stage,
    until: Option<Instant>,
    runner: &mut dyn Runner,
    found: &mut dyn FnMut(Finding),
) -> &'static str {
    let name = stage.name();
    let mut first = 0;
    loop {
        let mut last = None;
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()));
        let ended = runner.run(stage, first, limit, &mut |finding| {
            if let Finding::Begins { name, .. } = &finding {
                last = Some(name.clone());
            }
            found(finding);
        });
        let within = last.map_or_else(|| name.clone(), |part| format!("{name}: {part}"));
        match ended {
            Ended::Done => return "done",
            Ended::Stopped => {
                found(Finding::Note(format!(
                    "{within}: stopped: its time was over"
                )));
                return "stopped";
            }
            Ended::Broken { part, reason } => {
                found(Finding::failure(Section::Broken, within, reason));
                match part {
                    // Whoever breaks off again and again gets on by a part each time.
                    Some(part) if part >= first => first = part + 1,
                    _ => return "broken",
                }
            }
        }
    }
}

/// Whether a device still does what it is asked.
fn answers(device: &Arc<dyn Device>) -> Result<(), Failure> {
    device.synchronize(Stream::Copy)?;
    let memory = Memory::of(device, &[1u32, 2, 3])?;
    let mut back = [0u32; 3];
    memory.read(Stream::Compute, 0, &mut back)?;
    match back {
        [1, 2, 3] => Ok(()),
        _ => Err("it gives back other bytes than it was given".into()),
    }
}

/// A part of a stage.
struct Part<'a> {
    name: String,
    section: Section,
    run: Run<'a>,
}

type Run<'a> = Box<dyn FnOnce(&mut dyn FnMut(Finding)) -> Result<(), Failure> + 'a>;

impl<'a> Part<'a> {
    fn new(
        section: Section,
        name: String,
        run: impl FnOnce(&mut dyn FnMut(Finding)) -> Result<(), Failure> + 'a,
    ) -> Self {
        Self {
            name,
            section,
            run: Box::new(run),
        }
    }

    /// A part that finds one thing, and whether that is right.
    fn one(
        section: Section,
        name: String,
        run: impl FnOnce() -> Result<(String, bool), Failure> + 'a,
    ) -> Self {
        let part = name.clone();
        Self::new(section, name, move |found| {
            let (text, passed) = run()?;
            let outcome = Outcome {
                part,
                found: text,
                passed,
            };
            found(Finding::Outcome(section, outcome));
            Ok(())
        })
    }
}

/// The parts of a stage. Without a device there are none.
fn parts<'a>(
    stage: &Stage,
    plan: &'a Plan,
    devices: &'a [Arc<dyn Device>],
    folder: &'a Path,
) -> Vec<Part<'a>> {
    let Some(device) = devices.first() else {
        return Vec::new();
    };
    match *stage {
        Stage::Compile => compile_parts(plan, device),
        Stage::Kernels(options) => kernel_parts(options, plan, device),
        Stage::Goldens(mode) => golden_parts(mode, devices, folder),
        Stage::RankedSums => sum_parts(plan, devices),
        Stage::RankedModels => model_parts(plan, devices, folder),
        Stage::RankedSpeed => {
            let part = |(ranks, scale): (usize, &'a _)| {
                Part::new(Section::Broken, format!("{ranks} ranks"), move |found| {
                    ranks::measure(&devices[..ranks], scale, found)
                })
            };
            let sizes = ranks::sizes(devices.len()).into_iter();
            let scales = sizes.filter_map(|ranks| Some((ranks, plan.speed.as_ref()?)));
            scales.map(part).collect()
        }
        Stage::Speed(what) => {
            let part = |scale: &'a _| {
                Part::new(Section::Broken, what.name().to_owned(), move |found| {
                    speed::measure(device, scale, what, folder, found)
                })
            };
            plan.speed.iter().map(part).collect()
        }
    }
}

fn compile_parts<'a>(plan: &'a Plan, device: &'a Arc<dyn Device>) -> Vec<Part<'a>> {
    let part = |options: &'a Options| {
        let name = format!("{:?}, heads of {}", options.storage, options.head_dim);
        let kind = name.clone();
        Part::new(Section::Compiled, name, move |found| {
            for (file, loaded) in device.load_each(options) {
                let outcome = Outcome {
                    part: format!("{file}, {kind}"),
                    passed: loaded.is_ok(),
                    found: match loaded {
                        Ok(()) => "compiled".to_owned(),
                        Err(error) => error.to_string(),
                    },
                };
                found(Finding::Outcome(Section::Compiled, outcome));
            }
            Ok(())
        })
    };
    plan.heads.iter().map(part).collect()
}

fn kernel_parts<'a>(
    options: Options,
    plan: &'a Plan,
    device: &'a Arc<dyn Device>,
) -> Vec<Part<'a>> {
    // The others do not depend on the width of a head.
    let seen = plan.heads.iter().find(|o| o.storage == options.storage);
    let checks = match seen.is_none_or(|first| *first == options) {
        true => checks(&options, plan.extent),
        false => head_checks(&options, plan.extent),
    };
    let mut by_kernel: BTreeMap<&str, Vec<Check>> = BTreeMap::new();
    for check in checks {
        by_kernel.entry(check.kernel).or_default().push(check);
    }
    let part = |(kernel, checks): (&str, Vec<Check>)| {
        let heads = format!("{:?}, heads of {}", options.storage, options.head_dim);
        Part::one(Section::Kernels, format!("{kernel}, {heads}"), move || {
            check_kernel(device, &options, &checks)
        })
    };
    by_kernel.into_iter().map(part).collect()
}

/// Runs a kernel's checks, all of them unless the device fails.
fn check_kernel(
    device: &Arc<dyn Device>,
    options: &Options,
    checks: &[Check],
) -> Result<(String, bool), Failure> {
    let mut machine = DeviceMachine::new(Arc::clone(device), options)?;
    run_all(checks, &mut machine, options.storage, SEED)
}

/// By how much logits may be off; in BF16 of the largest.
fn tolerance(mode: Mode) -> f32 {
    match (mode.storage, mode.deterministic) {
        (Storage::F32, true) => EXACT,
        (Storage::F32, false) => LIBRARY,
        (Storage::Bf16, _) => ROUNDED,
    }
}

fn golden_parts<'a>(mode: Mode, devices: &'a [Arc<dyn Device>], folder: &'a Path) -> Vec<Part<'a>> {
    let products = if mode.deterministic { "own" } else { "library" };
    let part = |fixture: &'a super::fixtures::Fixture| {
        let name = format!("{}, {:?}, {products} products", fixture.model, mode.storage);
        Part::one(Section::Goldens, name, move || {
            let found = goldens::compute(&devices[..1], fixture, mode, folder)?;
            let bar = match mode.storage {
                Storage::F32 => tolerance(mode),
                Storage::Bf16 => tolerance(mode) * found.largest,
            };
            let text = format!(
                "{} logits off by at most {:.1e} (bar {bar:.0e}); adapters move each position by {:.2} or \
                 more",
                found.logits.len(),
                found.error,
                found.effect
            );
            Ok((text, found.error <= bar && found.effect >= EFFECT))
        })
    };
    FIXTURES.iter().map(part).collect()
}

fn sum_parts<'a>(plan: &'a Plan, devices: &'a [Arc<dyn Device>]) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    for ranks in ranks::sizes(devices.len()) {
        for storage in [Storage::F32, Storage::Bf16] {
            let name = format!("sums over {ranks} ranks, {storage:?}");
            let part = name.clone();
            parts.push(Part::new(Section::Ranks, name, move |found| {
                ranks::check_sums(&devices[..ranks], storage, plan.extent, &part, found)
            }));
        }
    }
    parts
}

fn model_parts<'a>(
    plan: &'a Plan,
    devices: &'a [Arc<dyn Device>],
    folder: &'a Path,
) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    for ranks in ranks::sizes(devices.len()) {
        for storage in [Storage::F32, Storage::Bf16] {
            for model in Divided::all() {
                let name = format!("{}, {ranks} ranks, {storage:?}", model.name());
                if let Some(refusal) = model.refusal(ranks) {
                    let note = format!("{name}: skipped: {refusal}");
                    parts.push(Part::new(Section::Ranks, name, move |found| {
                        found(Finding::Note(note));
                        Ok(())
                    }));
                    continue;
                }
                let mode = Mode {
                    storage,
                    // The sums of more than two GPUs are not what this mode promises.
                    deterministic: !plan.library || (ranks == 2 && storage == Storage::F32),
                    tensor_cores: plan.library,
                };
                parts.push(Part::one(Section::Ranks, name, move || {
                    let devices = &devices[..ranks];
                    ranks::check_model(devices, &model, mode, tolerance(mode), folder)
                }));
            }
        }
    }
    parts
}
