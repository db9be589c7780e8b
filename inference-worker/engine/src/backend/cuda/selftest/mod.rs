//! The self-test of devices ([`whole`]) in stages ([`stages`]): checks of every kernel, models against
//! transformers and PEFT (`goldens`), several devices together (`ranks`), and speed ([`speed`]).
//!
//! Checks of every kernel are against a reference in f64, the same on the CPU in tests and on a GPU in
//! `openledger-worker gpu-selftest`.
//!
//! A check makes its inputs from a seed, launches a kernel, and compares each number with the reference
//! to within what the kernel's arithmetic may be off ([`number`]). References are written from what a
//! kernel is to compute, not from its text.

mod attention;
mod bench;
pub mod fixtures;
mod gemm;
mod goldens;
mod guard;
mod lora;
mod norm;
pub mod number;
pub mod on_device;
mod quantise;
mod ranks;
pub mod report;
mod rope;
mod rows;
mod sampling;
pub mod scale;
pub mod speed;
pub mod stages;
mod subject;
mod sums;
mod tensor;
pub mod whole;

#[cfg(feature = "host-kernels")]
pub mod on_host;

pub use tensor::TensorKernels;

use super::launch::{Address, Call};
use super::sources::{Options, Storage};
use bench::Bench;
use guard::guarded;
use std::error::Error;
use std::fmt;
use thiserror::Error as ThisError;

/// What a machine says when it fails.
pub type MachineError = Box<dyn Error + Send + Sync>;

/// What a check needs of the machine that kernels run on.
pub trait Machine {
    /// Memory with these contents, from an address divisible by 16, until [`Machine::release`].
    ///
    /// # Errors
    /// When the machine fails.
    fn upload(&mut self, bytes: &[u8]) -> Result<Address, MachineError>;

    /// Copies memory back, after all launches so far.
    ///
    /// # Errors
    /// When the machine fails, or the memory is not of [`Machine::upload`].
    fn download(&mut self, from: Address, to: &mut [u8]) -> Result<(), MachineError>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// Addresses among the arguments are of memory of the size that the kernel takes it for.
    ///
    /// # Errors
    /// When the machine fails.
    unsafe fn launch(&mut self, call: &dyn Call) -> Result<(), MachineError>;

    /// Gives all memory back.
    fn release(&mut self);
}

/// Why a check did not pass.
#[derive(Debug, ThisError)]
pub enum Failure {
    /// A number is off by more than the arithmetic allows.
    #[error("{what}[{index}] is {number:e}, not {expected:e} ± {tolerance:.1e}")]
    Wrong {
        /// Which output.
        what: &'static str,
        /// Which of its numbers.
        index: usize,
        /// What the kernel gave.
        number: f64,
        /// What the reference gives.
        expected: f64,
        /// How far it may be off.
        tolerance: f64,
    },
    /// Results that have to be the same bits are not.
    #[error("{what}: byte {byte} differs")]
    Differs {
        /// Which results.
        what: &'static str,
        /// Where.
        byte: usize,
    },
    /// A kernel wrote outside its output.
    #[error("memory beside an output was written")]
    Outside,
    /// The machine failed.
    #[error(transparent)]
    Machine(MachineError),
}

/// How large the shapes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Small and ragged: what goes wrong at edges shows, and a CPU is done in seconds.
    Small,
    /// Also shapes of an 8B model, of which a sample of the results is compared.
    Full,
}

type Run = dyn Fn(&mut Bench<'_>) -> Result<(), Failure> + Send + Sync;

/// One check of one kernel at one shape.
pub struct Check {
    /// The kernel.
    pub kernel: &'static str,
    /// The shape, and what is special about the inputs.
    pub shape: String,
    run: Box<Run>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel, self.shape)
    }
}

impl Check {
    fn new(
        kernel: &'static str,
        shape: impl fmt::Debug,
        run: impl Fn(&mut Bench<'_>) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kernel,
            shape: format!("{shape:?}"),
            run: Box::new(run),
        }
    }

