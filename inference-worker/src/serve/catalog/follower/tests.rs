use super::{
    super::{samples::*, LeastPrices},
    *,
};
use openledger_primitives::revision::ModelRef;
use std::sync::{Arc, Mutex, MutexGuard};

/// A chain and a store as a test wants them.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Inside>>);

struct Inside {
    finalized: BlockNumber,
    /// Of the terms that the finalized block knows; none for those in effect.
    final_price: Option<u128>,
    revisions: BTreeMap<RevisionId, RevisionInfo>,
    adapters: BTreeMap<AdapterNumber, Adapter>,
    price: u128,
    /// Reads that still succeed; none for all.
    reads: Option<usize>,
    /// Revisions whose files are not in the store.
    missing: Vec<RevisionId>,
    loads: Vec<RevisionId>,
    unloads: Vec<AdapterId>,
}

impl Default for Inside {
    /// Everything is final but what a test says is not.
    fn default() -> Self {
        Inside {
            finalized: 1_000,
            final_price: None,
            revisions: BTreeMap::new(),
            adapters: BTreeMap::new(),
            price: 0,
            reads: None,
            missing: Vec::new(),
            loads: Vec::new(),
            unloads: Vec::new(),
        }
    }
}

/// Where the finalized state is read.
const FINALIZED: [u8; 32] = [1; 32];

impl World {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    fn publish(&self, info: RevisionInfo) {
        if let ModelRef::Adapter(number) = info.model {
            self.register(number, &info);
        }
        self.inside().revisions.insert(info.revision, info);
    }

    fn register(&self, number: AdapterNumber, info: &RevisionInfo) {
        let adapter = Adapter {
            owner: info.developer,
            base: info.base,
            name: info.name.clone(),
            live: Vec::new(),
            registered_at: info.published_at,
        };
        self.inside().adapters.insert(number, adapter);
    }

    fn read(&self) -> Result<MutexGuard<'_, Inside>, ChainError> {
        let mut inside = self.inside();
        match &mut inside.reads {
            Some(0) => return Err(ChainError::Missing("the node".into())),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(inside)
    }
}

impl Chain for World {
    async fn heads(&self) -> Result<Heads, ChainError> {
        let finalized = self.read()?.finalized;
        Ok(Heads {
            finalized,
            finalized_hash: FINALIZED,
            best: [0; 32],
        })
    }

    async fn revision(
        &self,
        revision: RevisionId,
        _: &[u8; 32],
    ) -> Result<Option<RevisionInfo>, ChainError> {
        Ok(self.read()?.revisions.get(&revision).cloned())
    }

    async fn adapter(
        &self,
        adapter: AdapterNumber,
        _: &[u8; 32],
    ) -> Result<Option<Adapter>, ChainError> {
        Ok(self.read()?.adapters.get(&adapter).cloned())
    }

    async fn terms(
        &self,
        _: ModelRef,
        _: Option<TermsIndex>,
        at: &[u8; 32],
    ) -> Result<Option<TermsInfo>, ChainError> {
        let inside = self.read()?;
        let price = match inside.final_price {
            Some(price) if *at == FINALIZED => price,
            _ => inside.price,
        };
        Ok(Some(terms(price)))
    }
}

impl Library for World {
    async fn load(&self, info: &RevisionInfo, _: &[u8; 32]) -> Result<Files, LoadError> {
        let mut inside = self.inside();
        if inside.missing.contains(&info.revision) {
            return Err(LoadError::Files(anyhow::anyhow!("a file is missing")));
        }
        inside.loads.push(info.revision);
        Ok(Files {
            adapter: Some(AdapterId(info.facts.adapter_digest)),
            training: None,
        })
    }

    fn unload(&self, adapter: AdapterId) {
        self.inside().unloads.push(adapter);
    }

    fn text(&self) -> TextModel {
        text()
    }
}

fn follower(world: &World) -> Follower<World, World> {
    follower_of(world, &[])
}

fn follower_of(world: &World, models: &[&str]) -> Follower<World, World> {
    let models: Vec<String> = models.iter().map(ToString::to_string).collect();
    Follower::new(
        world.clone(),
        world.clone(),
        0,
        MANIFEST,
        Allowed::new(&models, LeastPrices::default()),
    )
}

fn adapter(revision: RevisionId, adapter: u32, name: &str) -> RevisionInfo {
    info(revision, ModelRef::Adapter(adapter), name)
}

fn serving(catalog: &Catalog) -> Vec<RevisionId> {
    catalog.all().iter().map(|one| one.revision).collect()
}

