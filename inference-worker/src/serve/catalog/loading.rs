//! From digests on chain to an adapter in the engine.

use super::{
    checked::{self, CheckedAdapter, CheckedContribution, CheckedIndex, Notes},
    follower::Library,
    index_check::{check, Sealed},
    stored::Stored,
    training::{open_index, DataLibrary},
    Files,
};
use crate::indexing::{builder, ensure_is, Version};
use anyhow::{anyhow, ensure, Context, Result};
use openledger_chain::{
    apis::{
        datanets::{Contribution, GetContribution, GetVersion, VersionLeaves},
        models::RevisionInfo,
    },
    ChainClient, ChainError,
};
use openledger_engine::{AdapterId, EngineHandle};
use openledger_primitives::{hash::blake2_256, revision::ModelRef, ContributionId, Digest};
use openledger_spans::{VersionRef, HEADER};
use openledger_store::{Rows, Store, StoreError, MAX_MANIFEST_BYTES};
use openledger_text::TextModel;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a revision is not loaded.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The chain could not be read; that says nothing of the revision.
    Chain(ChainError),
    /// Its files are missing or not what they must be.
    Files(anyhow::Error),
}

impl From<ChainError> for LoadError {
    fn from(error: ChainError) -> Self {
        LoadError::Chain(error)
    }
}

/// Checks the files of revisions and has them served. Clones share what is there.
#[derive(Clone)]
pub struct Loader {
    client: ChainClient,
    store: Store,
    folder: PathBuf,
    engine: EngineHandle,
    text: TextModel,
    tokenizer: Digest,
    notes: Notes,
    library: DataLibrary,
}

/// Where the notes of a revision's checks are.
struct NoteKeys {
    adapter: Digest,
    index: Digest,
}

/// What the chain says of a revision's data.
struct OnChain {
    versions: Vec<Sealed>,
    contributions: HashMap<ContributionId, Contribution>,
}

impl Loader {
    /// Loads from `store`, for the base in the folder `base`; notes and drafts are in `folder`. At most
    /// `source_bytes` of indexes and rows are in memory beside what is in use.
    ///
    /// # Errors
    /// When the base has no readable tokenizer, or the folder cannot be written.
    pub fn new(
        client: ChainClient,
        store: Store,
        folder: PathBuf,
        engine: EngineHandle,
        text: TextModel,
        base: &Path,
        source_bytes: u64,
    ) -> Result<Self> {
        let path = base.join("tokenizer.json");
        let tokenizer = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let notes = Notes::open(folder.join("checked"))?;
        let library = DataLibrary::new(store.clone(), notes.clone(), source_bytes);
        Ok(Loader {
            client,
            store,
            folder,
            engine,
            text,
            tokenizer: blake2_256(&tokenizer),
            notes,
            library,
        })
    }

    /// Reads versions, leaves and contributions as of a block.
    async fn on_chain(&self, info: &RevisionInfo, at: &[u8; 32]) -> Result<OnChain, LoadError> {
        let unknown = |what: String| LoadError::Files(anyhow!("{what}, which the chain lacks"));
        let mut on_chain = OnChain {
            versions: Vec::new(),
            contributions: HashMap::new(),
        };
        for used in &info.versions {
            let (datanet, version) = (used.datanet, used.version);
            let get = GetVersion { datanet, version };
            let Some(sealed) = self.client.query_at(&get, at).await? else {
                let what = format!("the revision lists version {version} of Datanet {datanet}");
                return Err(unknown(what));
            };
            let leaves = VersionLeaves { datanet, version };
            let leaves = self.client.query_at(&leaves, at).await?;
            for leaf in &leaves {
                let contribution = leaf.contribution;
                if on_chain.contributions.contains_key(&contribution) {
                    continue;
                }
                let get = GetContribution { contribution };
                let Some(found) = self.client.query_at(&get, at).await? else {
                    return Err(unknown(format!(
                        "a version has contribution {contribution}"
                    )));
                };
                on_chain.contributions.insert(contribution, found);
            }
            on_chain.versions.push(Sealed {
                datanet,
                version,
                root: sealed.root,
                leaves,
            });
        }
        Ok(on_chain)
    }

    /// What the checks of a revision depend on.
    fn note_keys(&self, info: &RevisionInfo) -> NoteKeys {
        let adapter = (info.base_manifest, info.facts.adapter_digest);
        let versions: Vec<_> = info
            .versions
            .iter()
            .map(|used| (used.datanet, used.version))
            .collect();
        let chain = self.client.genesis_hash();
        let index = (chain, self.tokenizer, info.facts.index, versions);
        NoteKeys {
            adapter: checked::key("adapter", &adapter),
            index: checked::key("index", &index),
        }
    }

    /// Checks what has not been checked, and has the engine know the adapter. Nothing of index and rows
    /// stays in memory.
    fn files(
        &self,
        info: &RevisionInfo,
        keys: &NoteKeys,
        on_chain: Option<&OnChain>,
    ) -> Result<Files> {
        let adapter = self
            .adapter(info, &keys.adapter)
            .with_context(|| format!("the adapter 0x{}", hex::encode(info.facts.adapter_digest)))?;
        ensure!(
            adapter.rank == u32::from(info.facts.rank),
            "the adapter has rank {}, the revision says {}",
            adapter.rank,
            info.facts.rank
        );
        if let Some(on_chain) = on_chain {
            let checked = self.check_index(info, on_chain)?;
            self.notes.write(&keys.index, &checked)?;
        }
        let training = self
            .library
            .training(info.facts.attribution, info.facts.index, keys.index);
        // Last, so that nothing that fails leaves an adapter behind in the engine.
        let id = AdapterId(adapter.id);
        let stored = Stored::of_checked(&self.store, &adapter);
        // What would have to be fetched is fetched when it is asked for.
        let is_here = stored.is_here();
        self.engine.register_adapter(id, Arc::new(stored))?;
        if is_here {
            self.engine.prefetch_adapter(id)?;
        }
        Ok(Files {
            adapter: Some(id),
            training: Some(Arc::new(training)),
        })
    }

