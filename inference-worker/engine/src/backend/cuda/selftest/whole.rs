//! The whole self-test of a device: what `openledger-worker gpu-selftest` runs.

use super::fixtures::FIXTURES;
use super::on_device::DeviceMachine;
use super::report::{Outcome, Report};
use super::speed::{self, Scale};
use super::{checks, goldens, head_checks, Check, Extent};
use crate::backend::cuda::device::Device;
use crate::backend::cuda::{Options, Storage};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;

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

/// What to test, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How large the shapes of the kernels' checks are.
    pub extent: Extent,
    /// Heads of these widths, by storage.
    pub heads: Vec<Options>,
    /// Whether the device has a library of matrix products, and tensor cores.
    pub library: bool,
    /// What is measured; none for nothing.
    pub speed: Option<Scale>,
}

impl Plan {
    /// Everything, at the shapes of an 8B model.
    pub fn full() -> Self {
        let options = |storage, head_dim| Options { storage, head_dim };
        Self {
            extent: Extent::Full,
            heads: vec![
                options(Storage::Bf16, 128),
                options(Storage::F32, 128),
                options(Storage::Bf16, 64),
                options(Storage::F32, 64),
                options(Storage::Bf16, 80),
                options(Storage::Bf16, 256),
            ],
            library: true,
            speed: Some(Scale::llama_8b()),
        }
    }
}

/// Runs a plan. What fails is reported, and the rest goes on. `folder` is empty and writable; `progress`
/// is told what begins.
pub fn run(
    device: &Arc<dyn Device>,
    plan: &Plan,
    folder: &Path,
    progress: &mut dyn FnMut(&str),
) -> Report {
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        device: device.facts().clone(),
        kernels: Vec::new(),
        goldens: Vec::new(),
        broken: Vec::new(),
        figures: Vec::new(),
    };
    for (number, options) in plan.heads.iter().enumerate() {
        progress(&format!("kernels, {options:?}"));
        // The others do not depend on the width of a head.
        let seen = plan.heads.iter().take(number);
        let all = seen.into_iter().all(|o| o.storage != options.storage);
        let checks = match all {
            true => checks(options, plan.extent),
            false => head_checks(options, plan.extent),
        };
        report.kernels.extend(kernels(device, options, &checks));
    }
    let mut modes = vec![(Storage::F32, true, EXACT), (Storage::Bf16, true, ROUNDED)];
    if plan.library {
        modes.push((Storage::F32, false, LIBRARY));
        modes.push((Storage::Bf16, false, ROUNDED));
    }
    for (storage, deterministic, tolerance) in modes {
        for fixture in FIXTURES {
            let products = if deterministic { "own" } else { "library" };
            let part = format!("{}, {storage:?}, {products} products", fixture.model);
            progress(&part);
            let mode = (deterministic, plan.library);
            let found = guarded(|| goldens::compute(device, fixture, storage, mode, folder));
            report.goldens.push(match found {
                Ok(found) => {
                    let bar = match storage {
                        Storage::F32 => tolerance,
                        Storage::Bf16 => tolerance * found.largest,
                    };
                    Outcome {
                        part,
                        found: format!(
                            "{} logits off by at most {:.1e} (bar {bar:.0e}); adapters move each \
                             position by {:.2} or more",
                            found.logits, found.error, found.effect
                        ),
                        passed: found.error <= bar && found.effect >= EFFECT,
                    }
                }
                Err(reason) => Outcome {
                    part,
                    found: reason,
                    passed: false,
                },
            });
        }
    }
    if let Some(scale) = &plan.speed {
        let broken = &mut report.broken;
        let figures = &mut report.figures;
        let measured = guarded(|| speed::measure(device, scale, folder, figures, progress));
        match measured {
            Ok(parts) => broken.extend(parts),
            Err(reason) => broken.push(Outcome {
                part: "measurements".to_owned(),
                found: reason,
                passed: false,
            }),
        }
    }
    report
}

/// Runs something that may fail in any way, and gives the reason.
pub(super) fn guarded<T, E: ToString>(run: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("it panicked".to_owned()),
    }
}

/// One outcome for each kernel.
fn kernels(device: &Arc<dyn Device>, options: &Options, checks: &[Check]) -> Vec<Outcome> {
    let named = |kernel: &str| {
        format!(
            "{kernel}, {:?}, heads of {}",
            options.storage, options.head_dim
        )
    };
    let mut machine = match DeviceMachine::new(Arc::clone(device), options) {
        Ok(machine) => machine,
        Err(error) => {
            return vec![Outcome {
                part: named("all"),
                found: error.to_string(),
                passed: false,
            }]
        }
    };
    let mut by_kernel: BTreeMap<&str, (usize, Vec<String>)> = BTreeMap::new();
    for check in checks {
        let (count, wrong) = by_kernel.entry(check.kernel).or_default();
        *count += 1;
        if let Err(reason) = guarded(|| check.run(&mut machine, options.storage, SEED)) {
            wrong.push(format!("{}: {reason}", check.shape));
        }
    }
    by_kernel
        .into_iter()
        .map(|(kernel, (count, wrong))| Outcome {
            part: named(kernel),
            found: match wrong.first() {
                None => format!("{count} shapes"),
                Some(first) => format!("{} of {count} shapes wrong: {first}", wrong.len()),
            },
            passed: wrong.is_empty(),
        })
        .collect()
}
