//! The kernels as C++ on the CPU, so that what launches them is tested on machines without a GPU.
//!
//! Behind the feature `host-kernels`, which tests turn on: who runs the worker needs no C++ compiler.
//! The text is that of [`SOURCES`](super::sources::SOURCES); `kernels/host/` stands in for CUDA's
//! built-ins.

mod build;

use super::launch::{Call, Launch};
use super::sources::{Options, Source, HEADERS, SOURCES};
use libloading::Library;
use std::collections::HashMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Kernels that are wrong on purpose, for what a launch finds.
pub const FINDINGS: Source = Source {
    name: "findings.cu",
    text: include_str!("../../../../kernels/host/findings.cu"),
    kernels: &["missed_barrier", "missed_shuffle", "race"],
};

/// Why kernels do not run on the CPU.
#[derive(Debug, Error)]
pub enum HostError {
    /// This machine has none.
    #[error("no C++ compiler: install one as `c++`, or name it in CXX")]
    NoCompiler,
    /// The text of the kernels is wrong.
    #[error("the kernels do not compile as C++:\n{0}")]
    Rejected(String),
    /// Files of the build.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// What was built cannot be loaded.
    #[error("the compiled kernels cannot be loaded: {0}")]
    Unloadable(#[from] libloading::Error),
    /// Not among what was compiled.
    #[error("no kernel {0}")]
    Unknown(&'static str),
    /// A barrier or an exchange that some threads of a block do not come to.
    #[error("{0}: threads of a block did not meet")]
    NotMet(&'static str),
    /// The size of a block.
    #[error("{kernel}: a block of {threads} threads is not of whole warps up to 1024")]
    Block {
        /// The kernel.
        kernel: &'static str,
        /// Threads.
        threads: u32,
    },
    /// No memory for the stacks of a block.
    #[error("no memory for the threads of a block")]
    Memory,
}

/// The order in which blocks, and threads between two meetings, take their turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By number.
    #[default]
    Forward,
    /// The last first. A kernel whose result differs has a race.
    Reversed,
}

/// Grid, threads, whether reversed, arguments; see `kernels/host/cuda_shim.h`.
type LaunchFn = unsafe extern "C" fn(*const u32, u32, i32, *const *mut c_void) -> i32;

/// Kernels compiled for the CPU. Each launch has a copy of the library to itself, so threads do not wait
/// for each other.
pub struct HostKernels {
    path: PathBuf,
    names: Vec<&'static str>,
    idle: Mutex<Vec<Instance>>,
}

/// A copy of a library of kernels.
struct Instance {
    launches: HashMap<&'static str, LaunchFn>,
    /// The functions are in it.
    _library: Library,
}

impl Instance {
    fn load(path: &Path, names: &[&'static str]) -> Result<Self, HostError> {
        let copy = build::Copy::of(path)?;
        // SAFETY: the library has been built from text of this crate; it has no initialisers of its own.
        let library = unsafe { Library::new(copy.path()) }?;
        let mut launches = HashMap::new();
        for kernel in names {
            let symbol = format!("launch_{kernel}");
            // SAFETY: every `launch_` function is made by the macro LAUNCH with this signature, and
            // stays where it is as long as the library, which is kept beside it.
            let launch = unsafe { *library.get::<LaunchFn>(symbol.as_bytes())? };
            launches.insert(*kernel, launch);
        }
        Ok(Self {
            launches,
            _library: library,
        })
    }
}

impl HostKernels {
    /// All kernels with these options; compiled once for a process, and found again by the next.
    ///
    /// # Errors
    /// Without a C++ compiler, or when the text does not compile.
    pub fn load(options: &Options) -> Result<Arc<Self>, HostError> {
        static LOADED: Mutex<Option<HashMap<Options, Arc<HostKernels>>>> = Mutex::new(None);
        // Held while compiling: who comes meanwhile waits for the result instead of compiling too.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(kernels) = loaded.get(options) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = Arc::new(Self::compile(options, SOURCES, HEADERS)?);
        loaded.insert(*options, Arc::clone(&kernels));
        Ok(kernels)
    }

    /// These files with these headers, for tests of what is not in [`SOURCES`].
    ///
    /// # Errors
    /// As [`HostKernels::load`].
    pub fn compile(
        options: &Options,
        sources: &[Source],
        headers: &[(&str, &str)],
    ) -> Result<Self, HostError> {
        let path = build::library(options, sources, headers)?;
        let names: Vec<_> = sources.iter().flat_map(|s| s.kernels).copied().collect();
        let first = Instance::load(&path, &names)?;
        Ok(Self {
            path,
            names,
            idle: Mutex::new(vec![first]),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a kernel to its end. An empty grid is nothing to do.
    ///
    /// # Safety
    /// Every address among the arguments is of host memory of the size and alignment that the kernel
    /// takes it for, and nobody else uses that memory meanwhile. After an error it may be partly written.
    ///
    /// # Errors
    /// When the kernel was not compiled, its block is not of whole warps, or its threads do not meet.
    pub unsafe fn launch(&self, call: &dyn Call, order: Order) -> Result<(), HostError> {
        // SAFETY: the caller's promise.
        unsafe { self.launch_raw(call.launch(), &call.arguments(), order) }
    }

    /// As [`HostKernels::launch`], with the arguments of `cuLaunchKernel`.
    ///
    /// # Safety
    /// As there, and there is an argument of the right type for every parameter of the kernel.
    ///
    /// # Errors
    /// As there.
    pub unsafe fn launch_raw(
        &self,
        launch: Launch,
        arguments: &[*mut c_void],
        order: Order,
    ) -> Result<(), HostError> {
        let Launch {
            kernel,
            grid,
            threads,
        } = launch;
        if launch.is_empty() {
            return Ok(());
        }
        let idle = self.idle().pop();
        let instance = match idle {
            Some(instance) => instance,
            None => Instance::load(&self.path, &self.names)?,
        };
        let run = instance
            .launches
            .get(kernel)
            .ok_or(HostError::Unknown(kernel))?;
        let reversed = i32::from(order == Order::Reversed);
        // SAFETY: the grid has its three numbers; the arguments are the caller's promise; nobody else
        // runs in this copy of the library.
        let outcome = unsafe { run(grid.as_ptr(), threads, reversed, arguments.as_ptr()) };
        self.idle().push(instance);
        match outcome {
            0 => Ok(()),
            1 => Err(HostError::NotMet(kernel)),
            2 => Err(HostError::Block { kernel, threads }),
            _ => Err(HostError::Memory),
        }
    }
}

#[cfg(test)]
mod tests;
