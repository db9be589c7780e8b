//! Sums over several GPUs of one machine by NCCL, found at run time.
//!
//! Packages of NCCL bring `libnccl.so.2` and only those for developers `libnccl.so`, which is the name that
//! cudarc looks for. So its few functions are looked up here, as `nccl.h` declares them.

use super::{DeviceError, DeviceRank, DeviceValues};
use crate::backend::cuda::sources::Storage;
use crate::backend::parallel::{Communicator, CommunicatorError};
use libloading::Library;
use std::ffi::{c_char, c_int, c_void, CStr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Names the library's file.
const LIBRARY_VARIABLE: &str = "OPENLEDGER_NCCL";

/// The file's names, if it is not named.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// The first version that adds up BF16: 2.10, as the library numbers it.
const OLDEST: c_int = 21_000;

/// `ncclComm_t`.
type Comm = *mut c_void;

/// `ncclSuccess`.
const SUCCESS: c_int = 0;
/// `ncclSum`.
const SUM: c_int = 0;
/// `ncclFloat32`.
const FLOAT32: c_int = 7;
/// `ncclBfloat16`.
const BFLOAT16: c_int = 9;

type GetVersion = unsafe extern "C" fn(*mut c_int) -> c_int;
type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;
type GetLastError = unsafe extern "C" fn(Comm) -> *const c_char;
type CommInitAll = unsafe extern "C" fn(*mut Comm, c_int, *const c_int) -> c_int;
type CommEnd = unsafe extern "C" fn(Comm) -> c_int;
type AllReduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    c_int,
    c_int,
    Comm,
    *mut c_void,
) -> c_int;

/// The library's functions.
struct Nccl {
    version: c_int,
    get_error_string: GetErrorString,
    /// Of 2.13 and later.
    get_last_error: Option<GetLastError>,
    comm_init_all: CommInitAll,
    comm_abort: CommEnd,
    comm_destroy: CommEnd,
    all_reduce: AllReduce,
    /// The functions are in it.
    _library: Library,
}

impl Nccl {
    /// Loads the library once for the process.
    fn load() -> Result<&'static Self, DeviceError> {
        static LOADED: OnceLock<Nccl> = OnceLock::new();
        if let Some(loaded) = LOADED.get() {
            return Ok(loaded);
        }
        let named = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
        let loaded = match named {
            Some(path) => Self::at(&PathBuf::from(path))?,
            None => {
                let found = NAMES.iter().find_map(|name| {
                    // SAFETY: the initialisers of a library of NCCL's name run here.
                    unsafe { Library::new(*name) }.ok()
                });
                Self::of(found.ok_or(DeviceError::NoNccl)?)?
            }
        };
        // Another thread's is as good.
        Ok(LOADED.get_or_init(|| loaded))
    }

    /// The library in this file.
    fn at(path: &Path) -> Result<Self, DeviceError> {
        // SAFETY: the initialisers of the library that the operator named run here.
        let library = unsafe { Library::new(path) };
        let library = library.map_err(|error| DeviceError::Refused {
            what: "loading the library that OPENLEDGER_NCCL names",
            reason: error.to_string(),
        })?;
        Self::of(library)
    }

    fn of(library: Library) -> Result<Self, DeviceError> {
        macro_rules! function {
            ($type:ty, $name:literal) => {
                // SAFETY: `nccl.h` declares the function of this name with this type, and it stays where it
                // is as long as the library, which is kept beside it.
                *unsafe { library.get::<$type>($name) }.map_err(|error| DeviceError::Refused {
                    what: "loading NCCL",
                    reason: error.to_string(),
                })?
            };
        }
        let get_version = function!(GetVersion, b"ncclGetVersion");
        let mut nccl = Self {
            version: 0,
            get_error_string: function!(GetErrorString, b"ncclGetErrorString"),
            // SAFETY: as above.
            get_last_error: unsafe { library.get::<GetLastError>(b"ncclGetLastError") }
                .ok()
                .map(|function| *function),
            comm_init_all: function!(CommInitAll, b"ncclCommInitAll"),
            comm_abort: function!(CommEnd, b"ncclCommAbort"),
            comm_destroy: function!(CommEnd, b"ncclCommDestroy"),
            all_reduce: function!(AllReduce, b"ncclAllReduce"),
            _library: library,
        };
        let mut version = 0;
        // SAFETY: the place is ours.
        nccl.done("asking for NCCL's version", unsafe {
            get_version(&mut version)
        })?;
        if version < OLDEST {
            return Err(DeviceError::Refused {
                what: "loading NCCL",
                reason: format!(
                    "its version {version} is too old; {OLDEST} (2.10) or later is needed"
                ),
            });
        }
        nccl.version = version;
        Ok(nccl)
    }

    fn done(&self, what: &'static str, result: c_int) -> Result<(), DeviceError> {
        if result == SUCCESS {
            return Ok(());
        }
        // SAFETY: the library gives a text that ends with a zero and stays, whatever the number.
        let text = unsafe { CStr::from_ptr((self.get_error_string)(result)) };
        let mut reason = format!("NCCL: {}", text.to_string_lossy());
        if let Some(get_last_error) = self.get_last_error {
            // SAFETY: as above; the error is of this process, so no communicator is needed.
            let text = unsafe { get_last_error(std::ptr::null_mut()) };
            if !text.is_null() {
                // SAFETY: as above.
                let text = unsafe { CStr::from_ptr(text) };
                reason = format!("{reason}: {}", text.to_string_lossy().trim());
            }
        }
        Err(DeviceError::Refused { what, reason })
    }
}