    fn adapter(&self, info: &RevisionInfo, key: &Digest) -> Result<CheckedAdapter> {
        if let Some(checked) = self.notes.read(key) {
            return Ok(checked);
        }
        let stored = Stored::of_manifest(&self.store, &info.facts.adapter_digest)?;
        let checked = stored.check(self.engine.config())?;
        self.notes.write(key, &checked)?;
        Ok(checked)
    }

    /// Holds the index against what is sealed, and against one that is built from the rows.
    fn check_index(&self, info: &RevisionInfo, on_chain: &OnChain) -> Result<CheckedIndex> {
        let digest = &info.facts.index;
        let (index, _files) = open_index(&self.store, digest)
            .with_context(|| format!("the index 0x{}", hex::encode(digest)))?;
        check(&index, &self.tokenizer, &on_chain.versions)?;
        let mut contributions: HashMap<ContributionId, Rows> = HashMap::new();
        let mut noted = Vec::with_capacity(on_chain.contributions.len());
        for (id, contribution) in &on_chain.contributions {
            let locator = contribution.submission.locator;
            let rows = self
                .store
                .rows(&locator)
                .with_context(|| format!("the rows of contribution {id} in the store"))?;
            ensure!(
                rows.are_of(&contribution.submission),
                "the rows that contribution {id} points to are not those it was sealed with"
            );
            noted.push(CheckedContribution {
                contribution: *id,
                owner: contribution.owner.0,
                locator,
            });
            contributions.insert(*id, rows);
        }
        noted.sort_unstable_by_key(|one| one.contribution);
        let versions = on_chain
            .versions
            .iter()
            .map(|sealed| Version {
                of: VersionRef {
                    datanet: sealed.datanet,
                    version: sealed.version,
                    root: sealed.root,
                },
                contributions: sealed
                    .leaves
                    .iter()
                    .filter_map(|leaf| {
                        let rows = contributions.get(&leaf.contribution)?;
                        Some((leaf.contribution, rows))
                    })
                    .collect(),
            })
            .collect();
        let builder = builder(&self.text, self.tokenizer, versions)?;
        let manifest = self.store.manifest(digest)?;
        let published = self.store.file(&manifest, HEADER)?;
        ensure_is(&published, &builder, &self.folder)?;
        Ok(CheckedIndex {
            contributions: noted,
        })
    }

    /// Whether it is worth asking the chain: the manifests are in the store, or have come there.
    async fn has(&self, info: &RevisionInfo) -> Result<()> {
        for (kind, digest) in [
            ("adapter", &info.facts.adapter_digest),
            ("index", &info.facts.index),
        ] {
            if self.store.has(digest) {
                continue;
            }
            let hex = hex::encode(digest);
            if !self.store.has_remote() {
                return Err(anyhow!(
                    "the {kind} 0x{hex} is not in the store; put its files there to serve the revision"
                ));
            }
            bring(&self.store, *digest)
                .await
                .with_context(|| format!("the {kind} 0x{hex}"))?;
        }
        Ok(())
    }
}

/// Brings one object to this disk.
async fn bring(store: &Store, digest: Digest) -> Result<(), StoreError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    store.bring(&[digest], move |reached| drop(tell.send(reached)));
    match told.await {
        Ok(reached) => reached.map(|_| ()),
        Err(_) => Err(StoreError::Missing(digest)),
    }
}

impl Library for Loader {
    async fn load(&self, info: &RevisionInfo, at: &[u8; 32]) -> Result<Files, LoadError> {
        if let ModelRef::Base(_) = info.model {
            return Ok(Files::default());
        }
        let keys = self.note_keys(info);
        let checked = self.notes.read::<CheckedAdapter>(&keys.adapter).is_some()
            && self.notes.read::<CheckedIndex>(&keys.index).is_some();
        // What was checked and can be fetched again need not be here.
        if !(checked && self.store.has_remote()) {
            self.has(info).await.map_err(LoadError::Files)?;
        }
        let on_chain = match self.notes.read::<CheckedIndex>(&keys.index) {
            Some(_) => None,
            None => Some(self.on_chain(info, at).await?),
        };
        let (loader, info) = (self.clone(), info.clone());
        // Reading and hashing takes its time, which the threads that answer requests do not have.
        tokio::task::spawn_blocking(move || loader.files(&info, &keys, on_chain.as_ref()))
            .await
            .map_err(|error| LoadError::Files(error.into()))?
            .map_err(LoadError::Files)
    }

    fn unload(&self, adapter: AdapterId) {
        self.engine.unload_adapter(adapter);
    }

    fn text(&self) -> TextModel {
        self.text.clone()
    }
}

/// Lays a folder of the store out under `root`; one that is there is checked and kept. Its manifest is
/// kept in the store for good, so that the next start needs no remote store.
pub fn lay_out(store: &Store, root: &Path, kind: &str, digest: &Digest) -> Result<PathBuf> {
    let folder = root.join(kind).join(hex::encode(digest));
    let lay = || -> Result<(), StoreError> {
        store.materialize(digest, &folder)?;
        store.put(&store.get_bounded(digest, MAX_MANIFEST_BYTES)?)?;
        Ok(())
    };
    lay().with_context(|| format!("the {kind} 0x{} in the store", hex::encode(digest)))?;
    Ok(folder)
}
