//! The models that are served: the base by its name, adapters by theirs.

use crate::metrics::REFUSED;
use openledger_engine::{AdapterError, AdapterId, EngineHandle, FolderSource};
use openledger_model::Adapter;
use openledger_openai::adapters::is_name;
use openledger_openai::ApiError;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Why an adapter is not loaded or unloaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No adapter folder was allowed.
    #[error("adapters can be loaded only from the folder given by --adapters, and there is none")]
    NoFolder,
    /// The path is not a folder below the allowed one, or a link is on the way.
    #[error(
        "`lora_path` must be a folder below the one given by --adapters, without links on the way"
    )]
    Outside,
    /// The name is the base's.
    #[error("`{0}` is the name of the base model")]
    BaseName(String),
    /// No name.
    #[error("`{0}` is not a name: at most 256 printable characters without spaces")]
    Name(String),
    /// Another adapter has the name.
    #[error("the adapter `{0}` is loaded already; send `load_inplace` to replace it")]
    Loaded(String),
    /// Somebody else moved the name meanwhile.
    #[error("the adapter `{0}` was changed by another request meanwhile; look at /v1/models and try again")]
    Changed(String),
    /// There is no such adapter.
    #[error("the adapter `{0}` is not loaded")]
    Unknown(String),
    /// The files are no adapter of this base.
    #[error("the adapter cannot be loaded: {0}")]
    Files(String),
    /// The device never has room for it.
    #[error("{0}; give the server more by --device-memory, or shorter contexts by --max-context")]
    TooLarge(AdapterError),
    /// The engine does not take it.
    #[error("the adapter cannot be loaded: {0}")]
    Engine(AdapterError),
}

/// Names, and where adapters may come from. Clones share the engine's names.
#[derive(Clone)]
pub struct Models {
    engine: EngineHandle,
    base: Arc<str>,
    /// The only folder that clients may name folders of; canonical.
    allowed: Option<Arc<Path>>,
    created: u64,
    /// Written while a name changes, so that an adapter gets no name while it is unloaded; read while the
    /// engine is asked, so that no name moves between its being found and its adapter's being taken.
    changes: Arc<RwLock<()>>,
    /// Names of adapters that could not be loaded at the start, and not since.
    refused: Arc<Mutex<BTreeSet<String>>>,
}

/// A model, as a request asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The base model.
    Base,
    /// An adapter on it.
    Adapter(AdapterId),
}

impl Target {
    /// What the engine is asked for.
    pub fn adapter(self) -> Option<AdapterId> {
        match self {
            Target::Base => None,
            Target::Adapter(id) => Some(id),
        }
    }
}

impl Models {
    /// The base by `name`; adapters may be loaded from folders below `allowed`.
    ///
    /// # Errors
    /// When the name is none, or the folder cannot be found.
    pub fn new(
        engine: &EngineHandle,
        name: &str,
        allowed: Option<&Path>,
    ) -> Result<Self, ModelError> {
        if !is_name(name) {
            return Err(ModelError::Name(name.to_owned()));
        }
        let allowed = allowed
            .map(|folder| folder.canonicalize().map(Arc::from))
            .transpose()
            .map_err(|error| ModelError::Files(error.to_string()))?;
        let created = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let models = Models {
            engine: engine.clone(),
            base: name.into(),
            allowed,
            created,
            changes: Arc::default(),
            refused: Arc::default(),
        };
        // None is something to look at too: a gauge that is absent raises no alarm.
        models.count_refused();
        Ok(models)
    }

    /// The model of a name; there is none for a name that nobody gave, and the base has only its own.
    pub fn find(&self, name: &str) -> Option<Target> {
        if name == &*self.base {
            return Some(Target::Base);
        }
        self.engine.adapters().resolve(name).map(Target::Adapter)
    }

    /// Asks the engine by the model of a name, which the name stands for until `ask` is done.
    ///
    /// # Errors
    /// When there is no such model, or `ask`'s.
    pub(crate) fn ask<T>(
        &self,
        name: &str,
        ask: impl FnOnce(Target) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let _unchanged = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        ask(self.find(name).ok_or_else(|| self.unknown(name))?)
    }

    /// Says that there is no model of this name; and if there should have been one, what became of it. Why it
    /// was refused is the operator's to know.
    pub(crate) fn unknown(&self, name: &str) -> ApiError {
        let mut error = ApiError::unknown_model(name);
        if self.refused().contains(name) {
            error.message = format!(
                "The adapter `{name}` was refused when the server started; its log says why. Once its files \
                 are whole, its operator loads it by POST /v1/load_lora_adapter or starts the server again."
            );
        }
        error
    }

