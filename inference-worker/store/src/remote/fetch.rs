//! Downloads: beside their callers, one for each object however many ask, checked before they count.

use super::{said, Remote};
use crate::{
    cache::NoRoom,
    digest::to_hex,
    draft,
    error::StoreError,
    objects::{publish, Inner},
};
use blake2::{digest::consts::U32, Blake2b, Digest as _};
use futures::StreamExt;
use object_store::{Error as RemoteError, ObjectStoreExt};
use openledger_primitives::Digest;
use std::{
    collections::HashMap,
    io::Write,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::{
        mpsc::{self, Receiver, Sender},
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
    },
    time::{Duration, Instant},
};

/// Bytes a second that a download may count on; a slower one is broken off.
const LEAST_RATE: u64 = 256 << 10;

/// How long the remote is left alone after it could not be reached, at first and at most.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Why an object did not come from the remote store. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It is not there either.
    #[error("it is not there, nor in the local store")]
    Missing,
    /// Other bytes are under its name.
    #[error("other bytes are there under its name, they hash to {}; they were not kept", to_hex(.found))]
    Damaged {
        /// The digest of what is there.
        found: Digest,
    },
    /// The disk cache is too small.
    #[error(
        "it has {bytes} bytes, more than the disk cache may hold ({bound}); raise --disk-cache"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The cache's bound.
        bound: u64,
    },
    /// Everything in the disk cache is in use.
    #[error("the disk cache is full of objects in use; raise --disk-cache")]
    Full,
    /// The remote does not let us.
    #[error("access is refused; check the credentials in the AWS_ variables: {0}")]
    Refused(String),
    /// The remote does not answer, or not as it should.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("it did not come within {0} seconds")]
    TooSlow(u64),
    /// The local disk failed.
    #[error("it cannot be written: {0}")]
    Local(String),
}

impl FetchError {
    /// Whether it says something of the remote rather than of one object.
    fn is_outage(&self) -> bool {
        matches!(self, FetchError::Unreachable(_) | FetchError::TooSlow(_))
    }

    pub(super) fn of(error: &RemoteError) -> Self {
        match error {
            RemoteError::NotFound { .. } => FetchError::Missing,
            RemoteError::PermissionDenied { .. } | RemoteError::Unauthenticated { .. } => {
                FetchError::Refused(said(error))
            }
            error => FetchError::Unreachable(said(error)),
        }
    }
}

/// What to do when an object is there, or did not come.
pub(crate) type Then = Box<dyn FnOnce(Result<(), FetchError>) + Send>;

/// The downloads of one store.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) remote: Remote,
    flights: Mutex<HashMap<Digest, Arc<Flight>>>,
    jobs: Sender<Job>,
    rest: Mutex<Rest>,
}

/// One download and those who wait for it.
#[derive(Default)]
struct Flight {
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Default)]
struct State {
    result: Option<Result<(), FetchError>>,
    then: Vec<Then>,
}

struct Job {
    store: Arc<Inner>,
    digest: Digest,
}

/// While the remote is left alone.
#[derive(Debug)]
struct Rest {
    until: Option<Instant>,
    next: Duration,
    why: FetchError,
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flight")
    }
}

impl Flight {
    /// A panic of somebody who was called leaves the state whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, result: &Result<(), FetchError>) {
        let then = {
            let mut state = self.state();
            state.result = Some(result.clone());
            std::mem::take(&mut state.then)
        };
        self.landed.notify_all();
        for then in then {
            // It is somebody else's code: its panic is not ours, nor that of the next one.
            let _ = catch_unwind(AssertUnwindSafe(|| then(result.clone())));
        }
    }
}

