//! A store with a bucket behind it: the real client against a server on this machine.

mod bound;
mod crash;
mod fetching;
mod s3;
mod uploading;

use openledger_store::{Store, StoreOptions};
use s3::Bucket;
use std::{fs, path::Path};
use tempfile::TempDir;

/// A store of its own before a bucket.
struct Scene {
    bucket: Bucket,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Scene {
            bucket: Bucket::start(),
            folder: TempDir::new().unwrap(),
        }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn store(&self) -> Store {
        self.bounded(None)
    }

    fn bounded(&self, cache_bytes: Option<u64>) -> Store {
        let options = StoreOptions {
            remote: Some(self.bucket.remote()),
            cache_bytes,
        };
        Store::open_with(self.root(), options).unwrap()
    }

    /// Bytes of the files below a folder of the store, and their number.
    fn on_disk(&self, folder: &str) -> (usize, u64) {
        let mut found = (0, 0);
        for shelf in fs::read_dir(self.root().join(folder)).unwrap() {
            let path = shelf.unwrap().path();
            if path.is_file() {
                found = (found.0 + 1, found.1 + path.metadata().unwrap().len());
                continue;
            }
            for object in fs::read_dir(path).unwrap() {
                let bytes = object.unwrap().metadata().unwrap().len();
                found = (found.0 + 1, found.1 + bytes);
            }
        }
        found
    }
}

/// Bytes that no other seed gives.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
