//! The models served: every live revision of the base whose files are in the store.

use anyhow::{bail, ensure, Context, Result};
use openledger_chain::{AccountId, ChainClient};
use openledger_engine::{AdapterId, EngineHandle};
use openledger_model::Adapter;
use openledger_primitives::{
    revision::{AttributionParams, ModelRef, RevisionStatus},
    Balance, BaseId, ContributionId, Digest, RevisionId, TermsIndex,
};
use openledger_spans::Index;
use openledger_store::{Rows, Store};
use openledger_text::TextModel;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

/// A revision that requests can name.
pub struct Served {
    /// What clients put into `model`: the model's name on chain.
    pub alias: String,
    /// The base's name; none for the base itself.
    pub parent: Option<String>,
    /// Revision.
    pub revision: RevisionId,
    /// Who earns the developer's part.
    pub developer: AccountId,
    /// In the engine's pool; none for the base.
    pub adapter: Option<AdapterId>,
    /// Terms in force.
    pub terms_index: TermsIndex,
    /// Planck per 1,000 prompt tokens.
    pub price_in: Balance,
    /// Planck per 1,000 output tokens.
    pub price_out: Balance,
    /// Contributors' part of a fee, parts per million.
    pub contributors_ppm: u32,
    /// What it was trained on; none for a base.
    pub training: Option<Arc<Training>>,
    text: TextModel,
}

/// The rows that a revision was trained on.
pub struct Training {
    /// Spans of the rows.
    pub index: Index,
    /// Constants of the payout rule.
    pub params: AttributionParams,
    /// Owners and rows.
    pub contributions: HashMap<ContributionId, Contributed>,
}

/// A contribution in a version.
pub struct Contributed {
    /// Owner.
    pub owner: AccountId,
    rows: Rows,
}

impl Contributed {
    /// The text of a row.
    pub fn text(&self, row: u32) -> Option<String> {
        self.rows
            .as_slice()
            .get(row as usize)
            .map(|row| row.text().to_owned())
    }
}

impl Served {
    /// The text of tokens of an answer.
    pub fn text_of(&self, output: &[u32], start: usize, length: usize) -> Option<String> {
        let tokens = output.get(start..start.checked_add(length)?)?;
        self.text.tokenizer().decode(tokens).ok()
    }
}

/// The catalog; reads never wait for the chain.
#[derive(Default)]
pub struct Catalog {
    served: RwLock<BTreeMap<RevisionId, Arc<Served>>>,
}

impl Catalog {
    /// By alias (its newest revision) or decimal revision id.
    pub fn find(&self, model: &str) -> Option<Arc<Served>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = model
            .parse()
            .ok()
            .and_then(|id: RevisionId| served.get(&id))
        {
            return Some(found.clone());
        }
        served
            .values()
            .rev()
            .find(|one| one.alias == model)
            .cloned()
    }

    /// All, by revision.
    pub fn all(&self) -> Vec<Arc<Served>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.values().cloned().collect()
    }

    fn put(&self, served: Served) {
        let mut all = self.served.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(served.revision, Arc::new(served));
    }

    fn remove(&self, revision: RevisionId) -> Option<Arc<Served>> {
        let mut all = self.served.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(&revision)
    }
}

/// Follows the chain's revisions of one base.
pub struct Follower {
    /// Base.
    pub base: BaseId,
    /// Chain.
    pub client: ChainClient,
    /// Store.
    pub store: Store,
    /// Where files are laid out.
    pub folder: PathBuf,
    /// Engine.
    pub engine: EngineHandle,
    /// Tokenizer of the base.
    pub text: TextModel,
    /// Revisions below this one were looked at.
    pub next: RevisionId,
    /// Revisions whose files were not in the store yet.
    pub waiting: Vec<RevisionId>,
}

impl Follower {
    /// Looks at what is new on chain; true when the set of served revisions changed.
    pub async fn follow(&mut self, catalog: &Catalog) -> Result<bool> {
        let mut changed = false;
        let mut candidates = std::mem::take(&mut self.waiting);
        while self.client.revision(self.next).await?.is_some() {
            candidates.push(self.next);
            self.next += 1;
        }
        for revision in candidates {
            match self.load(revision).await {
                Ok(Some(served)) => {
                    tracing::info!(revision, alias = served.alias, "serving");
                    catalog.put(served);
                    changed = true;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(revision, "not served yet: {error:#}");
                    self.waiting.push(revision);
                }
            }
        }
        for served in catalog.all() {
            let Some(info) = self.client.revision(served.revision).await? else {
                continue;
            };
            if info.status != RevisionStatus::Live {
                catalog.remove(served.revision);
                if let Some(adapter) = served.adapter {
                    self.engine.unload_adapter(adapter);
                }
                changed = true;
            } else if info.terms.is_some_and(|terms| terms != served.terms_index) {
                if let Some(fresh) = self.load(served.revision).await? {
                    catalog.put(fresh);
                }
            }
        }
        Ok(changed)
    }

    /// Loads a revision; none when it is of another base, retired, or without terms.
    async fn load(&self, revision: RevisionId) -> Result<Option<Served>> {
        let Some(info) = self.client.revision(revision).await? else {
            return Ok(None);
        };
        if info.base != self.base || info.status != RevisionStatus::Live {
            return Ok(None);
        }
        let Some(terms) = self.client.terms(info.model, None).await? else {
            bail!("no terms are in force");
        };
        let (adapter, training) = match info.model {
            ModelRef::Base(_) => (None, None),
            ModelRef::Adapter(_) => {
                let folder = self.lay_out("adapter", &info.facts.adapter_digest)?;
                let adapter = Adapter::load(&folder, self.engine.config())?;
                let folder = self.lay_out("index", &info.facts.index)?;
                let index = Index::open(&folder)?;
                for version in index.versions() {
                    let sealed = self
                        .client
                        .version(version.datanet, version.version)
                        .await?;
                    ensure!(
                        info.versions.iter().any(|listed| {
                            (listed.datanet, listed.version) == (version.datanet, version.version)
                        }) && sealed.is_some_and(|sealed| sealed.root == version.root),
                        "the span index is over a version that the revision does not list"
                    );
                }
                let mut contributions = HashMap::new();
                for version in &info.versions {
                    let leaves = self.client.version_leaves(version.datanet, version.version);
                    for leaf in leaves.await? {
                        let contribution = self
                            .client
                            .contribution(leaf.contribution)
                            .await?
                            .context("a version lists an unknown contribution")?;
                        let rows = self.store.rows(&contribution.submission.locator)?;
                        contributions.insert(
                            leaf.contribution,
                            Contributed {
                                owner: contribution.owner,
                                rows,
                            },
                        );
                    }
                }
                let training = Training {
                    index,
                    params: info.facts.attribution,
                    contributions,
                };
                (
                    Some(self.engine.load_adapter(&adapter)?),
                    Some(Arc::new(training)),
                )
            }
        };
        Ok(Some(Served {
            alias: info.label(),
            parent: adapter.map(|_| info.base_label()),
            revision,
            developer: info.developer,
            adapter,
            terms_index: terms.index,
            price_in: terms.terms.price_in,
            price_out: terms.terms.price_out,
            contributors_ppm: terms.terms.split.contributors,
            training,
            text: self.text.clone(),
        }))
    }

    fn lay_out(&self, kind: &str, digest: &Digest) -> Result<PathBuf> {
        lay_out(&self.store, &self.folder, kind, digest)
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
