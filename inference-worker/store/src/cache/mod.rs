//! The disk cache: what was read from the remote store, in `cache/`, up to a bound of bytes.
//!
//! Everything in `cache/` is at the remote too, and may go; nothing in `objects/` ever does. That the
//! two are folders is what survives a restart: the cache is then counted again from its files, in the
//! order of their last use, which is their time of modification.

pub(crate) mod ledger;

use crate::{
    digest::parse_digest,
    error::{io, StoreError},
    stats::Counts,
};
use ledger::{Ledger, Room};
use openledger_primitives::Digest;
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

/// The name of the file that tells processes of each other.
const LOCK: &str = "cache.lock";

/// The cache of one process.
#[derive(Debug)]
pub(crate) struct DiskCache {
    folder: PathBuf,
    ledger: Mutex<Ledger>,
    /// Something was let go of, or removed.
    freed: Condvar,
    counts: Arc<Counts>,
    /// Held while the cache lives.
    _lock: File,
}

/// Keeps an object where it is while somebody reads or maps it.
#[derive(Debug)]
pub(crate) struct Lease {
    cache: Arc<DiskCache>,
    digest: Digest,
    serial: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cache.ledger().release(&self.digest, self.serial);
        self.cache.freed.notify_all();
    }
}

/// Bytes promised to a download; taken back when it is dropped without an object.
#[derive(Debug)]
pub(crate) struct Promise<'a> {
    cache: &'a DiskCache,
    bytes: u64,
}

impl Promise<'_> {
    /// The object has its name: its bytes count as kept.
    pub(crate) fn keep(self, digest: Digest) {
        let promise = std::mem::ManuallyDrop::new(self);
        let mut ledger = promise.cache.ledger();
        ledger.keep(digest, promise.bytes);
        promise
            .cache
            .counts
            .cached(ledger.objects(), ledger.bytes());
        drop(ledger);
        // What was promised could not give way; this can.
        promise.cache.freed.notify_all();
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.cache.ledger().withdraw(self.bytes);
        self.cache.freed.notify_all();
    }
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The object is larger than the whole cache.
    TooLarge,
    /// Too much was in use for too long.
    InUse,
}

impl DiskCache {
    /// The cache of the store at `root`, counted from its files; more than `bound` bytes of them are
    /// removed. With a bound it is this process's alone.
    ///
    /// # Errors
    /// [`StoreError::CacheInUse`], [`StoreError::Io`].
    pub(crate) fn open(
        root: &Path,
        bound: Option<u64>,
        counts: Arc<Counts>,
    ) -> Result<Self, StoreError> {
        let lock = lock(root, bound.is_some())?;
        let folder = folder(root);
        let mut ledger = Ledger::new(bound.unwrap_or(u64::MAX));
        for (_, digest, bytes) in scan(&folder)? {
            ledger.found(digest, bytes);
        }
        let cache = DiskCache {
            folder,
            ledger: Mutex::new(ledger),
            freed: Condvar::new(),
            counts,
            _lock: lock,
        };
        let mut ledger = cache.ledger();
        while let Some(victim) = ledger.excess() {
            cache.evict(&mut ledger, &victim)?;
        }
        cache.counts.cached(ledger.objects(), ledger.bytes());
        drop(ledger);
        Ok(cache)
    }

