//! Reading through the store.

use crate::{content, s3::Fault, Scene};
use openledger_store::{FetchError, Reached, Remote, Store, StoreError, StoreOptions};
use serde_json::Map;
use std::{sync::mpsc, time::Duration};
use tokio::sync::watch;

fn why(error: StoreError) -> FetchError {
    match error {
        StoreError::Fetch { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_not_here_should_be_fetched_once_and_read_from_disk_then() {
    let scene = Scene::new();
    let bytes = content(1, 300_000);
    let digest = scene.bucket.add(&bytes);
    let store = scene.store();
    assert!(!store.has(&digest));
    assert_eq!(store.get(&digest).unwrap(), bytes);
    assert_eq!(store.get(&digest).unwrap(), bytes);
    assert_eq!(scene.bucket.requests("GET", &digest), 1);
    let stats = store.stats();
    assert_eq!((stats.remote_hits, stats.remote_bytes), (1, 300_000));
    assert_eq!((stats.disk_hits, stats.disk_bytes), (1, 300_000));
    assert_eq!((stats.cache_objects, stats.cache_bytes), (1, 300_000));
    // It is the cache's, not the store's own; and a store without a remote reads it too.
    assert_eq!(scene.on_disk("objects"), (0, 0));
    let plain = Store::open(scene.root()).unwrap();
    assert_eq!(plain.get(&digest).unwrap(), bytes);
}

#[test]
fn a_folder_should_be_laid_out_from_the_remote() {
    let scene = Scene::new();
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let publisher = Store::open(there.path().join("store")).unwrap();
    let files = there.path().join("files");
    std::fs::create_dir_all(files.join("deep")).unwrap();
    std::fs::write(files.join("a.json"), b"{}").unwrap();
    std::fs::write(files.join("deep/b.bin"), content(2, 70_000)).unwrap();
    let digest = publisher.put_folder("adapter", &files, Map::new()).unwrap();
    publisher
        .upload_folder(&scene.bucket.remote(), &digest)
        .unwrap();
    let manifest = scene
        .store()
        .materialize(&digest, &here.path().join("out"))
        .unwrap();
    assert_eq!(manifest.files.len(), 2);
    assert_eq!(
        std::fs::read(here.path().join("out/deep/b.bin")).unwrap(),
        content(2, 70_000)
    );
}

#[test]
fn concurrent_asks_for_one_object_should_share_one_download() {
    let scene = Scene::new();
    let bytes = content(3, 100_000);
    let digest = scene.bucket.add(&bytes);
    let (open, gate) = watch::channel(false);
    scene.bucket.fault(&digest, &[Fault::Gate(gate)]);
    let store = scene.store();
    let (done, calls) = mpsc::channel();
    for _ in 0..4 {
        let done = done.clone();
        store.bring(&[digest], move |reached| {
            done.send(reached.unwrap()).unwrap()
        });
    }
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || store.get(&digest).unwrap())
        })
        .collect();
    open.send(true).unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), bytes);
    }
    let reached: Vec<_> = calls.iter().take(4).collect();
    assert_eq!(reached, [Reached::Remote; 4]);
    assert_eq!(scene.bucket.requests("GET", &digest), 1);
}

#[test]
fn a_download_that_hangs_should_hold_up_neither_its_caller_nor_the_others() {
    let scene = Scene::new();
    let slow: Vec<_> = (0..3)
        .map(|seed| scene.bucket.add(&content(seed, 5_000)))
        .collect();
    let quick = scene.bucket.add(&content(9, 5_000));
    let (open, gate) = watch::channel(false);
    for digest in &slow {
        scene.bucket.fault(digest, &[Fault::Gate(gate.clone())]);
    }
    let store = scene.store();
    let (done, calls) = mpsc::channel();
    // It returns although nothing comes.
    store.bring(&slow, move |reached| done.send(reached).unwrap());
    assert_eq!(store.get(&quick).unwrap(), content(9, 5_000));
    assert!(calls.try_recv().is_err());
    open.send(true).unwrap();
    assert_eq!(calls.recv().unwrap().unwrap(), Reached::Remote);
    // All here: at once, on this thread.
    let (done, calls) = mpsc::channel();
    store.bring(&slow, move |reached| done.send(reached).unwrap());
    assert_eq!(calls.try_recv().unwrap().unwrap(), Reached::Disk);
}

#[test]
fn a_download_without_end_should_be_broken_off_by_its_deadline() {
    let scene = Scene::new();
    let digest = scene.bucket.add(&content(4, 5_000));
    for fault in [Fault::Hang, Fault::Stall] {
        scene.bucket.fault(&digest, &vec![fault; 100]);
        let mut options = scene.bucket.options();
        options.patience = Duration::from_millis(300);
        options.stall = Duration::from_millis(50);
        options.retries = 100;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_with(
            folder.path(),
            StoreOptions {
                remote: Some(Remote::connect(options).unwrap()),
                cache_bytes: Some(10_000),
            },
        )
        .unwrap();
        let error = why(store.get(&digest).unwrap_err());
        assert!(
            matches!(error, FetchError::TooSlow(_) | FetchError::Unreachable(_)),
            "{error}"
        );
        assert!(!store.has(&digest));
        assert_eq!(
            std::fs::read_dir(folder.path().join("partial"))
                .unwrap()
                .count(),
            0
        );
        // The promise of room was taken back.
        let other = scene.bucket.add(&content(5, 10_000));
        std::thread::sleep(Duration::from_millis(1_100));
        assert_eq!(store.get(&other).unwrap().len(), 10_000);
    }
}