#[tokio::test]
async fn what_is_published_is_served_and_what_is_retired_is_not() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    world.publish(adapter(0, 0, "poet"));
    let mut foreign = adapter(1, 1, "poet");
    foreign.base = 7;
    world.publish(foreign);
    follower.follow(&catalog).await.unwrap();
    world.publish(adapter(2, 2, "poet"));
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0, 2]);
    assert_eq!(catalog.find("poet").unwrap().revision, 0);
    world.inside().revisions.get_mut(&0).unwrap().status = RevisionStatus::Retired;
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [2]);
    assert_eq!(world.inside().unloads, [AdapterId([0; 32])]);
    // The name is its first owner's, who serves nothing now.
    assert!(catalog.find("poet").is_none());
}

#[tokio::test]
async fn a_retired_copy_of_an_adapter_should_leave_the_original_loaded() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    world.publish(adapter(0, 0, "poet"));
    let mut copy = adapter(1, 1, "copy");
    copy.facts.adapter_digest = [0; 32];
    world.publish(copy);
    follower.follow(&catalog).await.unwrap();
    world.inside().revisions.get_mut(&1).unwrap().status = RevisionStatus::Retired;
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0]);
    assert!(world.inside().unloads.is_empty());
}

#[tokio::test]
async fn one_revision_without_its_files_should_hold_up_no_other() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    world.publish(adapter(0, 0, "missing"));
    world.publish(adapter(1, 1, "there"));
    world.inside().missing.push(0);
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [1]);
    // It waits, and is served when its time has come.
    world.inside().missing.clear();
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [1]);
    follower.waiting.get_mut(&0).unwrap().again = Instant::now();
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0, 1]);
}

#[tokio::test]
async fn new_terms_should_need_no_file() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    world.publish(adapter(0, 0, "poet"));
    world.inside().price = 5;
    follower.follow(&catalog).await.unwrap();
    world.inside().missing.push(0);
    world.inside().price = 6;
    follower.follow(&catalog).await.unwrap();
    assert_eq!(catalog.find("poet").unwrap().price_in, 6);
    assert_eq!(world.inside().loads, [0]);
}

#[tokio::test]
async fn a_chain_that_fails_at_any_read_should_lose_no_revision() {
    for reads in 0..20 {
        let (world, catalog) = (World::default(), Catalog::default());
        let mut follower = follower(&world);
        for revision in 0..3 {
            world.publish(adapter(revision, revision as u32, "poet"));
        }
        world.inside().reads = Some(reads);
        let first = follower.follow(&catalog).await;
        assert!(first.is_err() || serving(&catalog).len() == 3);
        world.inside().reads = None;
        follower.follow(&catalog).await.unwrap();
        assert_eq!(serving(&catalog), [0, 1, 2], "after {reads} reads");
    }
}

#[tokio::test]
async fn after_a_reorg_the_adapter_should_be_that_of_the_chain() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    world.publish(adapter(0, 0, "poet"));
    world.publish(adapter(1, 1, "clerk"));
    follower.follow(&catalog).await.unwrap();
    // The number now belongs to another adapter.
    let mut other = adapter(1, 2, "judge");
    other.facts.adapter_digest = [77; 32];
    world.publish(other);
    follower.follow(&catalog).await.unwrap();
    let served = catalog.find("1").unwrap();
    assert_eq!(served.adapter, Some(AdapterId([77; 32])));
    assert_eq!(catalog.find("judge").unwrap().revision, 1);
    assert!(catalog.find("clerk").is_none());
    assert_eq!(world.inside().unloads, [AdapterId([1; 32])]);
    // Its files are not here: then nothing is served under the number.
    let mut third = adapter(1, 2, "judge");
    third.facts.index = [5; 32];
    world.publish(third);
    world.inside().missing.push(1);
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0]);
}

#[tokio::test]
async fn what_is_final_should_not_be_read_again_unless_it_is_served() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower_of(&world, &["2"]);
    for revision in 0..4 {
        world.publish(adapter(revision, revision as u32, "poet"));
    }
    world.inside().finalized = 3;
    follower.follow(&catalog).await.unwrap();
    assert_eq!((follower.settled, serving(&catalog)), (3, vec![2]));
    // Heads; revision and adapter that are not final; the two ends; what is served, and its terms,
    // as they are and as they are final.
    world.inside().reads = Some(8);
    follower.follow(&catalog).await.unwrap();
    assert_eq!(world.inside().reads, Some(0));
}

#[tokio::test]
async fn no_more_should_be_served_than_can_be_announced() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    let most = MAX_SERVED as u64;
    for revision in 0..most + 3 {
        world.publish(adapter(
            revision,
            revision as u32,
            &format!("model-{revision}"),
        ));
    }
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), (0..most).collect::<Vec<_>>());
    assert_eq!(world.inside().loads.len(), MAX_SERVED);
    // A place that is given up goes to the oldest that waits for one.
    world.inside().revisions.get_mut(&9).unwrap().status = RevisionStatus::Retired;
    follower.follow(&catalog).await.unwrap();
    let now = serving(&catalog);
    assert_eq!((now.len(), now.last()), (MAX_SERVED, Some(&most)));
}