/// A GPU that becomes a rank.
pub(super) struct Member {
    /// Its number.
    pub ordinal: u32,
    /// `cudaStream_t` of its steps.
    pub stream: *mut c_void,
    /// Makes its context the thread's, and keeps it alive.
    pub bind: Box<dyn Fn() -> Result<(), DeviceError> + Send + Sync>,
}

/// One GPU of a group.
pub(super) struct NcclRank {
    rank: usize,
    stream: *mut c_void,
    bind: Box<dyn Fn() -> Result<(), DeviceError> + Send + Sync>,
    group: Arc<Group>,
}

// SAFETY: the stream may be used from any thread that has its context made current, which every use does.
unsafe impl Send for NcclRank {}
// SAFETY: as above; what is of the library is in the group.
unsafe impl Sync for NcclRank {}

/// What the ranks share: whoever fails ends what all of them wait for.
struct Group {
    nccl: &'static Nccl,
    /// Of each rank; none once the group has ended.
    ends: Vec<Mutex<Option<End>>>,
    failure: Mutex<Option<CommunicatorError>>,
}

/// One rank's communicator.
struct End(Comm);

// SAFETY: the library allows any thread, one at a time, which the lock around it sees to.
unsafe impl Send for End {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole whatever panicked: each change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    /// Ends all communicators by one of the library's functions, which may wait in each for the others.
    fn end(&self, by: CommEnd) {
        std::thread::scope(|scope| {
            for end in self.ends.iter().filter_map(|end| lock(end).take()) {
                scope.spawn(move || {
                    let End(comm) = { end };
                    // SAFETY: the communicator is alive, and nobody has it any more. What fails here is left
                    // to the end of the process.
                    let _ = unsafe { by(comm) };
                });
            }
        });
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end(self.nccl.comm_destroy);
    }
}

impl NcclRank {
    /// Makes a group of these GPUs.
    ///
    /// # Errors
    /// Without the library, when a GPU is named twice, or when they cannot reach each other.
    pub fn group(members: Vec<Member>) -> Result<Vec<Self>, DeviceError> {
        let ordinals: Vec<c_int> = members.iter().map(|m| m.ordinal as c_int).collect();
        for (i, ordinal) in ordinals.iter().enumerate() {
            if ordinals[..i].contains(ordinal) {
                return Err(DeviceError::Refused {
                    what: "making a group of GPUs",
                    reason: format!("device {ordinal} is named twice"),
                });
            }
        }
        Self::group_by(Nccl::load()?, members, &ordinals)
    }

