//! The CUDA backend.
//!
//! | file | concept |
//! | --- | --- |
//! | `backend.rs`, `start.rs` | [`CudaBackend`]: a step from its batch to its logits; from options to that |
//! | `ranks.rs` | [`CudaRanks`]: several of them that divide a model |
//! | `forward.rs` | the launches of a step, in order |
//! | `graphs.rs` | steps that were written down, by their shape |
//! | `inputs.rs`, `workspace.rs` | what a step reads and writes on the device |
//! | `model.rs`, `codes.rs`, `arena.rs`, `slots.rs` | the weights, those stored as codes; pages, and adapters on their way; where their matrices are |
//! | `device/` | a GPU, or in tests the CPU, as a device |
//! | `calls.rs`, `launch.rs`, `sources.rs`, `compiler.rs`, `cubins.rs` | the kernels, their arguments and their machine code |
//!
//! Nothing of CUDA is linked: libraries are looked for when they are needed, and a machine without them
//! gets a typed error. The kernels are described in `kernels/README.md` of this crate.

pub mod arena;
pub mod backend;
pub mod calls;
pub mod codes;
pub mod compiler;
pub mod cubins;
pub mod device;
mod forward;
mod graphs;
#[cfg(feature = "host-kernels")]
pub mod host;
mod inputs;
pub mod launch;
pub mod model;
pub mod options;
pub mod ranks;
pub mod selftest;
mod slots;
pub mod sources;
mod start;
mod workspace;

pub use backend::{CudaBackend, Room};
pub use compiler::{CompileError, Compiler, Target};
pub use cubins::CubinCache;
pub use launch::{Address, Call, Launch};
pub use options::{CudaOptions, DeviceChoice};
pub use ranks::CudaRanks;
pub use sources::{Options, Storage, SOURCES};
