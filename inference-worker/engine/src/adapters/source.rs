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

    /// Brings the files to where [`AdapterSource::read`] does not have to wait for a network, and tells
    /// when they are there: at once if they are. Called by the engine's loop, which it must not hold up,
    /// before each read; any number may be on their way.
    fn bring(&self, brought: Brought) {
        brought.tell(Ok(()));
    }

    /// The tier that files came from, for metrics: `disk` or `store`.
    fn tier(&self) -> &'static str;
}

/// Takes word of files that are there, or cannot be had. Dropped without a word it says the latter, so
/// that nobody waits for ever.
pub struct Brought(Option<Told>);

type Told = Box<dyn FnOnce(Result<(), String>) + Send>;

impl Brought {
    /// Calls `told` once.
    pub fn new(told: impl FnOnce(Result<(), String>) + Send + 'static) -> Self {
        Self(Some(Box::new(told)))
    }

    /// The files are there, or why not, in words for who asked for the adapter.
    pub fn tell(mut self, result: Result<(), String>) {
        if let Some(told) = self.0.take() {
            told(result);
        }
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told(Err("bringing its files was given up".to_owned()));
        }
    }
}

/// A folder written by PEFT.
pub struct FolderSource(pub PathBuf);

impl AdapterSource for FolderSource {
    fn read(&self, config: &ModelConfig) -> Result<Adapter, String> {
        Adapter::load(&self.0, config).map_err(|error| {
            // The path is for the operator.
            tracing::warn!(folder = %self.0.display(), "an adapter cannot be read again: {error}");
            "its files are gone, or were changed since it was loaded".to_owned()
        })
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