    fn group_by(
        nccl: &'static Nccl,
        members: Vec<Member>,
        ordinals: &[c_int],
    ) -> Result<Vec<Self>, DeviceError> {
        let mut comms: Vec<Comm> = vec![std::ptr::null_mut(); ordinals.len()];
        // SAFETY: both lists have as many entries as the library is told.
        let made = unsafe {
            (nccl.comm_init_all)(
                comms.as_mut_ptr(),
                ordinals.len() as c_int,
                ordinals.as_ptr(),
            )
        };
        nccl.done("making a group of GPUs", made)?;
        let group = Arc::new(Group {
            nccl,
            ends: comms
                .into_iter()
                .map(|comm| Mutex::new(Some(End(comm))))
                .collect(),
            failure: Mutex::default(),
        });
        let ranks = members.into_iter().enumerate();
        let rank = |(rank, member): (usize, Member)| Self {
            rank,
            stream: member.stream,
            bind: member.bind,
            group: Arc::clone(&group),
        };
        Ok(ranks.map(rank).collect())
    }

    fn queue(&self, comm: Comm, values: &DeviceValues) -> Result<(), DeviceError> {
        (self.bind)()?;
        let address = values.first.0 as *mut c_void;
        let kind = match values.storage {
            Storage::F32 => FLOAT32,
            Storage::Bf16 => BFLOAT16,
        };
        let nccl = self.group.nccl;
        // SAFETY: communicator and stream are alive and of one device; the values are its memory, by the
        // promise of who made them. A sum in its own place is allowed.
        let queued = unsafe {
            (nccl.all_reduce)(address, address, values.count, kind, SUM, comm, self.stream)
        };
        nccl.done("adding up over GPUs", queued)
    }
}

impl Communicator for NcclRank {
    type Buffer = DeviceValues;

    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.group.ends.len()
    }

    fn all_reduce(&self, values: &mut DeviceValues) -> Result<(), CommunicatorError> {
        let end = lock(&self.group.ends[self.rank]);
        match &*end {
            Some(End(comm)) => {
                let queued = self.queue(*comm, values);
                queued.map_err(|error| CommunicatorError::Device(error.to_string()))
            }
            None => Err(lock(&self.group.failure).clone().unwrap_or_else(|| {
                CommunicatorError::Device("the group of GPUs has ended".to_owned())
            })),
        }
    }

    fn abort(&self, reason: &str) {
        // The first one is why the others failed.
        lock(&self.group.failure).get_or_insert(CommunicatorError::Aborted {
            rank: self.rank,
            reason: reason.to_owned(),
        });
        self.group.end(self.group.nccl.comm_abort);
    }
}

impl DeviceRank for NcclRank {
    fn name(&self) -> String {
        // As the library numbers itself since 2.9.
        let version = self.group.nccl.version;
        let (major, minor) = (version / 10_000, version / 100 % 100);
        format!("NCCL {major}.{minor}.{}", version % 100)
    }

    /// NCCL says that its operations may be; that it is right here was never tried on GPUs.
    fn is_capturable(&self) -> bool {
        false
    }

