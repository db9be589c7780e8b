//! What a revision costs that is served and not asked for.

use super::{
    checked::CheckedAdapter,
    samples::{info, names_of, terms},
    stored::Stored,
    training::tests::{text, Scene},
    Catalog, Files, Served,
};
use openledger_engine::{adapters::Origin, AdapterId, Registry};
use openledger_primitives::revision::ModelRef;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeMap,
    sync::Arc,
};

/// Counts what the thread of a test allocates.
struct Counting;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends may allocate after its locals are gone; nobody asks for those.
    let _ = BYTES.try_with(|counted| counted.set(counted.get() + bytes));
}

// SAFETY: all is the system's; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REVISIONS: u64 = 10_000;

/// Most bytes of memory that a revision may cost.
const MOST: usize = 4 << 10;

#[test]
fn ten_thousand_revisions_should_cost_little_until_they_are_asked_for() {
    let scene = Scene::new(64 << 20);
    // A few distinct indexes, as adapters on the same Datanets have them.
    let trainings: Vec<_> = (1..=4)
        .map(|version| Arc::new(scene.training(version)))
        .collect();
    let infos: Vec<_> = (0..REVISIONS)
        .map(|n| {
            let mut info = info(n, ModelRef::Adapter(n as u32), &format!("model-{n}"));
            info.facts.adapter_digest[..8].copy_from_slice(&n.to_le_bytes());
            info
        })
        .collect();
    let text = text();
    let before = BYTES.get();
    // What the follower knows of them, what requests find, and what the engine can load.
    let known: BTreeMap<_, _> = infos
        .iter()
        .map(|info| (info.revision, info.clone()))
        .collect();
    let (catalog, registry) = (Catalog::default(), Registry::new(0));
    catalog.set_names(names_of(&infos));
    for (n, info) in infos.iter().enumerate() {
        let id = AdapterId(info.facts.adapter_digest);
        let checked = CheckedAdapter {
            id: id.0,
            rank: 4,
            config: [1; 32],
            weights: id.0,
        };
        let stored = Stored::of_checked(scene.store(), &checked);
        registry
            .insert(id, Origin::Source(Arc::new(stored)))
            .unwrap();
        let training = &trainings[n % trainings.len()];
        let own = training.like();
        let files = Files {
            adapter: Some(id),
            training: Some(Arc::new(own)),
        };
        let served = Served::new(info.clone(), terms(1), files, text.clone());
        assert_eq!(catalog.put(served), None);
    }
    let each = (BYTES.get() - before) as usize / REVISIONS as usize;
    println!("{each} bytes per registered revision, {REVISIONS} of them");
    assert!(each <= MOST, "{each} bytes");
    assert_eq!(known.len() as u64, REVISIONS);
    assert_eq!(scene.library.usage(), (0, 0));
    // Any of them is found and can be asked; what that loads is shared.
    for n in (0..REVISIONS).step_by(97) {
        let one = catalog.find(&format!("model-{n}")).unwrap();
        assert_eq!(one.revision, n);
        one.training.as_ref().unwrap().open().unwrap();
    }
    let (bytes, things) = scene.library.usage();
    println!("{bytes} bytes of {things} indexes in memory");
    assert_eq!(things, trainings.len());
    assert_eq!(catalog.listed().len() as u64, REVISIONS);
}