impl Fetcher {
    /// Starts the threads that download from `remote`; they end when this is dropped.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(remote: Remote) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for n in 0..remote.inner.downloads {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new()
                .name(format!("store-fetch-{n}"))
                .spawn(move || work(&waiting))?;
        }
        Ok(Fetcher {
            remote,
            flights: Mutex::default(),
            jobs,
            rest: Mutex::new(Rest {
                until: None,
                next: FIRST_REST,
                why: FetchError::Missing,
            }),
        })
    }

    /// Begins the download of an object, or joins the one under way.
    fn join(&self, store: &Arc<Inner>, digest: &Digest) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(digest) {
            return Arc::clone(flight);
        }
        let flight = Arc::<Flight>::default();
        let job = Job {
            store: Arc::clone(store),
            digest: *digest,
        };
        if self.jobs.send(job).is_ok() {
            flights.insert(*digest, Arc::clone(&flight));
        } else {
            flight.land(&Err(FetchError::Local("its threads have ended".to_owned())));
        }
        flight
    }

    /// Waits until the object is there.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) fn wait(&self, store: &Arc<Inner>, digest: &Digest) -> Result<(), FetchError> {
        let flight = self.join(store, digest);
        let mut state = flight.state();
        loop {
            if let Some(result) = &state.result {
                return result.clone();
            }
            let woken = flight.landed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Calls `then` when the object is there or did not come, on a thread of the downloads.
    pub(crate) fn call(&self, store: &Arc<Inner>, digest: &Digest, then: Then) {
        let flight = self.join(store, digest);
        let mut state = flight.state();
        match state.result.clone() {
            None => state.then.push(then),
            Some(result) => {
                drop(state);
                then(result);
            }
        }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails at once while the remote is known not to answer.
    fn ensure_awake(&self) -> Result<(), FetchError> {
        let rest = self.rest();
        match rest.until {
            Some(until) if Instant::now() < until => Err(rest.why.clone()),
            _ => Ok(()),
        }
    }

    /// Takes from a download whether the remote can be reached.
    fn note(&self, result: &Result<(), FetchError>) {
        let mut rest = self.rest();
        match result {
            Err(error) if error.is_outage() => {
                // Downloads that began together fail together: that is one outage.
                if rest.until.is_none_or(|until| until <= Instant::now()) {
                    rest.until = Some(Instant::now() + rest.next);
                    rest.next = rest.next.saturating_mul(2).min(LONGEST_REST);
                    rest.why = error.clone();
                }
            }
            // The disk's troubles say nothing of it.
            Err(FetchError::Local(_) | FetchError::Full | FetchError::TooLarge { .. }) => {}
            Ok(()) | Err(_) => {
                rest.until = None;
                rest.next = FIRST_REST;
            }
        }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(Job { store, digest }) = next else {
            return;
        };
        let Some(fetcher) = store.fetcher.as_ref() else {
            continue;
        };
        let result = fetcher.ensure_awake().and_then(|()| {
            let result = catch_unwind(AssertUnwindSafe(|| download(&store, fetcher, &digest)));
            let result =
                result.unwrap_or_else(|_| Err(FetchError::Local("the download panicked".into())));
            fetcher.note(&result);
            result
        });
        if let Err(error) = &result {
            store.counts.failed();
            tracing::warn!(
                object = to_hex(&digest),
                remote = fetcher.remote.url(),
                "not fetched: {error}"
            );
        }
        // Who asks from here on finds the object, or tries again.
        let flight = fetcher
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&digest);
        // Whoever is told may open the folder anew.
        drop(store);
        if let Some(flight) = flight {
            flight.land(&result);
        }
    }
}

fn local(error: impl std::fmt::Display) -> FetchError {
    FetchError::Local(error.to_string())
}

/// Brings one object: to a draft, held against its digest, then under its name.
fn download(store: &Arc<Inner>, fetcher: &Fetcher, digest: &Digest) -> Result<(), FetchError> {
    let Some(cache) = &store.cache else {
        return Err(FetchError::Local("there is no cache".to_owned()));
    };
    // It may have come between the caller's look and this one.
    if store.find(digest).map_err(local)?.is_some() {
        return Ok(());
    }
    let (remote, started) = (&fetcher.remote, Instant::now());
    let patience = remote.inner.patience;
    let runtime = &remote.inner.handle;
    let until = started + patience;
    let slow = |until: Instant| FetchError::TooSlow((until - started).as_secs());
    let key = remote.key(digest);
    let answer = runtime
        .block_on(async { tokio::time::timeout_at(until.into(), remote.client().get(&key)).await })
        .map_err(|_| slow(until))?
        .map_err(|error| FetchError::of(&error))?;
    let size = answer.meta.size;
    let promise = match cache.promise(size, until).map_err(local)? {
        Ok(promise) => promise,
        Err(NoRoom::InUse) => return Err(FetchError::Full),
        Err(NoRoom::TooLarge) => {
            return Err(FetchError::TooLarge {
                bytes: size,
                bound: cache.bound(),
            })
        }
    };
    let until = until + Duration::from_secs(size / LEAST_RATE);
    let mut draft = draft::begin(&store.partial()).map_err(local)?;
    let mut hasher = Blake2b::<U32>::new();
    let mut written = 0u64;
    let mut body = answer.into_stream();
    while let Some(chunk) = runtime
        .block_on(async { tokio::time::timeout_at(until.into(), body.next()).await })
        .map_err(|_| slow(until))?
    {
        let chunk = chunk.map_err(|error| FetchError::of(&error))?;
        written = written.saturating_add(chunk.len() as u64);
        if written > size {
            return Err(FetchError::Unreachable(format!(
                "it sends more than the {size} bytes that it announced"
            )));
        }
        hasher.update(&chunk);
        draft.write_all(&chunk).map_err(local)?;
    }
    if written < size {
        return Err(FetchError::Unreachable(format!(
            "it sent {written} of {size} bytes"
        )));
    }
    let found: Digest = hasher.finalize().into();
    if found != *digest {
        return Err(FetchError::Damaged { found });
    }
    publish(
        draft,
        &cache.path(digest),
        &crate::cache::folder(&store.root),
    )
    .map_err(local)?;
    promise.keep(*digest);
    store.counts.remote(size);
    Ok(())
}

impl Inner {
    /// What a failed download is to a reader.
    pub(crate) fn fetch_error(&self, digest: &Digest, source: FetchError) -> StoreError {
        StoreError::Fetch {
            digest: *digest,
            remote: self
                .fetcher
                .as_ref()
                .map_or_else(String::new, |fetcher| fetcher.remote.url().to_owned()),
            source,
        }
    }
}
