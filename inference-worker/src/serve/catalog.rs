//! The models served: live revisions of the base whose files are in the store.

mod allowed;
pub mod backoff;
mod checked;
mod follower;
#[cfg(test)]
mod footprint;
mod index_check;
mod loading;
mod names;
mod pins;
#[cfg(test)]
mod samples;
mod shelf;
mod stored;
mod training;

pub use allowed::{Allowed, LeastPrices};
pub use follower::Follower;
pub use loading::{lay_out, Loader};
pub use pins::Pins;
pub use training::{Opened, Training};

use backoff::Backoff;
use names::Names;
use openledger_chain::{
    apis::models::{RevisionInfo, TermsInfo},
    AccountId,
};
use openledger_engine::AdapterId;
use openledger_primitives::{revision::ModelRef, Balance, RevisionId, TermsIndex};
use openledger_text::TextModel;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

/// For how long a revision is not served that computed nothing, first and at most.
const FIRST_SUSPENSION: Duration = Duration::from_secs(60);
const LONGEST_SUSPENSION: Duration = Duration::from_secs(3600);

/// A revision that requests can name.
pub struct Served {
    /// The model's name on chain. Other adapters may have the same: see [`Catalog::find`].
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
    /// As the chain had it when its files were loaded and its terms read.
    info: RevisionInfo,
    terms: TermsInfo,
}

/// What was loaded for a revision; a base has neither.
#[derive(Clone, Default)]
struct Files {
    adapter: Option<AdapterId>,
    training: Option<Arc<Training>>,
}

impl Served {
    fn new(info: RevisionInfo, terms: TermsInfo, files: Files, text: TextModel) -> Self {
        let is_adapter = matches!(info.model, ModelRef::Adapter(_));
        Served {
            alias: info.label(),
            parent: is_adapter.then(|| info.base_label()),
            revision: info.revision,
            developer: info.developer,
            adapter: files.adapter,
            terms_index: terms.index,
            price_in: terms.terms.price_in,
            price_out: terms.terms.price_out,
            contributors_ppm: terms.terms.split.contributors,
            training: files.training,
            text,
            info,
            terms,
        }
    }

    /// The same files under what the chain says now.
    fn repriced(&self, info: RevisionInfo, terms: TermsInfo) -> Self {
        let files = Files {
            adapter: self.adapter,
            training: self.training.clone(),
        };
        Served::new(info, terms, files, self.text.clone())
    }

    /// The text of tokens of an answer.
    pub fn text_of(&self, output: &[u32], start: usize, length: usize) -> Option<String> {
        let tokens = output.get(start..start.checked_add(length)?)?;
        self.text.tokenizer().decode(tokens).ok()
    }
}

/// The catalog; reads never wait for the chain.
#[derive(Default)]
pub struct Catalog(RwLock<State>);

#[derive(Default)]
struct State {
    served: BTreeMap<RevisionId, Arc<Served>>,
    /// The revisions served of each model, in the order of the chain's kinds and numbers.
    models: BTreeMap<(bool, u32), BTreeSet<RevisionId>>,
    /// How many served revisions have an adapter.
    adapters: HashMap<AdapterId, usize>,
    names: Names,
    /// Revisions that were not to be served for a while. Kept when one is served no more, so that being
    /// priced anew begins nothing anew.
    suspended: HashMap<RevisionId, Suspension>,
}

/// Until when a revision is not to be served.
struct Suspension {
    backoff: Backoff,
    until: Instant,
}

/// A model in an order.
fn place(model: ModelRef) -> (bool, u32) {
    match model {
        ModelRef::Base(number) => (false, number),
        ModelRef::Adapter(number) => (true, number),
    }
}

impl State {
    /// What a name means: of the model that owns it, the newest revision served.
    fn named(&self, name: &str) -> Option<&Arc<Served>> {
        let owner = self.names.owner(name)?;
        let newest = self.models.get(&place(owner))?.last()?;
        self.served.get(newest)
    }

    fn is_suspended(&self, revision: RevisionId, now: Instant) -> bool {
        let suspension = self.suspended.get(&revision);
        suspension.is_some_and(|suspension| now < suspension.until)
    }

