//! Following the chain's revisions of one base.

use super::{
    allowed::Allowed, backoff::Backoff, loading::LoadError, names::Names, Catalog, Files, Served,
};
use openledger_chain::{
    apis::models::{Adapter, GetAdapter, GetRevision, GetTerms, RevisionInfo, TermsInfo},
    calls::workers::MAX_SERVED,
    ChainClient, ChainError,
};
use openledger_engine::AdapterId;
use openledger_primitives::{
    revision::{ModelRef, RevisionStatus},
    AdapterId as AdapterNumber, BaseId, BlockNumber, Digest, RevisionId, TermsIndex,
};
use openledger_text::TextModel;
use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, Instant},
};

/// Waits before what could not be served is tried again.
const FIRST_WAIT: Duration = Duration::from_secs(6);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where the chain stands: all reads of one round are of the same best block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Number of the finalized head.
    pub(super) finalized: BlockNumber,
    /// Its hash.
    pub(super) finalized_hash: [u8; 32],
    /// Hash of a best block above it.
    pub(super) best: [u8; 32],
}

/// What is read of the chain.
pub(super) trait Chain {
    fn heads(&self) -> impl Future<Output = Result<Heads, ChainError>> + Send;
    fn revision(
        &self,
        revision: RevisionId,
        at: &[u8; 32],
    ) -> impl Future<Output = Result<Option<RevisionInfo>, ChainError>> + Send;
    fn adapter(
        &self,
        adapter: AdapterNumber,
        at: &[u8; 32],
    ) -> impl Future<Output = Result<Option<Adapter>, ChainError>> + Send;
    /// Terms of an index, or those in effect.
    fn terms(
        &self,
        model: ModelRef,
        index: Option<TermsIndex>,
        at: &[u8; 32],
    ) -> impl Future<Output = Result<Option<TermsInfo>, ChainError>> + Send;
}

impl Chain for ChainClient {
    async fn heads(&self) -> Result<Heads, ChainError> {
        // In this order: the best block then stands on the finalized one.
        let finalized = self.finalized_block().await?;
        let best = self.best_block().await?.hash;
        Ok(Heads {
            finalized: finalized.number,
            finalized_hash: finalized.hash,
            best,
        })
    }

    async fn revision(
        &self,
        revision: RevisionId,
        at: &[u8; 32],
    ) -> Result<Option<RevisionInfo>, ChainError> {
        self.query_at(&GetRevision { revision }, at).await
    }

    async fn adapter(
        &self,
        adapter: AdapterNumber,
        at: &[u8; 32],
    ) -> Result<Option<Adapter>, ChainError> {
        self.query_at(&GetAdapter { adapter }, at).await
    }

    async fn terms(
        &self,
        model: ModelRef,
        index: Option<TermsIndex>,
        at: &[u8; 32],
    ) -> Result<Option<TermsInfo>, ChainError> {
        self.query_at(&GetTerms { model, index }, at).await
    }
}

/// Where the files of revisions come from and go to.
pub(super) trait Library {
    /// Checks and loads the files of a revision as of a block.
    fn load(
        &self,
        info: &RevisionInfo,
        at: &[u8; 32],
    ) -> impl Future<Output = Result<Files, LoadError>> + Send;
    /// Gives up an adapter that nothing served has any more.
    fn unload(&self, adapter: AdapterId);
    /// Tokenizer of the base.
    fn text(&self) -> TextModel;
}

/// Brings the catalog in line with the chain, round by round.
pub struct Follower<C = ChainClient, L = super::Loader> {
    chain: C,
    library: L,
    base: BaseId,
    manifest: Digest,
    allowed: Allowed,
    /// Revisions below this one are in finalized blocks: what they are does not change any more.
    settled: RevisionId,
    /// All revisions of the base, as last read.
    known: BTreeMap<RevisionId, RevisionInfo>,
    /// Names of all adapters on chain, by number, and how many of them are final.
    adapters: Vec<Vec<u8>>,
    settled_adapters: AdapterNumber,
    names: Names,
    waiting: BTreeMap<RevisionId, Waiting>,
    full: bool,
}

/// A revision that could not be served.
struct Waiting {
    backoff: Backoff,
    again: Instant,
    why: String,
}

/// How what the chain says differs from what is served.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    /// In what needs no file: terms, mostly.
    Facts,
    /// In what was loaded: after a reorg the number may belong to another revision.
    Files,
}

fn change(served: &Served, info: &RevisionInfo, terms: &TermsInfo) -> Change {
    let old = &served.info;
    if (old.model, &old.facts, &old.versions) != (info.model, &info.facts, &info.versions) {
        Change::Files
    } else if old != info || served.terms != *terms {
        Change::Facts
    } else {
        Change::None
    }
}

