//! The foundation of the CUDA backend: the kernels' text, the launches with their types, and the
//! run-time compiler.
//!
//! Nothing of CUDA is linked: libraries are looked for when they are needed, and a machine without them
//! gets a typed error. The kernels are described in `kernels/README.md` of this crate.

pub mod calls;
pub mod compiler;
pub mod cubins;
pub mod device;
#[cfg(feature = "host-kernels")]
pub mod host;
pub mod launch;
pub mod selftest;
pub mod sources;

pub use compiler::{CompileError, Compiler, Target};
pub use cubins::CubinCache;
pub use launch::{Address, Call, Launch};
pub use sources::{Options, Storage, SOURCES};
