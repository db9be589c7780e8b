//! An adapter in the store, as the engine reads it.

use super::checked::CheckedAdapter;
use anyhow::{Context, Result};
use openledger_engine::{AdapterSource, Brought};
use openledger_model::{Adapter, ModelConfig};
use openledger_primitives::Digest;
use openledger_store::{Reached, Store};
use std::sync::{
    atomic::{AtomicBool, Ordering},
    Arc,
};

/// Most bytes of an adapter's configuration, and of its weights.
const MOST_CONFIG: u64 = 1 << 20;
const MOST_WEIGHTS: u64 = 1 << 31;

/// An adapter in the store, read from there each time that the engine has it no more in memory.
#[derive(Clone)]
pub(super) struct Stored {
    store: Store,
    config: Digest,
    weights: Digest,
    /// Whether its files had to be fetched when they were last asked for.
    fetched: Arc<AtomicBool>,
}

impl Stored {
    /// The adapter of a manifest.
    ///
    /// # Errors
    /// When the manifest or one of the two files is not in the store.
    pub(super) fn of_manifest(store: &Store, manifest: &Digest) -> Result<Self> {
        let manifest = store.manifest(manifest)?;
        let file = |path: &str| {
            let entry = manifest.file(path).map(|entry| entry.digest);
            entry.with_context(|| format!("the folder has no {path}"))
        };
        let (config, weights) = (
            file("adapter_config.json")?,
            file("adapter_model.safetensors")?,
        );
        Ok(Self::new(store, config, weights))
    }

    /// The adapter that was checked before.
    pub(super) fn of_checked(store: &Store, checked: &CheckedAdapter) -> Self {
        Self::new(store, checked.config, checked.weights)
    }

    fn new(store: &Store, config: Digest, weights: Digest) -> Self {
        Stored {
            store: store.clone(),
            config,
            weights,
            fetched: Arc::default(),
        }
    }

    /// Reads it and says what is to be noted of it.
    ///
    /// # Errors
    /// When its files cannot be had, or are no adapter for the model.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<CheckedAdapter> {
        let adapter = self.load(config)?;
        Ok(CheckedAdapter {
            id: adapter.digest,
            rank: u32::try_from(adapter.config.r)?,
            config: self.config,
            weights: self.weights,
        })
    }

    /// Whether reading it needs no network.
    pub(super) fn is_here(&self) -> bool {
        self.store.has(&self.config) && self.store.has(&self.weights)
    }

    fn load(&self, config: &ModelConfig) -> Result<Adapter> {
        let adapter = Adapter::from_bytes(
            &self.store.get_bounded(&self.config, MOST_CONFIG)?,
            &self.store.get_bounded(&self.weights, MOST_WEIGHTS)?,
            config,
        )?;
        Ok(adapter)
    }

    /// What went wrong is for the operator; paths are nobody else's.
    fn refuse(&self, error: &anyhow::Error) -> String {
        tracing::error!("the adapter of 0x{}: {error:#}", hex::encode(self.weights));
        "its files cannot be read".to_owned()
    }
}

impl AdapterSource for Stored {
    fn read(&self, config: &ModelConfig) -> Result<Adapter, String> {
        self.load(config).map_err(|error| self.refuse(&error))
    }

    fn bring(&self, brought: Brought) {
        let stored = self.clone();
        self.store
            .bring(&[self.config, self.weights], move |reached| {
                let far = matches!(reached, Ok(Reached::Remote));
                stored.fetched.store(far, Ordering::Relaxed);
                brought.tell(match reached {
                    Ok(_) => Ok(()),
                    Err(error) => Err(stored.refuse(&error.into())),
                });
            });
    }

    fn tier(&self) -> &'static str {
        match self.fetched.load(Ordering::Relaxed) {
            true => "store",
            false => "disk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn told(stored: &Stored) -> Result<(), String> {
        let (tell, told) = mpsc::channel();
        stored.bring(Brought::new(move |result| tell.send(result).unwrap()));
        told.recv().unwrap()
    }

    #[test]
    fn files_that_are_here_should_be_near_at_once_and_others_be_refused_without_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (config, weights) = (store.put(b"{}").unwrap(), store.put(b"weights").unwrap());
        let checked = |config, weights| CheckedAdapter {
            id: [1; 32],
            rank: 4,
            config,
            weights,
        };
        let here = Stored::of_checked(&store, &checked(config, weights));
        assert_eq!(told(&here), Ok(()));
        assert!(here.is_here() && here.tier() == "disk");
        let gone = Stored::of_checked(&store, &checked(config, [9; 32]));
        assert!(!gone.is_here());
        let refusal = told(&gone).unwrap_err();
        let path = folder.path().display().to_string();
        assert!(refusal.contains("cannot be read") && !refusal.contains(&path));
    }
}