#[allow(private_bounds)]
impl<C: Chain, L: Library> Follower<C, L> {
    /// Follows the revisions of the base whose files have this manifest.
    pub fn new(chain: C, library: L, base: BaseId, manifest: Digest, allowed: Allowed) -> Self {
        Follower {
            chain,
            library,
            base,
            manifest,
            allowed,
            settled: 0,
            known: BTreeMap::new(),
            adapters: Vec::new(),
            settled_adapters: 0,
            names: Names::default(),
            waiting: BTreeMap::new(),
            full: false,
        }
    }

    /// One round. An error leaves the rest of the round to the next one: what is known of a revision
    /// is kept, and what was not served yet is found again.
    pub async fn follow(&mut self, catalog: &Catalog) -> Result<(), ChainError> {
        let heads = self.chain.heads().await?;
        self.discover(&heads).await?;
        self.compare(catalog, &heads).await?;
        self.add(catalog, &heads).await
    }

    /// Entries of the operator's list that name nothing on chain.
    pub fn idle_entries(&self) -> Vec<String> {
        self.allowed.idle(self.known.values(), &self.names)
    }

    /// Reads what is new, and again what a reorg could still change.
    async fn discover(&mut self, heads: &Heads) -> Result<(), ChainError> {
        let mut revision = self.settled;
        while let Some(info) = self.chain.revision(revision, &heads.best).await? {
            if revision == self.settled && info.published_at <= heads.finalized {
                self.settled = revision.saturating_add(1);
            }
            self.note(info);
            revision = revision.saturating_add(1);
        }
        self.known.split_off(&revision);
        self.learn_names(heads).await
    }

    /// Reads what adapters are called, those that a reorg could still change once more.
    async fn learn_names(&mut self, heads: &Heads) -> Result<(), ChainError> {
        let mut number = self.settled_adapters;
        let mut fresh = Vec::new();
        while let Some(adapter) = self.chain.adapter(number, &heads.best).await? {
            fresh.push((adapter.name, adapter.registered_at));
            number = number.saturating_add(1);
        }
        let final_ones = fresh
            .iter()
            .take_while(|(_, registered)| *registered <= heads.finalized)
            .count();
        self.adapters.truncate(self.settled_adapters as usize);
        self.adapters
            .extend(fresh.into_iter().map(|(name, _)| name));
        self.settled_adapters = self.settled_adapters.saturating_add(final_ones as u32);
        let base = self
            .known
            .values()
            .find(|info| matches!(info.model, ModelRef::Base(_)))
            .map(|info| (info.base, info.name.as_slice()));
        let names = Names::new(base, &self.adapters);
        self.names = names;
        Ok(())
    }

    /// Keeps what the chain says of a revision, if it is of the base.
    fn note(&mut self, info: RevisionInfo) {
        let revision = info.revision;
        if info.base != self.base || info.base_manifest != self.manifest {
            self.known.remove(&revision);
            return;
        }
        let identity = |info: &RevisionInfo| (info.model, info.facts);
        let new = identity(&info);
        let old = self.known.insert(revision, info);
        if old.as_ref().map(identity) != Some(new) {
            // Another revision than the one that could not be served.
            self.waiting.remove(&revision);
        }
    }

    fn may_serve(&self, info: &RevisionInfo) -> bool {
        info.status == RevisionStatus::Live
            && info.base == self.base
            && info.base_manifest == self.manifest
            && self.allowed.allows(info, &self.names)
            && (self.allowed.is_chosen() || !self.is_copy(info))
    }

    /// Whether an earlier revision of another model has the same adapter. Copies cost their maker next
    /// to nothing and would fill what a worker can announce.
    fn is_copy(&self, info: &RevisionInfo) -> bool {
        matches!(info.model, ModelRef::Adapter(_))
            && self.known.range(..info.revision).any(|(_, earlier)| {
                earlier.model != info.model
                    && earlier.facts.adapter_digest == info.facts.adapter_digest
            })
    }

    /// The terms in effect, if they are final: work at a price that a reorg takes back is never paid.
    async fn final_terms(
        &self,
        model: ModelRef,
        heads: &Heads,
    ) -> Result<Option<TermsInfo>, ChainError> {
        let Some(terms) = self.chain.terms(model, None, &heads.best).await? else {
            return Ok(None);
        };
        let index = Some(terms.index);
        let known = self
            .chain
            .terms(model, index, &heads.finalized_hash)
            .await?;
        Ok(Some(terms).filter(|_| known == Some(terms)))
    }