    /// Of two numbers there is one sum. Of more, the order follows from where in the buffer they are.
    fn is_exact(&self) -> bool {
        self.group.ends.len() <= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::launch::Address;
    use std::path::Path;
    use std::process::Command;

    /// What stands in for NCCL: sums of one group over memory of the host. It counts what it is asked, and
    /// refuses what `nccl.h` does not declare so.
    const STAND_IN: &str = r#"
        #include <condition_variable>
        #include <cstddef>
        #include <cstdint>
        #include <cstring>
        #include <mutex>
        #include <vector>
        static std::mutex lock;
        static std::condition_variable changed;
        static std::vector<double> total;
        static int ranks, arrived, left, destroyed, aborted;
        static double wide(const void *p, size_t i, int type) {
            if (type == 7) return static_cast<const float *>(p)[i];
            uint32_t bits = uint32_t(static_cast<const uint16_t *>(p)[i]) << 16;
            float value;
            std::memcpy(&value, &bits, 4);
            return value;
        }
        extern "C" {
        int ncclGetVersion(int *version) { *version = VERSION; return 0; }
        const char *ncclGetErrorString(int) { return "invalid argument"; }
        int ncclCommInitAll(void **comms, int count, const int *devices) {
            ranks = count;
            for (int i = 0; i < count; i++) {
                if (devices[i] < 0 || devices[i] > 7) return 4;
                comms[i] = reinterpret_cast<void *>(intptr_t(100 + i));
            }
            return 0;
        }
        int ncclCommDestroy(void *) { std::lock_guard<std::mutex> held(lock); destroyed++; return 0; }
        int ncclCommAbort(void *) { std::lock_guard<std::mutex> held(lock); aborted++; return 0; }
        int ended(int by_abort) { return by_abort ? aborted : destroyed; }
        int ncclAllReduce(const void *from, void *to, size_t count, int type, int sum, void *comm,
                          void *stream) {
            intptr_t rank = reinterpret_cast<intptr_t>(comm) - 100;
            // Each rank has a stream of its own, numbered by the test.
            if (from != to || (type != 7 && type != 9) || sum != 0 || rank < 0 || rank >= ranks ||
                reinterpret_cast<intptr_t>(stream) != 500 + rank || count == 0)
                return 4;
            std::unique_lock<std::mutex> held(lock);
            changed.wait(held, [] { return left == 0; });
            if (arrived == 0) total.assign(count, 0.0);
            for (size_t i = 0; i < count; i++) total[i] += wide(from, i, type);
            if (++arrived == ranks) { left = ranks; changed.notify_all(); }
            changed.wait(held, [] { return left > 0; });
            for (size_t i = 0; i < count; i++) {
                float value = float(total[i]);
                if (type == 7) static_cast<float *>(to)[i] = value;
                else {
                    uint32_t bits;
                    std::memcpy(&bits, &value, 4);
                    static_cast<uint16_t *>(to)[i] = uint16_t(bits >> 16);
                }
            }
            if (--left == 0) { arrived = 0; changed.notify_all(); }
            return 0;
        }
        }
    "#;

    /// The stand-in, compiled; none without a compiler. Each test has a copy with counts of its own.
    fn stand_in(folder: &Path, version: c_int) -> Option<PathBuf> {
        let (source, library) = (folder.join("nccl.cpp"), folder.join("libnccl.so.2"));
        std::fs::write(&source, STAND_IN).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let built = Command::new(compiler)
            .args(["-std=c++17", "-shared", "-fPIC", "-pthread"])
            .arg(format!("-DVERSION={version}"))
            .arg(&source)
            .arg("-o")
            .arg(&library)
            .status();
        match built {
            Ok(status) => {
                assert!(status.success());
                Some(library)
            }
            Err(_) => {
                println!("skipped: no C++ compiler");
                None
            }
        }
    }

    /// A group of the stand-in's, and how many of its communicators have been ended, by an abort or not.
    fn stand_in_group(path: &Path, ranks: usize) -> (Vec<NcclRank>, impl Fn(bool) -> c_int) {
        // SAFETY: the stand-in has this function.
        let library = unsafe { Library::new(path) }.unwrap();
        let ended = move |by_abort: bool| {
            // SAFETY: as above, and of this type.
            unsafe {
                let ended = library.get::<unsafe extern "C" fn(c_int) -> c_int>(b"ended");
                ended.unwrap()(c_int::from(by_abort))
            }
        };
        let nccl = Box::leak(Box::new(Nccl::at(path).unwrap()));
        let member = |rank: usize| Member {
            ordinal: rank as u32,
            stream: (500 + rank) as *mut c_void,
            bind: Box::new(|| Ok(())),
        };
        let ordinals: Vec<c_int> = (0..ranks as c_int).collect();
        let members = (0..ranks).map(member).collect();
        (NcclRank::group_by(nccl, members, &ordinals).unwrap(), ended)
    }

    fn sum<T>(
        rank: &NcclRank,
        values: &mut [T],
        storage: Storage,
    ) -> Result<(), CommunicatorError> {
        let first = Address(values.as_mut_ptr() as u64);
        // SAFETY: the stand-in adds up in the memory of the host before it returns.
        let mut values = unsafe { DeviceValues::new(first, values.len(), storage) };
        rank.all_reduce(&mut values)
    }

    #[test]
    fn every_rank_should_have_the_sum_of_all_in_both_storages() {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = stand_in(folder.path(), 22_809) else {
            return;
        };
        let (ranks, ended) = stand_in_group(&path, 4);
        std::thread::scope(|scope| {
            for rank in &ranks {
                scope.spawn(move || {
                    for round in 0..10 {
                        let mine = (1 << rank.rank()) as f32;
                        let mut values = [mine, -2.0 * mine, round as f32];
                        sum(rank, &mut values, Storage::F32).unwrap();
                        assert_eq!(values, [15.0, -30.0, 4.0 * round as f32]);
                        let bits = |value: f32| (value.to_bits() >> 16) as u16;
                        let mut values = [bits(mine), bits(0.5)];
                        sum(rank, &mut values, Storage::Bf16).unwrap();
                        assert_eq!(values, [bits(15.0), bits(2.0)]);
                    }
                });
            }
        });
        assert_eq!((ranks[3].rank(), ranks[3].ranks()), (3, 4));
        assert!(!ranks[0].is_exact());
        assert_eq!(ranks[0].name(), "NCCL 2.28.9");
        drop(ranks);
        assert_eq!((ended(false), ended(true)), (4, 0));
    }

    #[test]
    fn a_rank_that_gives_up_should_end_the_group_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = stand_in(folder.path(), 22_809) else {
            return;
        };
        let (ranks, ended) = stand_in_group(&path, 2);
        assert!(ranks[0].is_exact());
        // The library's own refusal comes with its text.
        let refused = sum::<f32>(&ranks[0], &mut [], Storage::F32).unwrap_err();
        assert!(
            refused.to_string().contains("NCCL: invalid argument"),
            "{refused}"
        );
        ranks[1].abort("no memory");
        ranks[0].abort("told so");
        for rank in &ranks {
            let error = sum(rank, &mut [1.0f32], Storage::F32).unwrap_err();
            assert_eq!(error.to_string(), "rank 1 gave up: no memory");
        }
        drop(ranks);
        assert_eq!((ended(false), ended(true)), (0, 2));
    }

