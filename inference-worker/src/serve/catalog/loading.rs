//! From digests on chain to an adapter in the engine.

use super::{
    follower::Library,
    index_check::{check, Sealed},
    rows::SharedRows,
    Contributed, Files, Training,
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
use openledger_engine::{AdapterId, AdapterSource, EngineHandle};
use openledger_model::{Adapter, ModelConfig};
use openledger_primitives::{hash::blake2_256, revision::ModelRef, ContributionId, Digest};
use openledger_spans::{Index, VersionRef};
use openledger_store::Store;
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

/// Takes the files of revisions from the store into memory. Clones share what is there.
#[derive(Clone)]
pub struct Loader {
    client: ChainClient,
    store: Store,
    folder: PathBuf,
    engine: EngineHandle,
    text: TextModel,
    tokenizer: Digest,
    rows: SharedRows,
}

/// What the chain says of a revision's data.
struct OnChain {
    versions: Vec<Sealed>,
    contributions: HashMap<ContributionId, Contribution>,
}

impl Loader {
    /// Loads from `store` by way of `folder`, for the base in the folder `base`.
    ///
    /// # Errors
    /// When the base has no readable tokenizer.
    pub fn new(
        client: ChainClient,
        store: Store,
        folder: PathBuf,
        engine: EngineHandle,
        text: TextModel,
        base: &Path,
    ) -> Result<Self> {
        let path = base.join("tokenizer.json");
        let tokenizer = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Loader {
            client,
            store,
            folder,
            engine,
            text,
            tokenizer: blake2_256(&tokenizer),
            rows: SharedRows::default(),
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

    fn files(&self, info: &RevisionInfo, on_chain: &OnChain) -> Result<Files> {
        let stored = Stored {
            store: self.store.clone(),
            manifest: info.facts.adapter_digest,
        };
        let adapter = stored
            .load(self.engine.config())
            .with_context(|| format!("the adapter 0x{}", hex::encode(stored.manifest)))?;
        ensure!(
            adapter.config.r == usize::from(info.facts.rank),
            "the adapter has rank {}, the revision says {}",
            adapter.config.r,
            info.facts.rank
        );
        let folder = self.lay_out("index", &info.facts.index)?;
        let index = Index::open(&folder)?;
        check(&index, &self.tokenizer, &on_chain.versions)?;
        let mut contributions = HashMap::new();
        for (id, contribution) in &on_chain.contributions {
            let rows = self
                .rows
                .get(&self.store, &contribution.submission.locator)
                .with_context(|| format!("the rows of contribution {id} in the store"))?;
            ensure!(
                rows.are_of(&contribution.submission),
                "the rows that contribution {id} points to are not those it was sealed with"
            );
            let owner = contribution.owner;
            contributions.insert(*id, Contributed { owner, rows });
        }
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
                        let contributed = contributions.get(&leaf.contribution)?;
                        Some((leaf.contribution, contributed.rows.as_ref()))
                    })
                    .collect(),
            })
            .collect();
        let builder = builder(&self.text, self.tokenizer, versions)?;
        ensure_is(&folder, &builder, &self.folder)?;
        let training = Training {
            index,
            params: info.facts.attribution,
            contributions,
        };
        // Last, so that nothing that fails leaves an adapter behind in the engine.
        let id = AdapterId(adapter.digest);
        self.engine.register_adapter(id, Arc::new(stored))?;
        self.engine.prefetch_adapter(id)?;
        Ok(Files {
            adapter: Some(id),
            training: Some(Arc::new(training)),
        })
    }

    fn lay_out(&self, kind: &str, digest: &Digest) -> Result<PathBuf> {
        lay_out(&self.store, &self.folder, kind, digest)
    }

    /// Whether it is worth asking the chain: the manifests are in the store.
    fn has(&self, info: &RevisionInfo) -> Result<()> {
        for (kind, digest) in [
            ("adapter", &info.facts.adapter_digest),
            ("index", &info.facts.index),
        ] {
            if !self.store.has(digest) {
                let digest = hex::encode(digest);
                return Err(anyhow!(
                    "the {kind} 0x{digest} is not in the store; put its files there to serve the \
                     revision"
                ));
            }
        }
        Ok(())
    }
}

impl Library for Loader {
    async fn load(&self, info: &RevisionInfo, at: &[u8; 32]) -> Result<Files, LoadError> {
        if let ModelRef::Base(_) = info.model {
            return Ok(Files::default());
        }
        self.has(info).map_err(LoadError::Files)?;
        let on_chain = self.on_chain(info, at).await?;
        let (loader, info) = (self.clone(), info.clone());
        // Reading and hashing takes its time, which the threads that answer requests do not have.
        tokio::task::spawn_blocking(move || loader.files(&info, &on_chain))
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

/// Most bytes of an adapter's configuration, and of its weights.
const MOST_CONFIG: u64 = 1 << 20;
const MOST_WEIGHTS: u64 = 1 << 31;

/// An adapter in the store, read from there each time that the engine has it no more in memory.
struct Stored {
    store: Store,
    manifest: Digest,
}

impl Stored {
    fn load(&self, config: &ModelConfig) -> Result<Adapter> {
        let manifest = self.store.manifest(&self.manifest)?;
        let file = |path: &str, most: u64| -> Result<Vec<u8>> {
            let entry = manifest.files.iter().find(|entry| entry.path == path);
            let entry = entry.with_context(|| format!("the folder has no {path}"))?;
            Ok(self.store.get_bounded(&entry.digest, most)?)
        };
        let adapter = Adapter::from_bytes(
            &file("adapter_config.json", MOST_CONFIG)?,
            &file("adapter_model.safetensors", MOST_WEIGHTS)?,
            config,
        )?;
        Ok(adapter)
    }
}

impl AdapterSource for Stored {
    fn read(&self, config: &ModelConfig) -> Result<Adapter, String> {
        self.load(config).map_err(|error| {
            // What went wrong is for the operator; paths are nobody else's.
            tracing::error!("the adapter 0x{}: {error:#}", hex::encode(self.manifest));
            "its files cannot be read".to_owned()
        })
    }

    fn tier(&self) -> &'static str {
        "disk"
    }
}

/// Lays a folder of the store out under `root`; one that is there is checked and kept.
pub fn lay_out(store: &Store, root: &Path, kind: &str, digest: &Digest) -> Result<PathBuf> {
    let folder = root.join(kind).join(hex::encode(digest));
    store
        .materialize(digest, &folder)
        .with_context(|| format!("the {kind} 0x{} in the store", hex::encode(digest)))?;
    Ok(folder)
}
