//! Where a model is computed, as the command line says it.

use clap::Args;
use openledger_engine::backend::cuda::{CudaOptions, DeviceChoice};
use openledger_engine::{BackendOptions, EngineError};
use openledger_primitives::receipt::BackendClass;
use std::str::FromStr;

/// More GPUs than any machine has.
const MOST_GPUS: u32 = 1024;

/// What computes a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// GPUs: the one of this number, and as many of those that follow as there are further ranks.
    CudaFrom(u32),
    /// The GPUs of these numbers, one for each rank.
    Cuda(Vec<u32>),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let numbers = match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::CudaFrom(0)),
            _ => name.strip_prefix("cuda:").unwrap_or_default(),
        };
        let numbers: Result<Vec<u32>, _> = numbers.split(',').map(str::parse).collect();
        let numbers = numbers.map_err(|_| "cpu, cuda, cuda:N or cuda:N,M,…".to_owned())?;
        for (i, number) in numbers.iter().enumerate() {
            if numbers[..i].contains(number) {
                return Err(format!("GPU {number} is named twice"));
            }
        }
        Ok(match numbers.as_slice() {
            [first] => Self::CudaFrom(*first),
            _ => Self::Cuda(numbers),
        })
    }
}

impl DeviceName {
    /// What is announced of it, and said in receipts.
    pub fn class(&self) -> BackendClass {
        match self {
            Self::Cpu => BackendClass::CpuF32,
            Self::CudaFrom(_) | Self::Cuda(_) => BackendClass::CudaBf16,
        }
    }
}

/// Options of where a model is computed.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// `cpu`, `cuda`, `cuda:N` or, for several ranks, `cuda:N,M,…`. A GPU that cannot be used is an error;
    /// the CPU never takes its place.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// On a GPU: the same bits whatever shares a step, by slower products of matrices. The CPU always is.
    #[arg(long)]
    pub deterministic: bool,
    /// Ranks that compute each layer together; must divide the model's key and value heads. On the CPU they
    /// share the threads; `cuda` takes as many GPUs, from number N of `cuda:N` on. When absent: 1, or as
    /// many as GPUs are named.
    #[arg(long, value_name = "RANKS")]
    pub tensor_parallel: Option<usize>,
}

impl DeviceArgs {
    /// The engine's name, as it is announced: version, ranks if there are several, and `det` when an answer has
    /// the same bits whatever shares a step.
    ///
    /// # Errors
    /// As [`backend`](Self::backend).
    pub fn engine(&self) -> Result<String, EngineError> {
        let (_, ranks) = self.backend()?;
        let mut name = concat!("openledger/", env!("CARGO_PKG_VERSION")).to_owned();
        if ranks > 1 {
            name.push_str(&format!(";tp={ranks}"));
        }
        if self.deterministic || self.device == DeviceName::Cpu {
            name.push_str(";det");
        }
        Ok(name)
    }

