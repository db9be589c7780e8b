//! The machine that kernels run on, as the backend sees it: memory, copies, launches, streams, events
//! and graphs.
//!
//! [`driver::Driver`] is an NVIDIA GPU. With the feature `host-kernels`, `host::HostDevice` runs the
//! same kernels on the CPU, so that all that is built on this trait is tested without a GPU.

mod blas;
pub mod driver;
#[cfg(feature = "host-kernels")]
pub mod host;
mod memory;
mod nccl;

pub use memory::{Event, Graph, HostLock, HostMemory, Memory, Plain};

use super::compiler::CompileError;
use super::launch::{Address, Call};
use super::sources::{Options, Storage};
use crate::backend::parallel::{Communicator, CommunicatorError};
use serde::Serialize;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Why a device cannot be used, or what it refused.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The driver's library is not there.
    #[error(
        "no CUDA driver: libcuda.so.1 is not on the library search path; install the NVIDIA driver, \
         or use the CPU"
    )]
    NoDriver,
    /// The driver is older than the interface that is used.
    #[error("the NVIDIA driver supports CUDA {}.{}; 13.0 is needed (driver 580 or later)",
        .version / 1000, .version % 1000 / 10)]
    OldDriver {
        /// 1000 times the major plus 10 times the minor version.
        version: i32,
    },
    /// There is no such device.
    #[error("no CUDA device {ordinal}: the driver sees {count}")]
    NoDevice {
        /// What was asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// The kernels use what it does not have.
    #[error(
        "{name} has compute capability {major}.{minor}; 8.0 or later is needed (A100, or a GeForce RTX 30 \
         or later): use another GPU, or the CPU"
    )]
    OldDevice {
        /// As its driver names it.
        name: String,
        /// Of its compute capability.
        major: u32,
        /// Of its compute capability.
        minor: u32,
    },
    /// The library of matrix products is not there.
    #[error(
        "no cuBLASLt: put libcublasLt.so.13 on the library search path, or choose the deterministic \
         mode, which does not use it"
    )]
    NoBlas,
    /// What adds up over several GPUs is not there.
    #[error(
        "libnccl not found: install NCCL 2 so that libnccl.so.2 is on the library search path, or put its \
         path in OPENLEDGER_NCCL, or run without --tensor-parallel"
    )]
    NoNccl,
    /// Not enough memory.
    #[error("the device has no {bytes} bytes of memory left")]
    Memory {
        /// What was asked for.
        bytes: usize,
    },
    /// The driver refused something.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What the driver says.
        reason: String,
    },
    /// A copy that would leave its memory.
    #[error("bytes {first}..{end} of {bytes}")]
    Bounds {
        /// First byte.
        first: usize,
        /// The byte after the last.
        end: usize,
        /// Bytes of the memory.
        bytes: usize,
    },
    /// The device cannot do this.
    #[error("this device has no {0}")]
    Unsupported(&'static str),
    /// The kernels do not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// No kernel of this name.
    #[error("no kernel {0}")]
    NoKernel(&'static str),
    /// Ranks could not exchange what they have.
    #[error("between ranks: {0}")]
    Exchange(#[from] CommunicatorError),
    /// The kernels on the CPU.
    #[cfg(feature = "host-kernels")]
    #[error(transparent)]
    Host(#[from] super::host::HostError),
}

/// A queue of work on a device. Work of one stream is done in order; the two run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Steps.
    Compute,
    /// Adapters on their way to the device.
    Copy,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceFacts {
    /// As its driver names it.
    pub name: String,
    /// Compute capability, major and minor; zeros for what is no GPU.
    pub capability: (u32, u32),
    /// Bytes of its memory.
    pub memory: usize,
    /// Bytes per second between its memory and its processors by its data sheet, where the driver gives
    /// what it follows from.
    pub bandwidth: Option<f64>,
    /// Its multiprocessors.
    pub multiprocessors: u32,
    /// Version of the driver's interface, "13.0"; empty for what is no GPU.
    pub driver: String,
}

/// A machine with memory of its own that runs kernels.
///
/// Calls of one thread may be made while another thread's are under way. What is asked of a stream is
/// queued and done later; its order is that of the calls.
pub trait Device: Any + fmt::Debug + Send + Sync {
    /// What it is.
    fn facts(&self) -> &DeviceFacts;

    /// Bytes of memory that nobody has taken.
    ///
    /// # Errors
    /// When the device fails.
    fn free_bytes(&self) -> Result<usize, DeviceError>;

    /// Makes the kernels ready for these options.
    ///
    /// # Errors
    /// When they do not compile or do not load.
    fn load(&self, options: &Options) -> Result<Arc<dyn Kernels>, DeviceError>;

    /// Makes each file of the kernels ready by itself, and says how that went: a file that does not compile
    /// does not keep one from hearing of the others.
    fn load_each(&self, options: &Options) -> Vec<(&'static str, Result<(), DeviceError>)> {
        vec![("all", self.load(options).map(drop))]
    }

    /// Fast matrix products, whose bits may depend on the number of rows.
    ///
    /// # Errors
    /// When the library for them is not there.
    fn blas(&self) -> Result<&dyn Blas, DeviceError>;

    /// Makes a group of ranks, one for each of the devices in order, of which this one is the first.
    ///
    /// # Errors
    /// When the devices are not all of this kind, or cannot reach each other.
    fn group(&self, devices: &[Arc<dyn Device>]) -> Result<Vec<Arc<dyn DeviceRank>>, DeviceError>;

    /// Takes memory, its contents undefined, from an address divisible by 256. [`Memory`] gives it back
    /// by itself.
    ///
    /// # Errors
    /// When there is not enough.
    fn allocate(&self, bytes: usize) -> Result<Address, DeviceError>;

    /// Gives memory back.
    ///
    /// # Safety
    /// It is from [`Device::allocate`], and neither the host nor queued work uses it any more.
    unsafe fn free(&self, memory: Address, bytes: usize);

    /// Takes page-locked memory of the host, from and to which copies run beside everything else.
    /// [`HostMemory`] gives it back by itself.
    ///
    /// # Errors
    /// When there is not enough.
    fn allocate_host(&self, bytes: usize) -> Result<*mut u8, DeviceError>;

    /// Gives memory of the host back.
    ///
    /// # Safety
    /// It is from [`Device::allocate_host`], and nothing uses it any more.
    unsafe fn free_host(&self, memory: *mut u8, bytes: usize);

    /// Page-locks memory of the host that is there already.
    ///
    /// # Safety
    /// The memory stays allocated until it is unlocked.
    ///
    /// # Errors
    /// When the system does not allow it.
    unsafe fn lock_host(&self, memory: *const u8, bytes: usize) -> Result<(), DeviceError>;

    /// Undoes [`Device::lock_host`].
    ///
    /// # Safety
    /// The memory is locked, and no queued work uses it.
    unsafe fn unlock_host(&self, memory: *const u8);

    /// Queues a copy to the device.
    ///
    /// # Safety
    /// `to` is memory of this device of at least that size. Page-locked memory of the host stays, and
    /// stays as it is, until the copy is done; other memory is read before this returns.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn upload(&self, stream: Stream, to: Address, from: &[u8]) -> Result<(), DeviceError>;

    /// Queues a copy to the host.
    ///
    /// # Safety
    /// `from` is memory of this device of at least that size; `to` is not used, and stays, until the
    /// stream was synchronised.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn download(
        &self,
        stream: Stream,
        to: *mut u8,
        from: Address,
        bytes: usize,
    ) -> Result<(), DeviceError>;

    /// Queues setting every byte to zero.
    ///
    /// # Safety
    /// `to` is memory of this device of at least that size.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn clear(&self, stream: Stream, to: Address, bytes: usize) -> Result<(), DeviceError>;

    /// Waits until all queued work of the stream is done.
    ///
    /// # Errors
    /// When some of it failed.
    fn synchronize(&self, stream: Stream) -> Result<(), DeviceError>;

    /// Marks the end of what is queued on the stream now. [`Event`] is the safe form of it.
    ///
    /// # Errors
    /// When the device fails.
    fn record(&self, stream: Stream) -> Result<u64, DeviceError>;

    /// Lets a stream wait, without the host, until an event has passed.
    ///
    /// # Safety
    /// The event is this device's and not dropped yet.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn wait_for(&self, stream: Stream, event: u64) -> Result<(), DeviceError>;

    /// Waits on the host until an event has passed.
    ///
    /// # Safety
    /// As [`Device::wait_for`].
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn await_event(&self, event: u64) -> Result<(), DeviceError>;

    /// Seconds on the device from one passed event to another of the same stream.
    ///
    /// # Safety
    /// As [`Device::wait_for`], for both.
    ///
    /// # Errors
    /// When one has not passed yet.
    unsafe fn seconds_between(&self, first: u64, last: u64) -> Result<f64, DeviceError>;

    /// Forgets an event.
    ///
    /// # Safety
    /// As [`Device::wait_for`]; it is not used again.
    unsafe fn drop_event(&self, event: u64);

    /// From now on, work on the compute stream that this thread queues is written down instead of done.
    ///
    /// # Errors
    /// When the device cannot.
    fn begin_capture(&self) -> Result<(), DeviceError>;

    /// Ends what [`Device::begin_capture`] began, and gives what was written down. [`Graph`] is the safe
    /// form of it.
    ///
    /// # Errors
    /// When something in between cannot be written down.
    fn end_capture(&self) -> Result<u64, DeviceError>;

    /// Queues what a graph has written down.
    ///
    /// # Safety
    /// The graph is this device's and not dropped yet, and what its launches use is still there.
    ///
    /// # Errors
    /// When the device fails.
    unsafe fn launch_graph(&self, graph: u64) -> Result<(), DeviceError>;

    /// Forgets a graph.
    ///
    /// # Safety
    /// It is this device's and neither runs nor is used again.
    unsafe fn drop_graph(&self, graph: u64);
}

/// Values in the memory of a rank's device, in the order of its compute stream: those that what was queued
/// before leaves there.
#[derive(Clone, Copy, Debug)]
pub struct DeviceValues {
    first: Address,
    count: usize,
    storage: Storage,
}

impl DeviceValues {
    /// `count` values.
    ///
    /// # Safety
    /// They are in memory of the device on which they are used, as long as something is queued for them.
    pub unsafe fn new(first: Address, count: usize, storage: Storage) -> Self {
        Self {
            first,
            count,
            storage,
        }
    }
}

/// A device's end of a group of ranks. What it exchanges is queued on the compute stream.
pub trait DeviceRank: Communicator<Buffer = DeviceValues> {
    /// What adds up, with its version.
    fn name(&self) -> String;

    /// Whether what is queued may be written down in a graph.
    fn is_capturable(&self) -> bool;

    /// Whether a value is the same bits whatever it is reduced together with.
    fn is_exact(&self) -> bool;
}

/// The kernels, compiled for one set of options.
pub trait Kernels: Send + Sync {
    /// Queues a kernel. An empty grid is nothing to do.
    ///
    /// # Safety
    /// Every address among the arguments is of memory of this device of the size and alignment that the
    /// kernel takes it for, as long as the launch is queued.
    ///
    /// # Errors
    /// When the device fails or has no such kernel.
    unsafe fn launch(&self, stream: Stream, call: &dyn Call) -> Result<(), DeviceError>;
}

/// A product `y [rows, outputs] = x [rows, inputs] · wᵀ`, `w [outputs, inputs]`, summed in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Result.
    pub y: Address,
    /// Argument.
    pub x: Address,
    /// Weights.
    pub w: Address,
    /// Its shape.
    pub shape: ProductShape,
}

/// The shape of a [`Product`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProductShape {
    /// Rows of argument and result.
    pub rows: u32,
    /// Width of the result.
    pub outputs: u32,
    /// Width of the argument.
    pub inputs: u32,
    /// Storage of `x` and `w`.
    pub storage: Storage,
    /// Storage of `y`.
    pub result: Storage,
}

/// Matrix products by a library.
pub trait Blas: Send + Sync {
    /// Queues a product on the compute stream.
    ///
    /// # Safety
    /// The addresses are of memory of this device of the product's shape, as long as it is queued.
    ///
    /// # Errors
    /// When the library has no way to compute it, or fails.
    unsafe fn multiply(&self, product: &Product) -> Result<(), DeviceError>;
}
