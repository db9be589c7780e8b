//! How a kernel is launched, wherever it runs: the CUDA driver, or the host shim in tests.

use std::ffi::c_void;

/// An address in the memory that kernels read and write, or null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// No tensor: for arguments that may be missing.
    pub const NULL: Self = Self(0);
}

/// The size of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads in a block, whole warps.
    pub threads: u32,
}

impl Launch {
    /// Whether there is nothing to do. The driver refuses an empty grid.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }
}

/// A kernel with its arguments.
pub trait Call {
    /// The size of the launch, from the shapes among the arguments.
    fn launch(&self) -> Launch;

    /// Addresses of the arguments in the order of the kernel's parameters, as `cuLaunchKernel` takes
    /// them. They point into `self`.
    fn arguments(&self) -> Vec<*mut c_void>;

    /// The call itself, to be launched again later. None where it cannot be kept.
    fn kept(&self) -> Option<Box<dyn Call + Send + Sync>> {
        None
    }
}
