//! Where the files of an adapter come from.

use super::image::AdapterImage;
use openledger_model::{Adapter, ModelConfig};
use std::path::PathBuf;
use std::sync::Arc;

/// Reads an adapter from disk, an object store or elsewhere. Called on a loader's thread, which it may
/// block; called again each time that host memory lacks the adapter.
pub trait AdapterSource: Send + Sync {
    /// Reads and checks the adapter.
    ///
    /// # Errors
    /// The reason, in words for who asked for the adapter: no paths, no secrets.
    fn read(&self, config: &ModelConfig) -> Result<Adapter, String>;

    /// The tier that files come from, for metrics: `disk` or `store`.
    fn tier(&self) -> &'static str;
}

/// A folder written by PEFT.
pub struct FolderSource(pub PathBuf);

impl AdapterSource for FolderSource {
    fn read(&self, config: &ModelConfig) -> Result<Adapter, String> {
        Adapter::load(&self.0, config).map_err(|e| e.to_string())
    }

    fn tier(&self) -> &'static str {
        "disk"
    }
}

/// Where a registered adapter can be had.
#[derive(Clone)]
pub enum Origin {
    /// From a source, as often as needed.
    Source(Arc<dyn AdapterSource>),
    /// From host memory, where it stays.
    Held(Arc<AdapterImage>),
}
