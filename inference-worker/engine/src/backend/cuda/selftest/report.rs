//! What a self-test found, as text and as JSON.

use crate::backend::cuda::device::DeviceFacts;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an outcome is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Files of kernels that compile for the device.
    Compiled,
    /// Kernels against references.
    Kernels,
    /// Models against transformers and PEFT.
    Goldens,
    /// Several devices together.
    Ranks,
    /// Stages and measurements that broke off.
    Broken,
}

impl Section {
    const ALL: [Self; 5] = [
        Self::Compiled,
        Self::Kernels,
        Self::Goldens,
        Self::Ranks,
        Self::Broken,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Compiled => "Files of kernels compiled for the device",
            Self::Kernels => "Kernels against references in f64",
            Self::Goldens => "Models against transformers and PEFT",
            Self::Ranks => "Several devices together",
            Self::Broken => "What broke off",
        }
    }

    /// Whether what is right is counted, not named: there is much of it.
    fn is_counted(self) -> bool {
        matches!(self, Self::Compiled | Self::Kernels)
    }
}

/// A part that passes or fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was tested.
    pub part: String,
    /// What was found.
    pub found: String,
    /// Whether that is as it should be.
    pub passed: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed { "ok  " } else { "FAIL" };
        write!(f, "  {word}  {:<40} {}", self.part, self.found)
    }
}

/// Which side of a bar is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// At least the bar.
    Above,
    /// At most the bar.
    Below,
}

/// A measured figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub achieved: f64,
    /// What it is counted in.
    pub unit: String,
    /// What it is held against, and from which side.
    pub bar: Option<(Side, f64)>,
    /// Layers of the model that it was measured with, and those of the whole model, which a device may have no
    /// room for; none where there was no model.
    pub layers: Option<(usize, usize)>,
}

impl Figure {
    /// A figure that is held against nothing.
    pub fn plain(name: impl Into<String>, achieved: f64, unit: &str) -> Self {
        Self {
            name: name.into(),
            achieved,
            unit: unit.to_owned(),
            bar: None,
            layers: None,
        }
    }

    /// The figure, measured with so many layers of a model of `of`.
    pub fn of_layers(mut self, layers: usize, of: usize) -> Self {
        self.layers = Some((layers, of));
        self
    }

    /// The figure with its bar.
    pub fn against(mut self, side: Side, bar: f64) -> Self {
        self.bar = Some((side, bar));
        self
    }

    /// Whether it reaches its bar; none without a bar.
    pub fn reached(&self) -> Option<bool> {
        self.bar.map(|(side, bar)| match side {
            Side::Above => self.achieved >= bar,
            Side::Below => self.achieved <= bar,
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            achieved,
            unit,
            bar,
            layers,
        } = self;
        write!(f, "  {name:<62} {achieved:>9.3} {unit}")?;
        if let Some((side, bar)) = bar {
            let sign = if *side == Side::Above { '≥' } else { '≤' };
            let word = if self.reached() == Some(true) {
                "reached"
            } else {
                "missed"
            };
            write!(f, "  ({sign} {bar:.3} {word})")?;
        }
        if let Some((layers, of)) = layers.filter(|(layers, of)| layers < of) {
            write!(f, "  ({layers} of {of} layers)")?;
        }
        Ok(())
    }
}

/// One thing that a stage says, when it is known: a line of JSON where stages are processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A part begins.
    Begins {
        /// Its number in the stage.
        part: usize,
        /// Its name.
        name: String,
    },
    /// Something passes or fails.
    Outcome(Section, Outcome),
    /// A measurement.
    Figure(Figure),
    /// What was left out, or how something was done.
    Note(String),
}

impl Finding {
    /// A measurement; one that is no number is a failure.
    pub fn measured(figure: Figure) -> Self {
        if figure.achieved.is_finite() {
            return Self::Figure(figure);
        }
        let found = format!("{} is no measurement", figure.achieved);
        Self::failure(Section::Broken, figure.name, found)
    }

    /// Something that failed.
    pub fn failure(section: Section, part: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Outcome(
            section,
            Outcome {
                part: part.into(),
                found: found.into(),
                passed: false,
            },
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begins { name, .. } => write!(f, "{name}"),
            Self::Outcome(_, outcome) => outcome.fmt(f),
            Self::Figure(figure) => figure.fmt(f),
            Self::Note(note) => write!(f, "  note  {note}"),
        }
    }
}