    /// Runs it on a machine whose kernels were compiled for this storage, from a seed.
    ///
    /// # Errors
    /// When a result is wrong or the machine fails.
    pub fn run(
        &self,
        machine: &mut dyn Machine,
        storage: Storage,
        seed: u64,
    ) -> Result<(), Failure> {
        let result = (self.run)(&mut Bench::new(machine, storage, seed));
        machine.release();
        result
    }
}

/// Runs a kernel's checks, all of them unless the machine fails, and says what was wrong with how many and
/// whether all were right.
///
/// # Errors
/// When the machine fails.
pub(crate) fn run_all(
    checks: &[Check],
    machine: &mut dyn Machine,
    storage: Storage,
    seed: u64,
) -> Result<(String, bool), MachineError> {
    let mut wrong = Vec::new();
    for check in checks {
        match guarded(|| Ok::<_, String>(check.run(machine, storage, seed))) {
            Ok(Ok(())) => {}
            Ok(Err(Failure::Machine(error))) => {
                return Err(format!("{}: {error}", check.shape).into())
            }
            Ok(Err(failure)) => wrong.push(format!("{}: {failure}", check.shape)),
            Err(panic) => {
                machine.release();
                wrong.push(format!("{}: {panic}", check.shape));
            }
        }
    }
    let count = checks.len();
    let text = match wrong.first() {
        None => format!("{count} shapes"),
        Some(first) => format!("{} of {count} shapes wrong: {first}", wrong.len()),
    };
    Ok((text, wrong.is_empty()))
}

/// The checks of all kernels compiled with these options.
pub fn checks(options: &Options, extent: Extent) -> Vec<Check> {
    let mut checks = head_checks(options, extent);
    checks.extend(norm::checks(extent));
    checks.extend(rows::checks(extent));
    checks.extend(gemm::checks(extent));
    checks.extend(lora::checks(extent));
    checks.extend(sampling::checks(extent));
    checks.extend(quantise::checks());
    if options.storage == Storage::Bf16 {
        checks.extend(gemm::tensor_checks(extent));
        checks.extend(lora::tensor_checks(extent));
    }
    checks
}

/// Of these, the checks of kernels that depend on the width of a head.
pub fn head_checks(options: &Options, extent: Extent) -> Vec<Check> {
    let mut checks = rope::checks(options.head_dim as usize, extent);
    checks.extend(attention::checks(options.head_dim as usize, extent));
    if options.storage == Storage::Bf16 {
        checks.extend(attention::tensor_checks(options.head_dim as usize, extent));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often its memory was given back.
    struct Idle(usize);

    impl Machine for Idle {
        fn upload(&mut self, _: &[u8]) -> Result<Address, MachineError> {
            Err("no memory".into())
        }

        fn download(&mut self, _: Address, _: &mut [u8]) -> Result<(), MachineError> {
            Err("no memory".into())
        }

        unsafe fn launch(&mut self, _: &dyn Call) -> Result<(), MachineError> {
            Err("no kernels".into())
        }

        fn release(&mut self) {
            self.0 += 1;
        }
    }

    #[test]
    fn a_shape_that_panics_should_leave_a_kernels_other_shapes() {
        let check = |shape: &str, run: fn() -> Result<(), Failure>| {
            Check::new("kernel", shape.to_owned(), move |_| run())
        };
        let checks = [
            check("first", || panic!("index out of bounds")),
            check("second", || Ok(())),
            check("third", || Err(Failure::Outside)),
        ];
        let mut machine = Idle(0);
        let (text, right) = run_all(&checks, &mut machine, Storage::F32, 1).unwrap();
        assert!(!right && text.starts_with("2 of 3 shapes wrong"), "{text}");
        assert!(text.contains("index out of bounds"), "{text}");
        assert_eq!(machine.0, 3);
    }
}
