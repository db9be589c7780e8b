//! Adapters by digest, in tiers: registered, in host memory, on the device.
//!
//! ```text
//! source (disk, object store) ──► HostCache ──► Residency: slabs of the device's arena
//!        brought, then read       device layout     copy thread, layer by layer
//! ```
//!
//! An adapter is known by the digest of its bytes, so one id never means two adapters. [`Registry`]
//! knows all of them and the names that point at them; registering costs a few hundred bytes. What is
//! asked for is brought up tier by tier, and what is not gives way, least worth first.

pub mod host;
pub mod image;
pub mod loader;
pub mod registry;
pub mod residency;
pub mod slab;
pub mod source;
pub mod table;

use std::fmt;

pub use registry::Registry;
pub use source::{AdapterSource, Brought, FolderSource, Origin};

/// Digest of an adapter's configuration and weights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub [u8; 32]);

impl fmt::Display for AdapterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AdapterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