/// How a stage went.
#[derive(Clone, Debug, Serialize)]
pub struct StageRecord {
    /// Its name.
    pub name: String,
    /// `done`, `stopped` when its time was over, `skipped` when none was left.
    pub state: &'static str,
    /// How long it took.
    pub seconds: f64,
}

/// All that a self-test found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the engine.
    pub version: &'static str,
    /// The first device, on which all is tested that takes one.
    pub device: DeviceFacts,
    /// How many devices were tested together.
    pub devices: usize,
    /// The stages so far.
    pub stages: Vec<StageRecord>,
    /// Files of kernels that compile.
    pub compiled: Vec<Outcome>,
    /// Kernels against references.
    pub kernels: Vec<Outcome>,
    /// Models against transformers and PEFT.
    pub goldens: Vec<Outcome>,
    /// Several devices together.
    pub ranks: Vec<Outcome>,
    /// Stages and measurements that broke off.
    pub broken: Vec<Outcome>,
    /// Measurements.
    pub figures: Vec<Figure>,
    /// What was left out, and how things were done.
    pub notes: Vec<String>,
}

impl Report {
    /// Of these devices, before anything was found.
    pub fn new(device: DeviceFacts, devices: usize) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            device,
            devices,
            stages: Vec::new(),
            compiled: Vec::new(),
            kernels: Vec::new(),
            goldens: Vec::new(),
            ranks: Vec::new(),
            broken: Vec::new(),
            figures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes note of a finding.
    pub fn add(&mut self, finding: Finding) {
        match finding {
            Finding::Begins { .. } => {}
            Finding::Outcome(section, outcome) => match section {
                Section::Compiled => self.compiled.push(outcome),
                Section::Kernels => self.kernels.push(outcome),
                Section::Goldens => self.goldens.push(outcome),
                Section::Ranks => self.ranks.push(outcome),
                Section::Broken => self.broken.push(outcome),
            },
            Finding::Figure(figure) => self.figures.push(figure),
            Finding::Note(note) => self.notes.push(note),
        }
    }

    /// The outcomes of a section.
    pub fn outcomes(&self, section: Section) -> &[Outcome] {
        match section {
            Section::Compiled => &self.compiled,
            Section::Kernels => &self.kernels,
            Section::Goldens => &self.goldens,
            Section::Ranks => &self.ranks,
            Section::Broken => &self.broken,
        }
    }

    /// Whether anything was tested: there may be no time for it, or not enough devices.
    pub fn is_tested(&self) -> bool {
        let outcomes = Section::ALL.iter().any(|s| !self.outcomes(*s).is_empty());
        outcomes || !self.figures.is_empty()
    }

    /// Whether every result was right and nothing broke off. Bars that were not reached do not count: they
    /// are figures. Nor do stages that no time was left for: they are named.
    pub fn passed(&self) -> bool {
        let mut outcomes = Section::ALL.iter().flat_map(|s| self.outcomes(*s));
        outcomes.all(|outcome| outcome.passed)
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
             CUDA {driver}; devices: {}",
            *memory as f64 / 1e9,
            self.devices
        )?;
        if let Some(bandwidth) = self.device.bandwidth {
            writeln!(f, "data sheet: {:.2} TB/s", bandwidth / 1e12)?;
        }
        for section in Section::ALL {
            let outcomes = self.outcomes(section);
            if outcomes.is_empty() {
                continue;
            }
            writeln!(f, "\n{}", section.title())?;
            if section.is_counted() {
                let right = outcomes.iter().filter(|outcome| outcome.passed).count();
                writeln!(f, "  {right} of {} right", outcomes.len())?;
            }
            for outcome in outcomes {
                if !(section.is_counted() && outcome.passed) {
                    writeln!(f, "{outcome}")?;
                }
            }
        }
        if !self.figures.is_empty() {
            writeln!(f, "\nSpeed, with seeded random weights")?;
        }
        for figure in &self.figures {
            writeln!(f, "{figure}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f, "\nNotes")?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}
