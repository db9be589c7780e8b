//! Publishing to the remote.

use crate::{content, s3::name, Scene};
use openledger_store::{Store, StoreError};
use serde_json::Map;
use std::fs;

#[test]
fn a_folder_should_be_sent_once_its_manifest_last() {
    let scene = Scene::new();
    let store = Store::open(scene.root()).unwrap();
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("a"), b"one").unwrap();
    fs::write(files.path().join("b"), b"two").unwrap();
    let digest = store
        .put_folder("adapter", files.path(), Map::new())
        .unwrap();
    let remote = scene.bucket.remote();
    assert_eq!(store.upload_folder(&remote, &digest).unwrap(), 3);
    let puts: Vec<_> = scene.bucket.log();
    let puts: Vec<_> = puts.iter().filter(|line| line.starts_with("PUT")).collect();
    assert_eq!(
        puts.last().unwrap().as_str(),
        format!("PUT {}", name(&digest))
    );
    // Again: everything is there.
    assert_eq!(store.upload_folder(&remote, &digest).unwrap(), 0);
    // What is at the remote may give way here.
    assert_eq!(scene.on_disk("objects").0, 0);
    assert_eq!(scene.on_disk("cache").0, 3);
    assert_eq!(
        store.get(&digest).unwrap(),
        scene.bucket.bytes(&digest).unwrap()
    );
}

#[test]
fn a_large_object_should_arrive_in_parts() {
    let scene = Scene::new();
    let store = Store::open(scene.root()).unwrap();
    let bytes = content(1, (20 << 20) + 17);
    let digest = store.put(&bytes).unwrap();
    assert!(store.upload(&scene.bucket.remote(), &digest).unwrap());
    assert!(scene.bucket.bytes(&digest).unwrap() == bytes);
}

#[test]
fn what_is_sent_while_another_process_counts_the_cache_should_stay_its_own() {
    let scene = Scene::new();
    let worker = scene.bounded(Some(1_000));
    let store = Store::open(scene.root()).unwrap();
    let digest = store.put(&content(1, 700)).unwrap();
    store.upload(&scene.bucket.remote(), &digest).unwrap();
    assert_eq!(scene.on_disk("objects"), (1, 700));
    assert_eq!(worker.get(&digest).unwrap(), content(1, 700));
    assert_eq!(worker.stats().cache_bytes, 0);
}

#[test]
fn a_damaged_object_should_not_be_sent() {
    let scene = Scene::new();
    let store = Store::open(scene.root()).unwrap();
    let digest = store.put(b"what was written").unwrap();
    let hex = openledger_store::to_hex(&digest);
    let path = scene.root().join("objects").join(&hex[..2]).join(&hex[2..]);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"what is there").unwrap();
    let error = store.upload(&scene.bucket.remote(), &digest).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(scene.bucket.log().is_empty());
}

#[test]
fn a_remote_that_is_down_should_be_said_and_lose_nothing() {
    let mut scene = Scene::new();
    let store = Store::open(scene.root()).unwrap();
    let digest = store.put(b"what was written").unwrap();
    let remote = scene.bucket.remote();
    scene.bucket.stop();
    let error = store.upload(&remote, &digest).unwrap_err();
    assert!(matches!(error, StoreError::Upload { .. }), "{error}");
    assert_eq!(scene.on_disk("objects").0, 1);
}