    fn suspend(&mut self, revision: RevisionId, now: Instant) -> Duration {
        let fresh = || Suspension {
            backoff: Backoff::new(FIRST_SUSPENSION, LONGEST_SUSPENSION),
            until: now,
        };
        let suspension = self.suspended.entry(revision).or_insert_with(fresh);
        // Requests that were under way fail together.
        if suspension.until <= now {
            if now.duration_since(suspension.until) > LONGEST_SUSPENSION {
                suspension.backoff.reset();
            }
            suspension.until = now + suspension.backoff.wait();
        }
        suspension.until.duration_since(now)
    }

    fn insert(&mut self, served: Served) -> Option<Arc<Served>> {
        let revision = served.revision;
        let gone = self.take(revision);
        let models = self.models.entry(place(served.info.model)).or_default();
        models.insert(revision);
        if let Some(adapter) = served.adapter {
            *self.adapters.entry(adapter).or_default() += 1;
        }
        self.served.insert(revision, Arc::new(served));
        gone
    }

    fn take(&mut self, revision: RevisionId) -> Option<Arc<Served>> {
        let gone = self.served.remove(&revision)?;
        let model = place(gone.info.model);
        if let Some(revisions) = self.models.get_mut(&model) {
            revisions.remove(&revision);
            if revisions.is_empty() {
                self.models.remove(&model);
            }
        }
        if let Some(adapter) = gone.adapter {
            let left = self.adapters.get(&adapter).map_or(0, |uses| uses - 1);
            match left {
                0 => self.adapters.remove(&adapter),
                left => self.adapters.insert(adapter, left),
            };
        }
        Some(gone)
    }

    /// The adapter of what is served no more, if nothing served has it.
    fn unused(&self, gone: Option<Arc<Served>>) -> Option<AdapterId> {
        let adapter = gone?.adapter?;
        (!self.adapters.contains_key(&adapter)).then_some(adapter)
    }
}

impl Catalog {
    /// By name or decimal revision id.
    ///
    /// Names are not unique on chain. One means the base if it is the base's, else the
    /// lowest-numbered adapter that has it, and of that adapter the newest revision served; whoever
    /// registers the name again is reached by revision only. A number is always a revision, so that
    /// no adapter can take requests by having one for a name.
    pub fn find(&self, model: &str) -> Option<Arc<Served>> {
        let state = self.read();
        let found = match model.parse::<RevisionId>() {
            Ok(revision) => state.served.get(&revision),
            Err(_) => state.named(model),
        };
        let now = Instant::now();
        found
            .filter(|one| !state.is_suspended(one.revision, now))
            .cloned()
    }

    /// Answers no more requests for a revision for a while, longer each time; how long. Its files stay
    /// loaded, and no other revision gets its name.
    pub fn suspend(&self, revision: RevisionId) -> Duration {
        self.write().suspend(revision, Instant::now())
    }