    fn refused(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The base's name.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Since when this server serves, Unix seconds.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Adapters by name.
    pub fn adapters(&self) -> Vec<(String, AdapterId)> {
        self.engine.adapters().aliases()
    }

    /// The folder that a client means by `path`: below the allowed one, and no link leads there.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn folder(&self, path: &str) -> Result<PathBuf, ModelError> {
        let allowed = self.allowed.as_deref().ok_or(ModelError::NoFolder)?;
        let asked = allowed.join(path);
        let below = asked
            .strip_prefix(allowed)
            .map_err(|_| ModelError::Outside)?;
        let mut parts = below.components().peekable();
        if parts.peek().is_none() {
            return Err(ModelError::Outside);
        }
        let mut folder = allowed.to_path_buf();
        for part in parts {
            let Component::Normal(part) = part else {
                return Err(ModelError::Outside);
            };
            folder.push(part);
            // A link is no folder here.
            match std::fs::symlink_metadata(&folder) {
                Ok(meta) if meta.is_dir() => {}
                _ => return Err(ModelError::Outside),
            }
        }
        Ok(folder)
    }

    /// Reads an adapter and gives it a name. It is read anew whenever memory lacks it: the files must
    /// stay as they are. Blocks while it reads.
    ///
    /// # Errors
    /// [`ModelError`] says why not; names stay as they were then.
    pub fn load(&self, name: &str, folder: &Path, in_place: bool) -> Result<AdapterId, ModelError> {
        if name == &*self.base {
            return Err(ModelError::BaseName(name.to_owned()));
        }
        if !is_name(name) {
            return Err(ModelError::Name(name.to_owned()));
        }
        let names = self.engine.adapters();
        let current = names.resolve(name);
        if current.is_some() && !in_place {
            return Err(ModelError::Loaded(name.to_owned()));
        }
        let adapter = Adapter::load(folder, self.engine.config())
            .map_err(|error| ModelError::Files(error.to_string()))?;
        let fits = self.engine.check_adapter(&adapter);
        fits.map_err(|error| match error {
            AdapterError::TooLarge { .. } => ModelError::TooLarge(error),
            error => ModelError::Engine(error),
        })?;
        let id = AdapterId(adapter.digest);
        let _changing = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        self.engine
            .register_adapter(id, Arc::new(FolderSource(folder.to_path_buf())))
            .map_err(ModelError::Engine)?;
        match names.swap_alias(name, current, id) {
            Ok(()) => {}
            Err(AdapterError::AliasChanged { .. }) => {
                self.forget(id);
                return Err(ModelError::Changed(name.to_owned()));
            }
            Err(error) => return Err(ModelError::Engine(error)),
        }
        if let Some(old) = current.filter(|old| *old != id) {
            self.forget(old);
        }
        if self.refused().remove(name) {
            self.count_refused();
        }
        Ok(id)
    }

    /// Loads one of many adapters as [`load`](Self::load) does. One that cannot be loaded stops none of the
    /// others: who asks for it is told that it was refused.
    ///
    /// # Errors
    /// [`ModelError`] says why not.
    pub fn load_or_refuse(&self, name: &str, folder: &Path) -> Result<AdapterId, ModelError> {
        let loaded = self.load(name, folder, false);
        if loaded.is_err() && self.find(name).is_none() {
            self.refused().insert(name.to_owned());
            self.count_refused();
        }
        loaded
    }

    fn count_refused(&self) {
        metrics::gauge!(REFUSED).set(self.refused().len() as f64);
    }

    /// Takes a name away. Requests that run end with their adapter; later ones find no model.
    ///
    /// # Errors
    /// When there is no such adapter.
    pub fn unload(&self, name: &str) -> Result<(), ModelError> {
        let _changing = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        match self.engine.adapters().remove_alias(name) {
            Some(id) => {
                self.forget(id);
                Ok(())
            }
            None => Err(ModelError::Unknown(name.to_owned())),
        }
    }

    /// Unloads an adapter that no name points at any more.
    fn forget(&self, id: AdapterId) {
        let named = self.adapters().iter().any(|(_, other)| *other == id);
        if !named {
            self.engine.unload_adapter(id);
        }
    }
}