    #[test]
    fn a_library_that_does_not_fit_should_be_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |path: &Path| match Nccl::at(path) {
            Ok(_) => panic!("{} was taken", path.display()),
            Err(error) => error.to_string(),
        };
        let missing = refusal(&folder.path().join("libnccl.so.2"));
        assert!(missing.contains("OPENLEDGER_NCCL"), "{missing}");
        if let Some(path) = stand_in(folder.path(), 2_804) {
            let old = refusal(&path);
            assert!(old.contains("2804 is too old"), "{old}");
        }
        let text = DeviceError::NoNccl.to_string();
        assert!(text.starts_with("libnccl not found: install"), "{text}");
    }

    /// Needs the library, not a GPU.
    #[test]
    fn the_library_itself_should_have_the_functions_that_are_looked_up() {
        let Some(path) = std::env::var_os(LIBRARY_VARIABLE) else {
            println!("skipped: no NCCL is named");
            return;
        };
        let nccl = Nccl::at(Path::new(&path)).unwrap();
        assert!(nccl.version >= OLDEST && nccl.get_last_error.is_some());
        // `ncclInvalidArgument`, whose text is the library's own.
        let refused = nccl.done("asking", 4).unwrap_err().to_string();
        assert!(refused.contains("invalid argument"), "{refused}");
    }

    #[test]
    fn a_gpu_that_is_named_twice_should_be_refused() {
        let member = |ordinal| Member {
            ordinal,
            stream: std::ptr::null_mut(),
            bind: Box::new(|| Ok(())),
        };
        let refused = NcclRank::group(vec![member(0), member(1), member(0)]);
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("device 0 is named twice"), "{text}");
    }
}
