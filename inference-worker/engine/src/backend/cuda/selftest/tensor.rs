//! Which kernels on tensor cores may be used on a machine.

use super::{attention, gemm, lora, Check, Extent, Failure, Machine, MachineError};
use crate::backend::cuda::{Options, Storage};

const SEED: u64 = 1;

/// Kernels on tensor cores that have given what the reference gives, on the machine they are to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TensorKernels {
    /// `gemm_tensor` and its variants, for a number of inputs divisible by 8.
    pub gemm: bool,
    /// `lora_shrink_tensor`, for a number of inputs divisible by 8, and `lora_expand_tensor`.
    pub lora: bool,
    /// `prefill_attention_tensor`, for heads of a width divisible by 8.
    pub prefill: bool,
}

impl TensorKernels {
    /// Runs the checks of each family on a machine whose kernels were compiled with these options. Takes
    /// less than a second on a GPU; meant for the start of a backend, so that a kernel that a driver, a
    /// compiler or a device gets wrong is not used. None is used for tensors in f32.
    ///
    /// # Errors
    /// When the machine fails; a result that is wrong is no error.
    pub fn proven(machine: &mut dyn Machine, options: &Options) -> Result<Self, MachineError> {
        if options.storage != Storage::Bf16 {
            return Ok(Self::default());
        }
        let extent = Extent::Small;
        let head_dim = options.head_dim as usize;
        Ok(Self {
            gemm: all_pass(machine, &gemm::tensor_checks(extent))?,
            lora: all_pass(machine, &lora::tensor_checks(extent))?,
            prefill: head_dim.is_multiple_of(8)
                && all_pass(machine, &attention::tensor_checks(head_dim, extent))?,
        })
    }
}

fn all_pass(machine: &mut dyn Machine, checks: &[Check]) -> Result<bool, MachineError> {
    for check in checks {
        match check.run(machine, Storage::Bf16, SEED) {
            Ok(()) => {}
            Err(Failure::Machine(error)) => return Err(error),
            Err(failure) => {
                tracing::warn!(?check, %failure, "a kernel on tensor cores is wrong here and not used");
                return Ok(false);
            }
        }
    }
    Ok(true)
}
