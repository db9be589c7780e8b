//! Objects: bytes under their digest.

use crate::{
    cache::{self, DiskCache, Lease},
    digest::{copy_hashed, digest_of, to_hex},
    draft,
    error::{io, StoreError},
    remote::{fetch::Fetcher, Remote},
    stats::{Counts, StoreStats},
};
use openledger_primitives::Digest;
use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        Arc, Mutex, PoisonError,
    },
};
use tempfile::NamedTempFile;

/// Most bytes of an object that is read into memory at once. Larger ones are read as files.
pub const MAX_IN_MEMORY: u64 = 1 << 30;

/// How often an object is fetched again that is gone before it could be opened.
const TRIES: usize = 3;

/// A folder of objects named by digest, and the remote store behind it, if there is one. Clones share it;
/// any number of processes may use one folder.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// See [`Store`].
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) counts: Arc<Counts>,
    /// There with a remote only: without one nothing is brought, and nothing may go.
    pub(crate) cache: Option<Arc<DiskCache>>,
    pub(crate) fetcher: Option<Fetcher>,
}

/// What stands behind a store's folder.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Where to fetch what is not in the folder.
    pub remote: Option<Remote>,
    /// Most bytes of fetched objects on this disk; what was used longest ago gives way. None for no bound.
    pub cache_bytes: Option<u64>,
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// All of it was on this disk.
    Disk,
    /// Some of it was fetched.
    Remote,
}

/// An object opened for reading or mapping. While it lives it is not removed to make room.
#[derive(Debug)]
pub struct Object {
    file: File,
    bytes: u64,
    _lease: Option<Lease>,
}

impl Object {
    /// The file; nobody writes to it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.bytes
    }
}

impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Store {
    /// Opens the store at `root`, creating it where there is none, and removes what writers that
    /// died left unfinished. No remote store is behind it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be made or read.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(root, StoreOptions::default())
    }

    /// [`Store::open`] with a remote store behind it.
    ///
    /// # Errors
    /// As [`Store::open`]; [`StoreError::CacheInUse`].
    pub fn open_with(root: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let root = root.as_ref().to_owned();
        for folder in ["objects", "partial", "cache"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        }
        draft::sweep(&root.join("partial"))?;
        let counts = Arc::<Counts>::default();
        let (mut cache, mut fetcher) = (None, None);
        if let Some(remote) = options.remote {
            let counts = Arc::clone(&counts);
            cache = Some(Arc::new(DiskCache::open(
                &root,
                options.cache_bytes,
                counts,
            )?));
            fetcher = Some(Fetcher::start(remote).map_err(io("start threads for", &root))?);
        }
        Ok(Store {
            inner: Arc::new(Inner {
                root,
                counts,
                cache,
                fetcher,
            }),
        })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// What was read from where so far.
    pub fn stats(&self) -> StoreStats {
        self.inner.counts.read()
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
        let mut partial = draft::begin(&self.inner.partial())?;
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
        let mut partial = draft::begin(&self.inner.partial())?;
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
        match self.read(digest, limit) {
            // A fetched object that the disk has spoilt is had again.
            Err(StoreError::Damaged { .. }) if self.discard(digest) => self.read(digest, limit),
            result => result,
        }
    }

    fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let object = self.object(digest)?;
        let bytes = object.bytes;
        let too_large = |bytes| StoreError::TooLarge {
            digest: *digest,
            bytes,
            limit,
        };
        if bytes > limit {
            return Err(too_large(bytes));
        }
        let mut content = Vec::with_capacity(bytes as usize);
        object
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(io("read an object of", self.root()))?;
        if content.len() as u64 > limit {
            return Err(too_large(content.len() as u64));
        }
        matches(digest, digest_of(&content))?;
        Ok(content)
    }

    /// An object whose bytes have just been checked, for readers that map files.
    ///
    /// # Errors
    /// As [`Store::get`], without a bound on size.
    pub fn verified(&self, digest: &Digest) -> Result<Object, StoreError> {
        let mut object = self.object(digest)?;
        let hashed = copy_hashed(&mut object, &mut std::io::sink(), u64::MAX);
        let (found, _) = hashed.map_err(io("read an object of", self.root()))?;
        if let Err(error) = matches(digest, found) {
            self.discard(digest);
            return Err(error);
        }
        object
            .file
            .rewind()
            .map_err(io("read an object of", self.root()))?;
        Ok(object)
    }

    /// Opens an object, fetched if need be. Its bytes are not checked: that is for readers that hold
    /// them against its digest themselves.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::Fetch`] when there is a remote store.
    pub fn object(&self, digest: &Digest) -> Result<Object, StoreError> {
        if let Some(object) = self.inner.find(digest)? {
            self.inner.counts.disk(object.bytes);
            return Ok(object);
        }
        let Some(fetcher) = &self.inner.fetcher else {
            return Err(StoreError::Missing(*digest));
        };
        for _ in 0..TRIES {
            fetcher
                .wait(&self.inner, digest)
                .map_err(|error| self.inner.fetch_error(digest, error))?;
            // Others may have needed its room meanwhile.
            if let Some(object) = self.inner.find(digest)? {
                return Ok(object);
            }
        }
        let full = crate::remote::FetchError::Full;
        Err(self.inner.fetch_error(digest, full))
    }

    /// Copies an object to `to` and returns its size. What was written counts only when this
    /// returns `Ok`: the digest is known at the end.
    ///
    /// # Errors
    /// As [`Store::get`], without a bound on size.
    pub fn copy_to(&self, digest: &Digest, to: &mut impl Write) -> Result<u64, StoreError> {
        let mut object = self.object(digest)?;
        let (found, bytes) =
            copy_hashed(&mut object, to, u64::MAX).map_err(io("copy an object of", self.root()))?;
        if let Err(error) = matches(digest, found) {
            self.discard(digest);
            return Err(error);
        }
        Ok(bytes)
    }

    /// Whether an object of this name is on this disk. Its bytes are checked when they are read.
    pub fn has(&self, digest: &Digest) -> bool {
        self.own_path(digest).is_file() || self.cached_path(digest).is_file()
    }

    /// Whether objects that are not here can come from a remote store.
    pub fn has_remote(&self) -> bool {
        self.inner.fetcher.is_some()
    }

    /// Brings objects to this disk without waiting for them, and calls `then` once: when all are here,
    /// on this thread if they were, or when one did not come. Many may be on their way at once; of one
    /// object there is one download, however many ask.
    pub fn bring(
        &self,
        digests: &[Digest],
        then: impl FnOnce(Result<Reached, StoreError>) + Send + 'static,
    ) {
        let mut absent: Vec<Digest> = digests.iter().filter(|d| !self.has(d)).copied().collect();
        absent.sort_unstable();
        absent.dedup();
        let Some(first) = absent.first() else {
            return then(Ok(Reached::Disk));
        };
        let Some(fetcher) = &self.inner.fetcher else {
            return then(Err(StoreError::Missing(*first)));
        };
        let gathered = Arc::new(Gathered {
            left: AtomicUsize::new(absent.len()),
            failed: AtomicBool::new(false),
            then: Mutex::new(Some(Box::new(then))),
        });
        for digest in absent {
            let (gathered, inner) = (Arc::clone(&gathered), Arc::downgrade(&self.inner));
            let arrived = move |result: Result<(), crate::remote::FetchError>| match result {
                Ok(()) => gathered.arrive(),
                Err(error) => gathered.fail(match inner.upgrade() {
                    Some(inner) => inner.fetch_error(&digest, error),
                    None => StoreError::Missing(digest),
                }),
            };
            fetcher.call(&self.inner, &digest, Box::new(arrived));
        }
    }

    /// Where an object of this store's own is.
    pub(crate) fn own_path(&self, digest: &Digest) -> PathBuf {
        path_in(&self.root().join("objects"), digest)
    }

    fn cached_path(&self, digest: &Digest) -> PathBuf {
        path_in(&cache::folder(self.root()), digest)
    }

    /// Removes a fetched object whose bytes are not its own; `false` when it is not one.
    fn discard(&self, digest: &Digest) -> bool {
        let fetched = !self.own_path(digest).is_file() && self.has(digest);
        match &self.inner.cache {
            Some(cache) if fetched => {
                tracing::warn!(
                    object = to_hex(digest),
                    "the disk has spoilt a fetched object, fetching it again"
                );
                cache.discard(digest);
                true
            }
            _ => false,
        }
    }

    /// Whether the object is this store's own, with the right bytes. A damaged one is not: it is
    /// replaced.
    fn holds(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.own_path(digest);
        let Some(mut file) = open(&path)? else {
            return Ok(false);
        };
        let hashed = copy_hashed(&mut file, &mut std::io::sink(), u64::MAX);
        Ok(hashed.map_err(io("read", path))?.0 == *digest)
    }

    fn keep(&self, draft: NamedTempFile, digest: &Digest) -> Result<(), StoreError> {
        publish(draft, &self.own_path(digest), &self.root().join("objects"))
    }
}

