//! Objects: bytes under their digest.

use crate::{
    digest::{copy_hashed, digest_of, to_hex},
    error::{io, StoreError},
};
use openledger_primitives::Digest;
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tempfile::NamedTempFile;

/// Most bytes of an object that is read into memory at once. Larger ones are read as files.
pub const MAX_IN_MEMORY: u64 = 1 << 30;

/// A partial file this old belongs to no writer that still runs.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder of objects named by digest. Cheap to clone; any number of processes may use one folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store at `root`, creating it where there is none, and removes what writers that
    /// died more than a day ago left unfinished.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be made or read.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        let store = Store {
            root: root.as_ref().to_owned(),
        };
        for folder in [store.root.join("objects"), store.partial()] {
            fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Stores `bytes` and returns their digest. They are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = digest_of(bytes);
        if self.holds(&digest)? {
            return Ok(digest);
        }
        let mut partial = self.new_partial()?;
        partial
            .write_all(bytes)
            .map_err(io("write", partial.path()))?;
        self.keep(partial, &digest)?;
        Ok(digest)
    }

    /// Stores the bytes of a file, without holding them in memory; returns digest and size.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_file(&self, path: &Path) -> Result<(Digest, u64), StoreError> {
        let mut file = File::open(path).map_err(io("open", path))?;
        let mut partial = self.new_partial()?;
        let (digest, bytes) =
            copy_hashed(&mut file, &mut partial, u64::MAX).map_err(io("copy", path))?;
        if !self.holds(&digest)? {
            self.keep(partial, &digest)?;
        }
        Ok((digest, bytes))
    }

    /// The bytes that `digest` names, checked.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`], [`StoreError::TooLarge`] above
    /// [`MAX_IN_MEMORY`].
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.get_bounded(digest, MAX_IN_MEMORY)
    }

    /// [`Store::get`] for a reader that accepts at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get_bounded(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let (file, bytes) = self.open_object(digest)?;
        let too_large = |bytes| StoreError::TooLarge {
            digest: *digest,
            bytes,
            limit,
        };
        if bytes > limit {
            return Err(too_large(bytes));
        }
        let mut content = Vec::with_capacity(bytes as usize);
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(io("read", self.path(digest)))?;
        if content.len() as u64 > limit {
            return Err(too_large(content.len() as u64));
        }
        matches(digest, digest_of(&content))?;
        Ok(content)
    }

    /// The path of an object whose bytes have just been checked, for readers that map files. It is
    /// read-only; nobody writes to an object.
    ///
    /// # Errors
    /// As [`Store::get`], without a bound on size.
    pub fn verified_path(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        self.copy_to(digest, &mut std::io::sink())?;
        Ok(self.path(digest))
    }

    /// Copies an object to `to` and returns its size. What was written counts only when this
    /// returns `Ok`: the digest is known at the end.
    ///
    /// # Errors
    /// As [`Store::get`], without a bound on size.
    pub fn copy_to(&self, digest: &Digest, to: &mut impl Write) -> Result<u64, StoreError> {
        let (mut file, _) = self.open_object(digest)?;
        let (found, bytes) =
            copy_hashed(&mut file, to, u64::MAX).map_err(io("copy", self.path(digest)))?;
        matches(digest, found)?;
        Ok(bytes)
    }

    /// Whether an object of this name is there. Its bytes are checked when they are read.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = to_hex(digest);
        let (shelf, rest) = name.split_at(2);
        self.root.join("objects").join(shelf).join(rest)
    }

    fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn new_partial(&self) -> Result<NamedTempFile, StoreError> {
        let folder = self.partial();
        NamedTempFile::new_in(&folder).map_err(io("create a file in", folder))
    }

    fn open_object(&self, digest: &Digest) -> Result<(File, u64), StoreError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(*digest))
            }
            Err(error) => return Err(io("open", path)(error)),
        };
        let metadata = file.metadata().map_err(io("read", &path))?;
        Ok((file, metadata.len()))
    }

    /// Whether the object is there with the right bytes. A damaged one is not: it is replaced.
    fn holds(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.copy_to(digest, &mut std::io::sink()) {
            Ok(_) => Ok(true),
            Err(StoreError::Missing(_) | StoreError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a written file to its name, after its bytes and before its name are on disk.
    fn keep(&self, partial: NamedTempFile, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        let shelf = path.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&shelf).map_err(io("create", &shelf))?;
        read_only(partial.as_file()).map_err(io("protect", partial.path()))?;
        partial
            .as_file()
            .sync_all()
            .map_err(io("sync", partial.path()))?;
        partial
            .persist(&path)
            .map_err(|error| io("rename to", &path)(error.error))?;
        sync_folder(&shelf)?;
        // The shelf itself may be new.
        sync_folder(&self.root.join("objects"))
    }

    fn sweep(&self) -> Result<(), StoreError> {
        let folder = self.partial();
        let Some(limit) = SystemTime::now().checked_sub(ABANDONED) else {
            return Ok(());
        };
        for entry in fs::read_dir(&folder).map_err(io("list", &folder))? {
            let entry = entry.map_err(io("list", &folder))?;
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|modified| modified < limit);
            if old {
                // Another process may have been faster.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

fn matches(wanted: &Digest, found: Digest) -> Result<(), StoreError> {
    if *wanted == found {
        Ok(())
    } else {
        Err(StoreError::Damaged {
            wanted: *wanted,
            found,
        })
    }
}

fn read_only(file: &File) -> std::io::Result<()> {
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io("sync", folder))
}
