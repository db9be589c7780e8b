//! Which GPUs are tested.

use crate::device::DeviceName;
use openledger_engine::backend::cuda::device::driver::Driver;
use openledger_engine::backend::cuda::device::DeviceError;
use std::fmt;
use std::str::FromStr;

/// Which GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All that there are.
    All,
    /// Those of these numbers.
    Numbers(Vec<u32>),
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "cuda" {
            return Ok(Self::All);
        }
        let numbers = name.strip_prefix("cuda:").unwrap_or(name);
        match format!("cuda:{numbers}").parse() {
            Ok(DeviceName::CudaFrom(number)) => Ok(Self::Numbers(vec![number])),
            Ok(DeviceName::Cuda(numbers)) => Ok(Self::Numbers(numbers)),
            Err(reason) if reason.contains("twice") => Err(reason),
            _ => Err("cuda, cuda:N, cuda:N,M,… or N".to_owned()),
        }
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("cuda"),
            Self::Numbers(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                write!(f, "cuda:{}", numbers.join(","))
            }
        }
    }
}

impl Gpus {
    /// Their numbers, one at least.
    ///
    /// # Errors
    /// When there is no driver, or no GPU.
    pub fn ordinals(&self) -> Result<Vec<u32>, DeviceError> {
        match (self, Driver::count()?) {
            (Self::Numbers(numbers), _) => Ok(numbers.clone()),
            (Self::All, 0) => Err(DeviceError::NoDevice {
                ordinal: 0,
                count: 0,
            }),
            (Self::All, count) => Ok((0..count).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_should_be_named_as_elsewhere_or_by_a_number() {
        for (name, gpus) in [
            ("cuda", Gpus::All),
            ("cuda:0", Gpus::Numbers(vec![0])),
            ("1", Gpus::Numbers(vec![1])),
            ("cuda:2,0", Gpus::Numbers(vec![2, 0])),
        ] {
            let read: Gpus = name.parse().unwrap();
            assert_eq!(read, gpus);
            assert_eq!(read.to_string().parse(), Ok(gpus), "{name}");
        }
        for name in ["cpu", "", "cuda:", "cuda:x", "-1"] {
            let error = name.parse::<Gpus>().unwrap_err();
            assert!(error.starts_with("cuda, cuda:N"), "{name}: {error}");
        }
        let twice = "cuda:1,1".parse::<Gpus>().unwrap_err();
        assert_eq!(twice, "GPU 1 is named twice");
    }
}