#[tokio::test]
async fn only_what_the_operator_listed_should_be_served() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower_of(&world, &["poet", "3", "later"]);
    world.publish(adapter(0, 0, "poet"));
    world.publish(adapter(1, 1, "poet"));
    world.publish(adapter(2, 2, "clerk"));
    world.publish(adapter(3, 2, "clerk"));
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0, 3]);
    assert_eq!(follower.idle_entries(), ["later"]);
    world.publish(adapter(4, 0, "poet"));
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0, 3, 4]);
}

#[tokio::test]
async fn a_name_should_stay_with_who_registered_it_first_whatever_was_published() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    // Nothing of it is published.
    world.register(0, &adapter(0, 0, "poet"));
    world.publish(adapter(0, 1, "poet"));
    world.publish(adapter(1, 2, "clerk"));
    world.publish(adapter(2, 3, "tiny"));
    world.publish(info(3, ModelRef::Base(0), "tiny"));
    for adapter in world.inside().adapters.values_mut() {
        adapter.registered_at = 2_000;
    }
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0, 1, 2, 3]);
    assert!(catalog.find("poet").is_none());
    assert_eq!(catalog.find("clerk").unwrap().revision, 1);
    assert_eq!(catalog.find("tiny").unwrap().revision, 3);
    // After a reorg somebody else has the name.
    world.register(2, &adapter(1, 2, "judge"));
    world.register(0, &adapter(0, 0, "clerk"));
    follower.follow(&catalog).await.unwrap();
    assert!(catalog.find("clerk").is_none());
    assert_eq!(catalog.find("poet").unwrap().revision, 0);
}

#[tokio::test]
async fn what_does_not_pay_should_be_served_only_when_it_was_chosen() {
    let world = World::default();
    world.publish(adapter(0, 0, "poet"));
    let least = LeastPrices {
        input: 10,
        output: 10,
    };
    let with = |models: &[&str]| {
        let models: Vec<String> = models.iter().map(ToString::to_string).collect();
        let allowed = Allowed::new(&models, least);
        Follower::new(world.clone(), world.clone(), 0, MANIFEST, allowed)
    };
    let (mut all, mut chosen) = (with(&[]), with(&["poet"]));
    let (everything, named) = (Catalog::default(), Catalog::default());
    world.inside().price = 9;
    all.follow(&everything).await.unwrap();
    chosen.follow(&named).await.unwrap();
    assert!(serving(&everything).is_empty());
    assert_eq!(serving(&named), [0]);
    // Served when it pays, and no longer when it does not.
    world.inside().price = 10;
    all.waiting.get_mut(&0).unwrap().again = Instant::now();
    all.follow(&everything).await.unwrap();
    assert_eq!(serving(&everything), [0]);
    world.inside().price = 0;
    all.follow(&everything).await.unwrap();
    assert!(serving(&everything).is_empty());
}

#[tokio::test]
async fn a_copy_of_anothers_adapter_should_not_be_served_unless_it_was_chosen() {
    let world = World::default();
    world.publish(adapter(0, 0, "poet"));
    // The same developer may publish the same files again, as a new revision of the same model.
    for (revision, model) in [(1, 0), (2, 1), (3, 2)] {
        let mut again = adapter(revision, model, "again");
        again.facts.adapter_digest = [0; 32];
        world.publish(again);
    }
    let catalog = Catalog::default();
    follower(&world).follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0, 1]);
    let catalog = Catalog::default();
    let mut chosen = follower_of(&world, &["3"]);
    chosen.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [3]);
}

#[tokio::test]
async fn what_a_reorg_could_take_back_should_not_be_served() {
    let (world, catalog) = (World::default(), Catalog::default());
    let mut follower = follower(&world);
    world.publish(adapter(0, 0, "poet"));
    world.inside().finalized = 0;
    follower.follow(&catalog).await.unwrap();
    assert!(serving(&catalog).is_empty() && follower.known.contains_key(&0));
    // The block that published it is gone, and then there again.
    let gone = world.inside().revisions.remove(&0).unwrap();
    follower.follow(&catalog).await.unwrap();
    assert!(!follower.known.contains_key(&0));
    world.publish(gone);
    world.inside().finalized = 1;
    world.inside().final_price = Some(77);
    follower.follow(&catalog).await.unwrap();
    assert!(serving(&catalog).is_empty());
    world.inside().final_price = None;
    follower.follow(&catalog).await.unwrap();
    assert_eq!(serving(&catalog), [0]);
}