    /// All, by revision.
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.read().served.values().cloned().collect()
    }

    /// All, by revision, each with the id under which [`Self::find`] gives just it: the name for the
    /// revision that the name means, the number for the others.
    pub fn listed(&self) -> Vec<(String, Arc<Served>)> {
        let state = self.read();
        let id = |one: &Arc<Served>| {
            let named = state
                .named(&one.alias)
                .is_some_and(|named| named.revision == one.revision);
            if named && one.alias.parse::<RevisionId>().is_err() {
                one.alias.clone()
            } else {
                one.revision.to_string()
            }
        };
        let now = Instant::now();
        let served = state.served.values();
        served
            .filter(|one| !state.is_suspended(one.revision, now))
            .map(|one| (id(one), one.clone()))
            .collect()
    }

    fn set_names(&self, names: Names) {
        self.write().names = names;
    }

    /// Serves a revision; the adapter of what it replaces, if nothing served has it any more.
    #[must_use]
    fn put(&self, served: Served) -> Option<AdapterId> {
        let mut state = self.write();
        let replaced = state.insert(served);
        state.unused(replaced)
    }

    /// Stops serving a revision; its adapter, if nothing served has it any more. The pool knows an
    /// adapter by the digest of its files, which anybody can publish again.
    #[must_use]
    fn remove(&self, revision: RevisionId) -> Option<AdapterId> {
        let mut state = self.write();
        let removed = state.take(revision);
        state.unused(removed)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::*, *};

    fn catalog(served: Vec<Served>) -> Catalog {
        let catalog = Catalog::default();
        let infos: Vec<_> = served.iter().map(|one| one.info.clone()).collect();
        for one in served {
            assert_eq!(catalog.put(one), None);
        }
        catalog.set_names(names_of(&infos));
        catalog
    }

    fn found(catalog: &Catalog, model: &str) -> Option<RevisionId> {
        catalog.find(model).map(|one| one.revision)
    }

    #[test]
    fn a_name_means_the_adapter_that_had_it_first() {
        let catalog = catalog(vec![
            served(0, ModelRef::Base(0), "tiny", None),
            served(1, ModelRef::Adapter(0), "poet", Some(1)),
            served(2, ModelRef::Adapter(0), "poet", Some(2)),
            // A stranger's, newer than both.
            served(3, ModelRef::Adapter(1), "poet", Some(3)),
            // Nor is the base's name free, nor a number a name.
            served(4, ModelRef::Adapter(2), "tiny", Some(4)),
            served(5, ModelRef::Adapter(3), "9", Some(5)),
        ]);
        assert_eq!(found(&catalog, "poet"), Some(2));
        assert_eq!(found(&catalog, "tiny"), Some(0));
        assert_eq!(found(&catalog, "3"), Some(3));
        assert_eq!(found(&catalog, "1"), Some(1));
        assert_eq!(found(&catalog, "9"), None);
        let ids: Vec<_> = catalog.listed().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["tiny", "1", "poet", "3", "4", "5"]);
        for (id, one) in catalog.listed() {
            assert_eq!(found(&catalog, &id), Some(one.revision));
        }
    }

    #[test]
    fn a_name_is_not_passed_on_when_its_adapter_is_not_served() {
        let catalog = catalog(vec![
            served(1, ModelRef::Adapter(0), "poet", Some(1)),
            served(2, ModelRef::Adapter(1), "poet", Some(2)),
        ]);
        let _ = catalog.remove(1);
        assert_eq!(found(&catalog, "poet"), None);
        assert_eq!(catalog.listed()[0].0, "2");
    }

    #[test]
    fn a_revision_that_computes_nothing_is_not_served_for_a_while_and_then_longer() {
        let catalog = catalog(vec![
            served(1, ModelRef::Adapter(0), "poet", Some(1)),
            served(2, ModelRef::Adapter(0), "poet", Some(2)),
        ]);
        assert!(catalog.suspend(2) <= FIRST_SUSPENSION);
        assert_eq!(found(&catalog, "2"), None);
        // Nor does the name mean an older revision now.
        assert_eq!(found(&catalog, "poet"), None);
        assert_eq!(found(&catalog, "1"), Some(1));
        assert_eq!(catalog.listed().len(), 1);
        // The same files under another price are the same weights.
        assert_eq!(
            catalog.put(served(2, ModelRef::Adapter(0), "poet", Some(2))),
            None
        );
        assert_eq!(found(&catalog, "2"), None);

        let mut state = State::default();
        let start = Instant::now();
        assert_eq!(state.suspend(2, start), FIRST_SUSPENSION);
        let half = start + FIRST_SUSPENSION / 2;
        assert!(state.is_suspended(2, half) && !state.is_suspended(1, half));
        assert_eq!(state.suspend(2, half), FIRST_SUSPENSION / 2);
        let end = start + FIRST_SUSPENSION;
        assert!(!state.is_suspended(2, end));
        assert_eq!(state.suspend(2, end), FIRST_SUSPENSION * 2);
        let later = end + LONGEST_SUSPENSION * 3;
        assert_eq!(state.suspend(2, later), FIRST_SUSPENSION);
    }

    #[test]
    fn an_adapter_is_given_back_with_the_last_revision_that_has_it() {
        let catalog = catalog(vec![
            served(1, ModelRef::Adapter(0), "poet", Some(7)),
            served(2, ModelRef::Adapter(1), "copy", Some(7)),
        ]);
        // The stranger's copy of the same files is retired; the original is still asked for.
        assert_eq!(catalog.remove(2), None);
        let replaced = catalog.put(served(1, ModelRef::Adapter(0), "poet", Some(7)));
        assert_eq!(replaced, None);
        let replaced = catalog.put(served(1, ModelRef::Adapter(0), "poet", Some(8)));
        assert_eq!(replaced, Some(AdapterId([7; 32])));
        assert_eq!(catalog.remove(1), Some(AdapterId([8; 32])));
        assert_eq!(catalog.remove(1), None);
    }
}
