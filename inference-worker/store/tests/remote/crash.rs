//! Processes that die.

use crate::{content, s3::Fault, Bucket, Scene};
use openledger_store::{Store, StoreOptions};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const ROOT: &str = "STORE_CRASH_ROOT";
const ENDPOINT: &str = "STORE_CRASH_ENDPOINT";
const OBJECT: &str = "STORE_CRASH_OBJECT";

/// What the process does that is killed: this test does nothing without its variables.
#[test]
fn child_that_fetches_until_it_is_killed() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let bucket = Bucket::start();
    let mut options = bucket.options();
    options.endpoint = Some(std::env::var(ENDPOINT).unwrap());
    let store = Store::open_with(
        root,
        StoreOptions {
            remote: Some(openledger_store::Remote::connect(options).unwrap()),
            cache_bytes: Some(1_000_000),
        },
    )
    .unwrap();
    let digest = openledger_store::parse_digest(&std::env::var(OBJECT).unwrap()).unwrap();
    let _ = store.get(&digest);
}

fn drafts(scene: &Scene) -> Vec<PathBuf> {
    fs::read_dir(scene.root().join("partial"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default()
}

#[test]
fn a_process_killed_in_a_download_should_leave_nothing_that_is_read_or_stays() {
    let scene = Scene::new();
    let bytes = content(1, 200_000);
    let digest = scene.bucket.add(&bytes);
    scene.bucket.fault(&digest, &[Fault::Stall]);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_fetches_until_it_is_killed"])
        .env(ROOT, scene.root())
        .env(ENDPOINT, &scene.bucket.address)
        .env(OBJECT, openledger_store::to_hex(&digest))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let half = |path: &PathBuf| path.metadata().is_ok_and(|file| file.len() == 100_000);
    while !drafts(&scene).iter().any(half) {
        assert!(Instant::now() < until, "the child wrote no draft");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The living one's draft is left alone.
    Store::open(scene.root()).unwrap();
    assert_eq!(drafts(&scene).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.on_disk("cache"), (0, 0));
    // Its lock died with it, and its draft goes.
    let store = scene.bounded(Some(1_000_000));
    assert!(drafts(&scene).is_empty());
    assert_eq!(store.get(&digest).unwrap(), bytes);
    assert_eq!(store.stats().cache_bytes, 200_000);
}

#[test]
fn a_draft_that_was_complete_but_had_no_name_yet_should_not_be_taken_for_an_object() {
    let scene = Scene::new();
    let bytes = content(1, 2_000);
    let digest = scene.bucket.add(&bytes);
    drop(scene.store());
    fs::write(scene.root().join("partial/complete"), &bytes).unwrap();
    let store = scene.store();
    assert!(drafts(&scene).is_empty() && !store.has(&digest));
    assert_eq!(store.get(&digest).unwrap(), bytes);
}