    /// What computes, and by how many ranks.
    ///
    /// # Errors
    /// When there are not as many GPUs named as there are to be ranks.
    pub fn backend(&self) -> Result<(BackendOptions, usize), EngineError> {
        let asked = self.tensor_parallel;
        let ranks = asked.unwrap_or(1);
        let numbers: Vec<u32> = match &self.device {
            DeviceName::Cpu => return Ok((BackendOptions::Cpu, ranks)),
            DeviceName::CudaFrom(first) => match u32::try_from(ranks) {
                Ok(ranks) if ranks <= MOST_GPUS => {
                    (0..ranks).map(|rank| first.saturating_add(rank)).collect()
                }
                _ => {
                    return Err(EngineError::Options(format!(
                        "--tensor-parallel {ranks} takes as many GPUs; {MOST_GPUS} are the most"
                    )))
                }
            },
            DeviceName::Cuda(numbers) => {
                if asked.is_some_and(|asked| asked != numbers.len()) {
                    return Err(EngineError::Options(format!(
                        "--tensor-parallel {ranks} takes as many GPUs; --device names {}",
                        numbers.len()
                    )));
                }
                numbers.clone()
            }
        };
        let ranks = numbers.len();
        let options = CudaOptions {
            devices: numbers.into_iter().map(DeviceChoice::Ordinal).collect(),
            deterministic: self.deterministic,
            ..CudaOptions::default()
        };
        Ok((BackendOptions::Cuda(options), ranks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(device: &str, tensor_parallel: Option<usize>) -> Result<(String, usize), String> {
        let args = DeviceArgs {
            device: device.parse()?,
            deterministic: false,
            tensor_parallel,
        };
        let (backend, ranks) = args.backend().map_err(|error| error.to_string())?;
        let devices = match backend {
            BackendOptions::Cpu => "cpu".to_owned(),
            BackendOptions::Cuda(cuda) => format!("{:?}", cuda.devices),
        };
        Ok((devices.replace("Ordinal", ""), ranks))
    }

    #[test]
    fn what_is_announced_should_tell_ranks_and_determinism() {
        let engine = |device: &str, deterministic, tensor_parallel| {
            let args = DeviceArgs {
                device: device.parse().unwrap(),
                deterministic,
                tensor_parallel,
            };
            let name = args.engine().unwrap();
            // What the chain takes.
            assert!(name.len() <= 32, "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name}");
            let version = concat!("openledger/", env!("CARGO_PKG_VERSION"));
            name.strip_prefix(version).unwrap().to_owned()
        };
        assert_eq!(engine("cpu", false, None), ";det");
        assert_eq!(engine("cpu", false, Some(2)), ";tp=2;det");
        assert_eq!(engine("cuda", false, None), "");
        assert_eq!(engine("cuda:0,1", true, None), ";tp=2;det");
        assert_eq!(engine("cuda", true, Some(1024)), ";tp=1024;det");
    }

    #[test]
    fn ranks_should_take_the_devices_that_are_named_or_those_that_follow() {
        for (device, ranks, expected) in [
            ("cpu", None, ("cpu", 1)),
            ("cpu", Some(4), ("cpu", 4)),
            ("cuda", None, ("[(0)]", 1)),
            ("cuda:3", None, ("[(3)]", 1)),
            ("cuda", Some(2), ("[(0), (1)]", 2)),
            ("cuda:2", Some(2), ("[(2), (3)]", 2)),
            ("cuda:3,1", None, ("[(3), (1)]", 2)),
            ("cuda:3,1", Some(2), ("[(3), (1)]", 2)),
        ] {
            let expected = (expected.0.to_owned(), expected.1);
            assert_eq!(placed(device, ranks), Ok(expected), "{device} {ranks:?}");
        }
    }

    #[test]
    fn a_device_should_be_announced_for_what_it_is() {
        let class = |name: &str| name.parse().map(|name: DeviceName| name.class());
        assert_eq!(class("cpu"), Ok(BackendClass::CpuF32));
        for gpu in ["cuda", "cuda:3", "cuda:0,1"] {
            assert_eq!(class(gpu), Ok(BackendClass::CudaBf16), "{gpu}");
        }
    }

    #[test]
    fn devices_that_cannot_be_meant_should_be_refused() {
        for device in ["gpu", "cuda:", "cuda:x", "cuda:0,", "cuda:-1", "CPU"] {
            let error = placed(device, None).unwrap_err();
            assert!(error.starts_with("cpu, cuda, cuda:N"), "{device}: {error}");
        }
        let error = placed("cuda:0,1,0", None).unwrap_err();
        assert_eq!(error, "GPU 0 is named twice");
        let error = placed("cuda:0,1", Some(4)).unwrap_err();
        assert!(error.contains("--device names 2"), "{error}");
        let error = placed("cuda", Some(usize::MAX)).unwrap_err();
        assert!(error.contains("1024 are the most"), "{error}");
        let error = placed("cuda:0,1", Some(1)).unwrap_err();
        assert!(error.contains("--tensor-parallel 1"), "{error}");
    }
}
