//! The bound on fetched objects.

use crate::{content, Scene};
use openledger_store::{FetchError, Object, Store, StoreError, StoreOptions};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

#[test]
fn what_was_used_longest_ago_should_give_way_and_what_is_in_use_stay() {
    let scene = Scene::new();
    let digests: Vec<_> = (0..4)
        .map(|seed| scene.bucket.add(&content(seed, 400)))
        .collect();
    let store = scene.bounded(Some(1_000));
    store.get(&digests[0]).unwrap();
    store.get(&digests[1]).unwrap();
    store.get(&digests[0]).unwrap();
    store.get(&digests[2]).unwrap();
    assert!(store.has(&digests[0]) && !store.has(&digests[1]));
    let open = store.object(&digests[0]).unwrap();
    let also = store.object(&digests[2]).unwrap();
    drop(also);
    store.get(&digests[3]).unwrap();
    assert!(store.has(&digests[0]) && !store.has(&digests[2]));
    drop(open);
    let stats = store.stats();
    assert_eq!((stats.cache_objects, stats.cache_bytes), (2, 800));
    assert_eq!((stats.evictions, stats.evicted_bytes), (2, 800));
    assert_eq!(scene.on_disk("cache"), (2, 800));
}

#[test]
fn what_is_nowhere_else_should_never_give_way() {
    let scene = Scene::new();
    let store = scene.bounded(Some(500));
    let own = store.put(&content(1, 5_000)).unwrap();
    for seed in 10..15 {
        let digest = scene.bucket.add(&content(seed, 400));
        store.get(&digest).unwrap();
    }
    assert_eq!(store.get(&own).unwrap(), content(1, 5_000));
    assert_eq!(scene.on_disk("objects"), (1, 5_000));
    assert_eq!(scene.on_disk("cache"), (1, 400));
}

#[test]
fn an_object_larger_than_the_cache_should_be_refused_and_nothing_give_way_for_it() {
    let scene = Scene::new();
    let small = scene.bucket.add(&content(1, 400));
    let large = scene.bucket.add(&content(2, 1_001));
    let store = scene.bounded(Some(1_000));
    store.get(&small).unwrap();
    let error = store.get(&large).unwrap_err();
    assert!(error.to_string().contains("--disk-cache"), "{error}");
    let too_large = FetchError::TooLarge {
        bytes: 1_001,
        bound: 1_000,
    };
    assert!(matches!(error, StoreError::Fetch { source, .. } if source == too_large));
    assert!(store.has(&small));
}

#[test]
fn a_restart_should_count_the_same_and_keep_the_order_of_use() {
    let scene = Scene::new();
    let digests: Vec<_> = (0..3)
        .map(|seed| scene.bucket.add(&content(seed, 400)))
        .collect();
    let store = scene.bounded(Some(1_200));
    for digest in &digests {
        store.get(digest).unwrap();
        // The clock by which files are dated is coarse.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    store.get(&digests[0]).unwrap();
    drop(store);
    let store = scene.bounded(Some(1_200));
    assert_eq!(store.stats().cache_bytes, 1_200);
    drop(store);
    // A lower bound holds at once.
    let store = scene.bounded(Some(500));
    assert_eq!(store.stats().cache_bytes, 400);
    assert!(store.has(&digests[0]));
}

#[test]
fn a_bounded_cache_should_be_one_process_s_alone() {
    let scene = Scene::new();
    let open = |cache_bytes| {
        Store::open_with(
            scene.root(),
            StoreOptions {
                remote: Some(scene.bucket.remote()),
                cache_bytes,
            },
        )
    };
    let bounded = open(Some(1_000)).unwrap();
    for other in [None, Some(1_000)] {
        assert!(matches!(open(other), Err(StoreError::CacheInUse(_))));
    }
    // Without a remote nothing is brought or removed.
    Store::open(scene.root()).unwrap();
    drop(bounded);
    let (_one, _other) = (open(None).unwrap(), open(None).unwrap());
    assert!(matches!(open(Some(1)), Err(StoreError::CacheInUse(_))));
}

#[derive(Clone, Debug)]
enum Step {
    Get(usize),
    Hold(usize),
    Drop,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..8).prop_map(Step::Get),
        2 => (0usize..8).prop_map(Step::Hold),
        2 => Just(Step::Drop),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_count_should_be_that_of_the_files_whatever_happened(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        const BOUND: u64 = 1_000;
        let scene = Scene::new();
        let sizes = [0usize, 1, 120, 250, 380, 400, 999, 1_001];
        let contents: Vec<_> = (0u64..).zip(sizes).map(|(seed, size)| content(seed, size)).collect();
        let digests: Vec<_> = contents.iter().map(|bytes| scene.bucket.add(bytes)).collect();
        let mut store = scene.bounded(Some(BOUND));
        let mut held: VecDeque<(usize, Object)> = VecDeque::new();
        for step in steps {
            if let Step::Get(which) | Step::Hold(which) = step {
                // Of what is held each counts once; for more than the rest a reader would wait.
                let others: BTreeSet<usize> = held.iter().map(|(other, _)| *other)
                    .filter(|other| *other != which).collect();
                let others: usize = others.iter().map(|other| sizes[*other]).sum();
                if sizes[which] <= 1_000 && others + sizes[which] > 1_000 {
                    continue;
                }
            }
            match step {
                Step::Get(which) => match store.get(&digests[which]) {
                    Ok(bytes) => prop_assert_eq!(&bytes, &contents[which]),
                    Err(error) => prop_assert!(sizes[which] > 1_000, "{}", error),
                },
                Step::Hold(which) => match store.object(&digests[which]) {
                    Ok(object) => held.push_back((which, object)),
                    Err(error) => prop_assert!(sizes[which] > 1_000, "{}", error),
                },
                Step::Drop => {
                    held.pop_front();
                }
                Step::Reopen => {
                    held.clear();
                    drop(store);
                    store = scene.bounded(Some(BOUND));
                }
            }
            let stats = store.stats();
            let (files, bytes) = scene.on_disk("cache");
            prop_assert_eq!((stats.cache_objects, stats.cache_bytes), (files as u64, bytes));
            prop_assert!(bytes <= BOUND);
            prop_assert_eq!(scene.on_disk("partial"), (0, 0));
            for (which, object) in &held {
                prop_assert!(store.has(&digests[*which]), "{} is held and gone", which);
                prop_assert_eq!(object.length(), sizes[*which] as u64);
            }
        }
    }
}
