//! The stages of a self-test, by name and in order.

use super::scale::Scale;
use super::speed::Measurement;
use super::subject::Mode;
use super::Extent;
use crate::backend::cuda::{Options, Storage};

/// What to test, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How large the shapes of the kernels' checks are.
    pub extent: Extent,
    /// Heads of these widths, by storage, what matters most first.
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

    /// Its stages, what matters most first: time may not last for all.
    pub fn stages(&self) -> Vec<Stage> {
        let mode = |storage, deterministic| {
            Stage::Goldens(Mode {
                storage,
                deterministic,
                tensor_cores: self.library,
            })
        };
        let mut stages = vec![Stage::Compile];
        stages.extend(self.heads.first().copied().map(Stage::Kernels));
        if self.library {
            stages.push(mode(Storage::Bf16, false));
        }
        stages.push(mode(Storage::F32, true));
        stages.extend([Stage::RankedSums, Stage::RankedModels]);
        if self.speed.is_some() {
            stages.extend(Measurement::ALL.map(Stage::Speed));
            stages.push(Stage::RankedSpeed);
        }
        stages.push(mode(Storage::Bf16, true));
        if self.library {
            stages.push(mode(Storage::F32, false));
        }
        stages.extend(self.heads.iter().skip(1).copied().map(Stage::Kernels));
        stages
    }
}

/// A part of a self-test that can be run by itself.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Every file of kernels compiles and loads.
    Compile,
    /// The kernels compiled with these options.
    Kernels(Options),
    /// Models with known answers.
    Goldens(Mode),
    /// Sums over several devices.
    RankedSums,
    /// Models that several devices divide, against one device.
    RankedModels,
    /// The speed of several devices beside one.
    RankedSpeed,
    /// The speed of one device.
    Speed(Measurement),
}

fn storage_name(storage: Storage) -> &'static str {
    match storage {
        Storage::F32 => "f32",
        Storage::Bf16 => "bf16",
    }
}

impl Stage {
    /// Its name: words with dashes between them, the kind of stage first.
    pub fn name(&self) -> String {
        match self {
            Self::Compile => "compile".to_owned(),
            Self::Kernels(Options { storage, head_dim }) => {
                format!("kernels-{}-{head_dim}", storage_name(*storage))
            }
            Self::Goldens(mode) => {
                let products = if mode.deterministic { "own" } else { "library" };
                format!("goldens-{}-{products}", storage_name(mode.storage))
            }
            Self::RankedSums => "ranks-sums".to_owned(),
            Self::RankedModels => "ranks-models".to_owned(),
            Self::RankedSpeed => "ranks-speed".to_owned(),
            Self::Speed(what) => format!("speed-{}", what.name()),
        }
    }

    /// What it does.
    pub fn about(&self) -> &'static str {
        match self {
            Self::Compile => "every file of kernels compiles for the device and loads",
            Self::Kernels(_) => "every kernel against a reference in f64",
            Self::Goldens(_) => "four families of models against transformers and PEFT",
            Self::RankedSums => "sums over several devices against sums of the host",
            Self::RankedModels => "models divided among several devices against one device",
            Self::RankedSpeed => {
                "decode on several devices against one, and the time of their sums"
            }
            Self::Speed(what) => match what {
                Measurement::Memory => "bandwidth of the device's memory",
                Measurement::Decode => "decode of the base alone",
                Measurement::Adapters => "decode with adapters against the base alone",
                Measurement::Loading => "adapters from host memory and from files to the device",
                Measurement::UnderLoads => "decode while adapters are brought to the device",
                Measurement::Residency => "adapters that fit beside the weights",
                Measurement::Deterministic => "what the deterministic mode costs",
            },
        }
    }

    /// Whether it takes several devices.
    pub fn is_ranked(&self) -> bool {
        matches!(
            self,
            Self::RankedSums | Self::RankedModels | Self::RankedSpeed
        )
    }
}

/// The stages of these names, in their usual order. A name stands for all stages that begin with it and a
/// dash too. No names: all of them.
///
/// # Errors
/// When a name stands for none.
pub fn select(stages: Vec<Stage>, names: &[String]) -> Result<Vec<Stage>, String> {
    let means = |name: &str, stage: &Stage| {
        let rest = stage.name();
        rest.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    for name in names {
        if !stages.iter().any(|stage| means(name, stage)) {
            let all: Vec<String> = stages.iter().map(Stage::name).collect();
            return Err(format!("no stage {name}; there are {}", all.join(", ")));
        }
    }
    let wanted = |stage: &Stage| names.is_empty() || names.iter().any(|name| means(name, stage));
    Ok(stages.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(stages: &[Stage]) -> Vec<String> {
        stages.iter().map(Stage::name).collect()
    }

    #[test]
    fn stages_should_have_names_of_their_own() {
        let stages = Plan::full().stages();
        let all: BTreeSet<String> = names(&stages).into_iter().collect();
        assert_eq!(all.len(), stages.len());
        for name in [
            "compile",
            "kernels-bf16-128",
            "goldens-f32-own",
            "ranks-sums",
            "speed-decode",
        ] {
            assert!(all.contains(name), "{name}");
        }
        let still = Plan {
            speed: None,
            ..Plan::full()
        };
        let still = names(&still.stages());
        assert!(still.iter().all(|name| !name.contains("speed")));
    }

    #[test]
    fn a_name_should_select_a_stage_or_all_of_a_kind() {
        let select = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            super::select(Plan::full().stages(), &names)
        };
        assert_eq!(select(&[]).unwrap().len(), Plan::full().stages().len());
        assert_eq!(names(&select(&["compile"]).unwrap()), ["compile"]);
        assert_eq!(
            names(&select(&["ranks", "compile"]).unwrap()),
            ["compile", "ranks-sums", "ranks-models", "ranks-speed"]
        );
        assert_eq!(select(&["kernels"]).unwrap().len(), 6);
        for wrong in ["speed-de", "kernel", ""] {
            let error = select(&[wrong]).unwrap_err();
            assert!(error.contains("there are compile, kernels-"), "{error}");
        }
    }
}