#[test]
fn failures_that_pass_should_be_tried_again() {
    let scene = Scene::new();
    let bytes = content(6, 200_000);
    let digest = scene.bucket.add(&bytes);
    let faults = [Fault::Status(500), Fault::Status(503), Fault::Cut];
    scene.bucket.fault(&digest, &faults);
    assert_eq!(scene.store().get(&digest).unwrap(), bytes);
    // What broke off goes on where it was, by a range.
    assert_eq!(scene.bucket.requests("GET", &digest), 4);
}

#[test]
fn other_bytes_than_the_digest_names_should_be_refused_and_never_kept() {
    let scene = Scene::new();
    let digest = scene.bucket.add(b"what was published");
    scene.bucket.set(&digest, b"what was smuggled!");
    let store = scene.store();
    let error = why(store.get(&digest).unwrap_err());
    let found = openledger_store::digest_of(b"what was smuggled!");
    assert_eq!(error, FetchError::Damaged { found });
    assert_eq!(scene.on_disk("cache"), (0, 0));
    assert_eq!(scene.on_disk("partial"), (0, 0));
    assert_eq!(store.stats().cache_bytes, 0);
    // The publisher mends it.
    scene.bucket.set(&digest, b"what was published");
    assert_eq!(store.get(&digest).unwrap(), b"what was published");
}

#[test]
fn what_the_remote_lacks_or_refuses_should_be_said() {
    let scene = Scene::new();
    let store = scene.store();
    let error = store.get(&[7; 32]).unwrap_err();
    assert!(
        error.to_string().contains("s3://bucket/some/models"),
        "{error}"
    );
    assert_eq!(why(error), FetchError::Missing);
    let mut options = scene.bucket.options();
    options.environment[0].1 = "another-key".into();
    let folder = tempfile::tempdir().unwrap();
    let stranger = Store::open_with(
        folder.path(),
        StoreOptions {
            remote: Some(Remote::connect(options).unwrap()),
            cache_bytes: None,
        },
    )
    .unwrap();
    let digest = scene.bucket.add(b"private");
    let error = why(stranger.get(&digest).unwrap_err());
    assert!(matches!(error, FetchError::Refused(_)), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn while_the_remote_is_down_what_is_on_disk_should_serve_on() {
    let mut scene = Scene::new();
    let (own, fetched, absent) = (content(1, 500), content(2, 500), content(3, 500));
    let store = scene.store();
    let own_digest = store.put(&own).unwrap();
    let digest = scene.bucket.add(&fetched);
    store.get(&digest).unwrap();
    let absent = scene.bucket.add(&absent);
    scene.bucket.stop();
    for _ in 0..3 {
        assert_eq!(store.get(&own_digest).unwrap(), own);
        assert_eq!(store.get(&digest).unwrap(), fetched);
    }
    let error = why(store.get(&absent).unwrap_err());
    assert!(matches!(error, FetchError::Unreachable(_)), "{error}");
    // The next one is not made to wait for the same silence.
    assert!(why(store.get(&[8; 32]).unwrap_err()) == error);
    // Opening needs no remote either.
    assert_eq!(scene.store().get(&digest).unwrap(), fetched);
}

#[test]
fn a_fetched_object_that_the_disk_has_spoilt_should_be_fetched_again() {
    let scene = Scene::new();
    let bytes = content(1, 500);
    let digest = scene.bucket.add(&bytes);
    let store = scene.bounded(Some(1_000));
    store.get(&digest).unwrap();
    let hex = openledger_store::to_hex(&digest);
    let path = scene.root().join("cache").join(&hex[..2]).join(&hex[2..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, content(2, 500)).unwrap();
    assert_eq!(store.get(&digest).unwrap(), bytes);
    assert_eq!(store.stats().cache_bytes, 500);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(store.get(&digest).unwrap(), bytes);
    assert_eq!(scene.bucket.requests("GET", &digest), 3);
    assert_eq!(store.stats().cache_bytes, 500);
}

#[test]
fn an_address_that_would_send_credentials_in_the_clear_should_be_refused() {
    let scene = Scene::new();
    let mut options = scene.bucket.options();
    options.endpoint = None;
    let endpoint = (
        "AWS_ENDPOINT_URL".into(),
        "http://storage.example.org".into(),
    );
    options.environment.push(endpoint);
    options
        .environment
        .push(("AWS_ALLOW_HTTP".into(), "true".into()));
    let error = Remote::connect(options).unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
}
