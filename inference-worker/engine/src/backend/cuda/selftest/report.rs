//! What a self-test found, as text and as JSON.

use crate::backend::cuda::device::DeviceFacts;
use serde::Serialize;
use std::fmt;

/// A part that passes or fails.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was tested.
    pub part: String,
    /// What was found.
    pub found: String,
    /// Whether that is as it should be.
    pub passed: bool,
}

/// Which side of a bar is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// At least the bar.
    Above,
    /// At most the bar.
    Below,
}

/// A measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub achieved: f64,
    /// What it is counted in.
    pub unit: &'static str,
    /// What it is held against, and from which side.
    pub bar: Option<(Side, f64)>,
}

impl Figure {
    /// Whether it reaches its bar; none without a bar.
    pub fn reached(&self) -> Option<bool> {
        self.bar.map(|(side, bar)| match side {
            Side::Above => self.achieved >= bar,
            Side::Below => self.achieved <= bar,
        })
    }
}

/// All that a self-test found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the engine.
    pub version: &'static str,
    /// The device.
    pub device: DeviceFacts,
    /// Kernels against references.
    pub kernels: Vec<Outcome>,
    /// Models against transformers and PEFT.
    pub goldens: Vec<Outcome>,
    /// Measurements that broke off.
    pub broken: Vec<Outcome>,
    /// Measurements.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Whether every result was right and every measurement came to its end. Bars that were not reached
    /// do not count: they are figures.
    pub fn passed(&self) -> bool {
        let outcomes = self.kernels.iter().chain(&self.goldens).chain(&self.broken);
        outcomes.into_iter().all(|outcome| outcome.passed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceFacts {
            name,
            capability: (major, minor),
            memory,
            multiprocessors,
            driver,
            ..
        } = &self.device;
        writeln!(
            f,
            "{name}: compute capability {major}.{minor}, {multiprocessors} multiprocessors, {:.1} GB, \
             CUDA {driver}",
            *memory as f64 / 1e9
        )?;
        if let Some(bandwidth) = self.device.bandwidth {
            writeln!(f, "data sheet: {:.2} TB/s", bandwidth / 1e12)?;
        }
        for (title, outcomes) in [
            ("Kernels against references in f64", &self.kernels),
            ("Models against transformers and PEFT", &self.goldens),
            ("Measurements that broke off", &self.broken),
        ] {
            if outcomes.is_empty() {
                continue;
            }
            writeln!(f, "\n{title}")?;
            for outcome in outcomes {
                let word = if outcome.passed { "ok  " } else { "FAIL" };
                writeln!(f, "  {word}  {:<40} {}", outcome.part, outcome.found)?;
            }
        }
        if !self.figures.is_empty() {
            writeln!(f, "\nSpeed, with seeded random weights")?;
        }
        for figure in &self.figures {
            let Figure {
                name,
                achieved,
                unit,
                bar,
            } = figure;
            write!(f, "  {name:<62} {achieved:>9.3} {unit}")?;
            if let Some((side, bar)) = bar {
                let sign = if *side == Side::Above { '≥' } else { '≤' };
                let word = if figure.reached() == Some(true) {
                    "reached"
                } else {
                    "missed"
                };
                write!(f, "  ({sign} {bar:.3} {word})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
