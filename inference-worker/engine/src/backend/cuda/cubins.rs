//! Compiled kernels on disk, by the digest of everything that went into them.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Starts each file; the digest of the rest follows.
const MAGIC: &[u8; 8] = b"olcubin1";
const DIGEST: usize = 32;

/// A folder of compiled kernels. A file appears whole or not at all: it is written under another name,
/// brought to the disk and renamed. A file that is damaged all the same counts as missing.
#[derive(Clone, Debug)]
pub struct CubinCache {
    folder: PathBuf,
}

/// What a compiled kernel is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CubinKey([u8; DIGEST]);

impl CubinKey {
    /// Of all that the result depends on, part by part.
    pub fn new<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Blake2b::<U32>::new();
        hash.update(b"openledger/cubin");
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    fn file_name(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digits}.cubin")
    }
}

impl CubinCache {
    /// In this folder, which is made when something is stored.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// In the user's cache folder: `$XDG_CACHE_HOME` or `~/.cache`, then `openledger/cubin`. None without
    /// a home.
    pub fn of_user() -> Option<Self> {
        let set = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(Self::new(cache.join("openledger").join("cubin")))
    }

    /// A stored kernel, when it is there and whole.
    pub fn get(&self, key: &CubinKey) -> Option<Vec<u8>> {
        let file = fs::read(self.folder.join(key.file_name())).ok()?;
        let rest = file.strip_prefix(MAGIC.as_slice())?;
        let (stored, cubin) = rest.split_at_checked(DIGEST)?;
        (stored == digest(cubin)).then(|| cubin.to_vec())
    }

    /// Stores a kernel.
    ///
    /// # Errors
    /// When the folder cannot be written to; what was stored before is untouched.
    pub fn put(&self, key: &CubinKey, cubin: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(key.file_name());
        // Others may be storing the same kernel: threads, processes, and processes of other containers or
        // machines that share the folder, whose numbers are not their own.
        let writer = RandomState::new().hash_one(std::process::id());
        let draft = path.with_extension(format!("{writer:016x}.draft"));
        let written = write_whole(&draft, cubin).and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            // The reason for the failure is what the caller has to know.
            let _ = fs::remove_file(&draft);
        }
        written?;
        File::open(&self.folder)?.sync_all()
    }
}

fn write_whole(path: &Path, cubin: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&digest(cubin))?;
    file.write_all(cubin)?;
    file.sync_all()
}

fn digest(bytes: &[u8]) -> [u8; DIGEST] {
    Blake2b::<U32>::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_should_come_back_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CubinCache::new(folder.path().join("not/yet"));
        let key = CubinKey::new([b"a".as_slice(), b"bc"]);
        assert_eq!(cache.get(&key), None);
        cache.put(&key, b"cubin").unwrap();
        cache.put(&key, b"cubin").unwrap();
        assert_eq!(cache.get(&key).as_deref(), Some(b"cubin".as_slice()));
        assert_eq!(
            fs::read_dir(folder.path().join("not/yet")).unwrap().count(),
            1
        );
        assert_ne!(key, CubinKey::new([b"ab".as_slice(), b"c"]));
    }

    #[test]
    fn writers_at_once_should_leave_one_whole_kernel_and_no_drafts() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CubinCache::new(folder.path());
        let key = CubinKey::new([b"key".as_slice()]);
        let cubins = [vec![1u8; 100_000], vec![2u8; 50_000]];
        cache.put(&key, &cubins[0]).unwrap();
        std::thread::scope(|scope| {
            for cubin in &cubins {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cache.put(&key, cubin).unwrap();
                        let stored = cache.get(&key).expect("it is there all the time");
                        assert!(cubins.contains(&stored));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_should_count_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CubinCache::new(folder.path());
        let key = CubinKey::new([b"key".as_slice()]);
        cache.put(&key, b"a compiled kernel").unwrap();
        let path = folder.path().join(key.file_name());
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.get(&key), None, "cut to {length} bytes");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert_eq!(cache.get(&key), None, "byte {at}");
        }
        cache.put(&key, b"a compiled kernel").unwrap();
        assert!(cache.get(&key).is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_made_should_be_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let cache = CubinCache::new(&file);
        let key = CubinKey::new([b"key".as_slice()]);
        assert!(cache.put(&key, b"cubin").is_err());
        assert_eq!(cache.get(&key), None);
    }
}