    /// Holds what is served against the chain.
    async fn compare(&mut self, catalog: &Catalog, heads: &Heads) -> Result<(), ChainError> {
        let at = &heads.best;
        catalog.set_names(self.names.clone());
        let mut prices = BTreeMap::new();
        for served in catalog.all() {
            let revision = served.revision;
            let info = self.chain.revision(revision, at).await?;
            if let Some(info) = &info {
                self.note(info.clone());
            }
            let Some(info) = info.filter(|info| self.may_serve(info)) else {
                tracing::info!(revision, alias = served.alias, "not served any more");
                self.free(catalog.remove(revision));
                continue;
            };
            let terms = match prices.get(&info.model) {
                Some(terms) => *terms,
                None => {
                    let terms = self.final_terms(info.model, heads).await?;
                    prices.insert(info.model, terms);
                    terms
                }
            };
            let Some(terms) = terms else {
                tracing::warn!(revision, "not served any more: its terms were taken back");
                self.free(catalog.remove(revision));
                continue;
            };
            if let Some(why) = self.allowed.too_cheap(&terms) {
                tracing::warn!(revision, "not served any more: {why}");
                self.free(catalog.remove(revision));
                continue;
            }
            match change(&served, &info, &terms) {
                Change::None => {}
                Change::Facts => {
                    tracing::info!(revision, terms = terms.index, "terms or facts changed");
                    let fresh = served.repriced(info, terms);
                    self.free(catalog.put(fresh));
                }
                // Not for one more request: it would be answered by other weights than are billed.
                // The rest of the round loads what the number means now.
                Change::Files => {
                    tracing::warn!(
                        revision,
                        "another revision than was loaded, loading it anew"
                    );
                    self.free(catalog.remove(revision));
                }
            }
        }
        Ok(())
    }

    /// Serves what is not served yet, the oldest first, as far as a worker can announce it.
    async fn add(&mut self, catalog: &Catalog, heads: &Heads) -> Result<(), ChainError> {
        let at = &heads.best;
        let served: Vec<RevisionId> = catalog.all().iter().map(|one| one.revision).collect();
        let mut room = MAX_SERVED.saturating_sub(served.len());
        let candidates: Vec<RevisionId> = self
            .known
            .values()
            .filter(|info| self.may_serve(info) && served.binary_search(&info.revision).is_err())
            .map(|info| info.revision)
            .collect();
        for revision in candidates {
            if room == 0 {
                if !self.full {
                    tracing::warn!(
                        "{MAX_SERVED} revisions are served, a worker can announce no more; choose \
                         with --models which ones"
                    );
                }
                self.full = true;
                return Ok(());
            }
            let now = Instant::now();
            if self
                .waiting
                .get(&revision)
                .is_some_and(|one| now < one.again)
            {
                continue;
            }
            let Some(info) = self.chain.revision(revision, at).await? else {
                continue;
            };
            self.note(info.clone());
            if !self.may_serve(&info) {
                continue;
            }
            if info.published_at > heads.finalized {
                // Final in a moment; a reorg could make the number another revision's.
                continue;
            }
            if self.chain.terms(info.model, None, at).await?.is_none() {
                self.wait(revision, "no terms are in force".into());
                continue;
            }
            let Some(terms) = self.final_terms(info.model, heads).await? else {
                continue;
            };
            if let Some(why) = self.allowed.too_cheap(&terms) {
                self.wait(revision, why);
                continue;
            }
            match self.library.load(&info, at).await {
                Ok(files) => {
                    self.waiting.remove(&revision);
                    let served = Served::new(info, terms, files, self.library.text());
                    tracing::info!(revision, alias = served.alias, "serving");
                    self.free(catalog.put(served));
                    room = room.saturating_sub(1);
                }
                Err(LoadError::Chain(error)) => return Err(error),
                Err(LoadError::Files(error)) => self.wait(revision, format!("{error:#}")),
            }
        }
        self.full = false;
        Ok(())
    }

    /// Tries a revision again later; says why when it was not said before.
    fn wait(&mut self, revision: RevisionId, why: String) {
        let fresh = || Waiting {
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            again: Instant::now(),
            why: String::new(),
        };
        let waiting = self.waiting.entry(revision).or_insert_with(fresh);
        if waiting.why != why {
            tracing::warn!(revision, "not served, tried again later: {why}");
            waiting.why = why;
        }
        waiting.again = Instant::now() + waiting.backoff.wait();
    }

    fn free(&self, adapter: Option<AdapterId>) {
        if let Some(adapter) = adapter {
            self.library.unload(adapter);
        }
    }
}

#[cfg(test)]
mod tests;