impl Inner {
    /// Where objects are written.
    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Opens an object that is on this disk.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn find(&self, digest: &Digest) -> Result<Option<Object>, StoreError> {
        let own = path_in(&self.root.join("objects"), digest);
        let (file, lease) = match (open(&own)?, &self.cache) {
            (Some(file), _) => (file, None),
            (None, Some(cache)) => match cache.get(digest)? {
                Some((file, lease)) => (file, Some(lease)),
                None => return Ok(None),
            },
            (None, None) => match open(&path_in(&cache::folder(&self.root), digest))? {
                Some(file) => (file, None),
                None => return Ok(None),
            },
        };
        let bytes = file.metadata().map_err(io("read", own))?.len();
        Ok(Some(Object {
            file,
            bytes,
            _lease: lease,
        }))
    }
}

/// Several objects on their way.
struct Gathered {
    left: AtomicUsize,
    failed: AtomicBool,
    then: Mutex<Option<Called>>,
}

type Called = Box<dyn FnOnce(Result<Reached, StoreError>) + Send>;

impl Gathered {
    fn arrive(&self) {
        let was = self.left.fetch_sub(1, Ordering::AcqRel);
        if was == 1 && !self.failed.load(Ordering::Acquire) {
            self.call(Ok(Reached::Remote));
        }
    }

    fn fail(&self, error: StoreError) {
        self.failed.store(true, Ordering::Release);
        self.call(Err(error));
    }

    fn call(&self, result: Result<Reached, StoreError>) {
        let then = self
            .then
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(then) = then {
            then(result);
        }
    }
}

/// Where an object is in a folder of objects.
pub(crate) fn path_in(folder: &Path, digest: &Digest) -> PathBuf {
    let name = to_hex(digest);
    let (shelf, rest) = name.split_at(2);
    folder.join(shelf).join(rest)
}

/// Moves a draft to its name in `folder`, after its bytes and before its name are on disk.
///
/// # Errors
/// [`StoreError::Io`].
pub(crate) fn publish(draft: NamedTempFile, path: &Path, folder: &Path) -> Result<(), StoreError> {
    let shelf = path.parent().unwrap_or(folder);
    fs::create_dir_all(shelf).map_err(io("create", shelf))?;
    read_only(draft.as_file()).map_err(io("protect", draft.path()))?;
    draft
        .as_file()
        .sync_all()
        .map_err(io("sync", draft.path()))?;
    draft
        .persist(path)
        .map_err(|error| io("rename to", path)(error.error))?;
    sync_folder(shelf)?;
    // The shelf itself may be new.
    sync_folder(folder)
}

/// Opens a file that may not be there.
fn open(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("open", path)(error)),
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
