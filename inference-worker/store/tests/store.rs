//! The store as its users see it.

use openledger_store::{digest_of, Store, StoreError};
use serde_json::{json, Map};
use std::{fs, io::Read, os::unix::fs::symlink, path::PathBuf, thread};
use tempfile::TempDir;

fn store() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    (folder, store)
}

fn object(store: &Store, digest: &[u8; 32]) -> PathBuf {
    let name = openledger_store::to_hex(digest);
    store
        .root()
        .join("objects")
        .join(&name[..2])
        .join(&name[2..])
}

/// Objects are read-only; a disk that fails does not ask.
fn overwrite(path: &PathBuf, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_put_is_got() {
    let (_folder, store) = store();
    for bytes in [b"".as_slice(), b"a", &[7; 100_000]] {
        let digest = store.put(bytes).unwrap();
        assert_eq!(digest, digest_of(bytes));
        assert_eq!(store.put(bytes).unwrap(), digest);
        assert_eq!(store.get(&digest).unwrap(), bytes);
        let mut read = Vec::new();
        let mut object = store.verified(&digest).unwrap();
        object.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }
    assert!(matches!(store.get(&[9; 32]), Err(StoreError::Missing(_))));
    assert!(!store.has(&[9; 32]));
}

#[test]
fn damage_is_found_by_every_reader_and_mended_by_a_writer() {
    let (folder, store) = store();
    let digest = store.put(b"what was written").unwrap();
    for damage in [b"what was writteN".as_slice(), b"what was", b""] {
        overwrite(&object(&store, &digest), damage);
        assert!(matches!(
            store.get(&digest),
            Err(StoreError::Damaged { .. })
        ));
        assert!(matches!(
            store.verified(&digest),
            Err(StoreError::Damaged { .. })
        ));
        store.put(b"what was written").unwrap();
        assert_eq!(store.get(&digest).unwrap(), b"what was written");
    }
    drop(folder);
}

#[test]
fn an_object_above_the_readers_bound_is_refused() {
    let (_folder, store) = store();
    let digest = store.put(&[1; 100]).unwrap();
    assert!(matches!(
        store.get_bounded(&digest, 99),
        Err(StoreError::TooLarge { .. })
    ));
    assert_eq!(store.get_bounded(&digest, 100).unwrap().len(), 100);
}

#[test]
fn writers_at_once_agree() {
    let (_folder, store) = store();
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                (0..50u8)
                    .map(|i| store.put(&[i; 2_000]).unwrap())
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    for writer in writers {
        for (i, digest) in writer.join().unwrap().iter().enumerate() {
            assert_eq!(store.get(digest).unwrap(), [i as u8; 2_000]);
        }
    }
    assert_eq!(
        fs::read_dir(store.root().join("partial")).unwrap().count(),
        0
    );
}

#[test]
fn a_folder_comes_back_as_it_went() {
    let (folder, store) = store();
    let source = folder.path().join("adapter");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::write(source.join("config.json"), "{}").unwrap();
    fs::write(source.join("deep/er/weights.bin"), [3; 70_000]).unwrap();
    let meta: Map<_, _> = json!({"rank": 8}).as_object().unwrap().clone();
    let digest = store.put_folder("adapter", &source, meta.clone()).unwrap();
    assert_eq!(store.put_folder("adapter", &source, meta).unwrap(), digest);

    let target = folder.path().join("out/adapter");
    let manifest = store.materialize(&digest, &target).unwrap();
    assert_eq!(manifest.meta["rank"], 8);
    assert_eq!(
        fs::read(target.join("deep/er/weights.bin")).unwrap(),
        [3; 70_000]
    );
    // Again: nothing to do.
    store.materialize(&digest, &target).unwrap();
    assert_eq!(store.file(&manifest, "config.json").unwrap(), b"{}");
    assert!(matches!(
        store.manifest_of("base", &digest),
        Err(StoreError::Kind { .. })
    ));

    fs::write(target.join("config.json"), "[]").unwrap();
    assert!(matches!(
        store.materialize(&digest, &target),
        Err(StoreError::Occupied(_))
    ));
    fs::write(target.join("config.json"), "{}").unwrap();
    fs::write(target.join("more"), "").unwrap();
    assert!(matches!(
        store.materialize(&digest, &target),
        Err(StoreError::Occupied(_))
    ));
}

#[test]
fn a_folder_with_damage_does_not_appear() {
    let (folder, store) = store();
    let source = folder.path().join("adapter");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "good").unwrap();
    let digest = store.put_folder("adapter", &source, Map::new()).unwrap();
    overwrite(&object(&store, &digest_of(b"good")), b"evil");
    let target = folder.path().join("out");
    assert!(store.materialize(&digest, &target).is_err());
    assert!(!target.exists());
}

#[test]
fn links_do_not_enter_or_leave() {
    let (folder, store) = store();
    let source = folder.path().join("adapter");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "x").unwrap();
    let digest = store.put_folder("adapter", &source, Map::new()).unwrap();
    symlink("/etc/passwd", source.join("b")).unwrap();
    assert!(matches!(
        store.put_folder("adapter", &source, Map::new()),
        Err(StoreError::Path { .. })
    ));
    // A link where the folder should go is never followed.
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let target = folder.path().join("target");
    symlink(&elsewhere, &target).unwrap();
    assert!(store.materialize(&digest, &target).is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_manifest_that_escapes_is_refused() {
    let (folder, store) = store();
    let held = openledger_store::to_hex(&store.put(b"x").unwrap());
    for path in ["../escaped", "/tmp/escaped", "a/../../escaped"] {
        let manifest =
            json!({"kind": "adapter", "files": [{"path": path, "digest": held, "bytes": 1}]});
        let digest = store.put(manifest.to_string().as_bytes()).unwrap();
        let error = store
            .materialize(&digest, &folder.path().join("out/in"))
            .unwrap_err();
        assert!(matches!(error, StoreError::Path { .. }), "{error}");
        assert!(!folder.path().join("out/escaped").exists());
    }
}