    /// Where an object is, or will be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        crate::objects::path_in(&self.folder, digest)
    }

    /// Opens an object and holds it; none when it is not here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn get(
        self: &Arc<Self>,
        digest: &Digest,
    ) -> Result<Option<(File, Lease)>, StoreError> {
        let known = self.ledger().acquire(digest);
        let serial = match known {
            Some(serial) => Some(serial),
            None => self.adopt(digest)?,
        };
        let Some(serial) = serial else {
            return Ok(None);
        };
        let lease = Lease {
            cache: Arc::clone(self),
            digest: *digest,
            serial,
        };
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => {
                // For the order after a restart; it is no loss where it cannot be noted.
                let _ = file.set_modified(SystemTime::now());
                Ok(Some((file, lease)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                drop(lease);
                self.ledger().forget(digest);
                Ok(None)
            }
            Err(error) => Err(io("open", path)(error)),
        }
    }

    /// Counts and holds an object that another process has brought meanwhile.
    fn adopt(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read", path)(error)),
        };
        let mut ledger = self.ledger();
        // Somebody else may have entered it since.
        if let Some(serial) = ledger.acquire(digest) {
            return Ok(Some(serial));
        }
        ledger.found(*digest, bytes);
        self.counts.cached(ledger.objects(), ledger.bytes());
        Ok(ledger.acquire(digest))
    }

    /// Promises room, removing what was used longest ago, and waiting for what is in use.
    ///
    /// # Errors
    /// [`NoRoom`] inside the one, [`StoreError::Io`] outside.
    pub(crate) fn promise(
        &self,
        bytes: u64,
        until: Instant,
    ) -> Result<Result<Promise<'_>, NoRoom>, StoreError> {
        let mut ledger = self.ledger();
        loop {
            match ledger.promise(bytes) {
                Room::Promised => break,
                Room::Without(victim) => self.evict(&mut ledger, &victim)?,
                Room::Never => return Ok(Err(NoRoom::TooLarge)),
                Room::Later => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Err(NoRoom::InUse));
                    }
                    let waited = self.freed.wait_timeout(ledger, left);
                    ledger = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        self.counts.cached(ledger.objects(), ledger.bytes());
        Ok(Ok(Promise { cache: self, bytes }))
    }

    /// Removes an object whose bytes are not what its name says.
    pub(crate) fn discard(&self, digest: &Digest) {
        let mut ledger = self.ledger();
        // One that cannot be removed is found damaged again.
        if fs::remove_file(self.path(digest)).is_ok() {
            ledger.forget(digest);
            self.counts.cached(ledger.objects(), ledger.bytes());
        }
    }

    /// The bound, bytes.
    pub(crate) fn bound(&self) -> u64 {
        self.ledger().bound()
    }

    fn evict(&self, ledger: &mut Ledger, victim: &Digest) -> Result<(), StoreError> {
        let path = self.path(victim);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("remove", path)(error))
            }
            _ => {}
        }
        if let Some(bytes) = ledger.forget(victim) {
            self.counts.evicted(bytes);
        }
        Ok(())
    }

    /// Nothing below panics between two changes of the ledger.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cache's folder in a store.
pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("cache")
}

/// Locks the cache of the store at `root`: for this process alone, or against those who want that.
///
/// # Errors
/// [`StoreError::CacheInUse`], [`StoreError::Io`].
pub(crate) fn lock(root: &Path, alone: bool) -> Result<File, StoreError> {
    let path = root.join(LOCK);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(io("open", &path))?;
    let locked = if alone {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::CacheInUse(root.to_owned())),
        Err(TryLockError::Error(error)) => Err(io("lock", path)(error)),
    }
}

/// The objects in `folder` with their sizes, the one used longest ago first.
fn scan(folder: &Path) -> Result<Vec<(SystemTime, Digest, u64)>, StoreError> {
    let mut found = Vec::new();
    for shelf in fs::read_dir(folder).map_err(io("list", folder))? {
        let shelf = shelf.map_err(io("list", folder))?;
        let Some(first) = shelf.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let Ok(objects) = fs::read_dir(shelf.path()) else {
            continue;
        };
        for object in objects {
            let object = object.map_err(io("list", shelf.path()))?;
            let Some(rest) = object.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let Ok(digest) = parse_digest(&format!("{first}{rest}")) else {
                continue;
            };
            let metadata = object.metadata().map_err(io("read", object.path()))?;
            if metadata.is_file() {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((used, digest, metadata.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    #[test]
    fn who_waits_for_room_should_be_told_of_an_object_that_can_give_way() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(folder(root.path())).unwrap();
        let cache = DiskCache::open(root.path(), Some(10), Arc::default()).unwrap();
        let cache = Arc::new(cache);
        let never = Instant::now() + Duration::from_secs(86_400);
        let first = cache.promise(8, never).unwrap().unwrap();
        let (tell, told) = mpsc::channel();
        let other = Arc::clone(&cache);
        std::thread::spawn(move || {
            tell.send(None).unwrap();
            let room = other.promise(8, never).unwrap();
            tell.send(Some(room.is_ok())).unwrap();
        });
        assert_eq!(told.recv(), Ok(None));
        // For it to have begun to wait; where it has not, it finds the room at once.
        std::thread::sleep(Duration::from_millis(50));
        first.keep([1; 32]);
        let room = told.recv_timeout(Duration::from_secs(600));
        assert_eq!(room, Ok(Some(true)));
    }
}
