//! An NVIDIA GPU, through the CUDA driver.
//!
//! Nothing is linked: the driver's library is looked for when a device is opened, and its absence is an
//! error. One context per device, two streams that do not wait for the default one.

use super::blas::CublasLt;
use super::nccl::{Member, NcclRank};
use super::{Address, Blas, Call, Device, DeviceError, DeviceFacts, DeviceRank, Kernels, Stream};
use crate::backend::cuda::compiler::{Compiler, Target};
use crate::backend::cuda::cubins::CubinCache;
use crate::backend::cuda::sources::{Options, Source, SOURCES};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::any::Any;
use std::collections::HashMap;
use std::ffi::{c_int, c_void, CString};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The driver's interface that is used, as the driver numbers it.
const INTERFACE: i32 = 13_000;

/// Gives an error of the driver its occasion.
fn refused(what: &'static str) -> impl Fn(DriverError) -> DeviceError {
    move |error| {
        let text = error.error_string().map(|text| text.to_string_lossy());
        DeviceError::Refused {
            what,
            reason: text.map_or_else(|_| format!("{:?}", error.0), |text| text.into_owned()),
        }
    }
}

/// The context and its streams, alive as long as anything of the device is.
struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    streams: [sys::CUstream; 2],
}

// SAFETY: the driver's handles may be used from any thread that has the context made current, which
// every use here does first.
unsafe impl Send for Context {}
// SAFETY: as above; the driver takes its own locks.
unsafe impl Sync for Context {}

impl Context {
    fn open(device: sys::CUdevice) -> Result<Self, DeviceError> {
        // SAFETY: the device is one that the driver gave.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(refused("opening the device"))?;
        let mut open = Self {
            device,
            context,
            streams: [std::ptr::null_mut(); 2],
        };
        open.bind()?;
        for stream in &mut open.streams {
            *stream = result::stream::create(result::stream::StreamKind::NonBlocking)
                .map_err(refused("making a stream"))?;
        }
        Ok(open)
    }

    /// Makes the context this thread's.
    fn bind(&self) -> Result<(), DeviceError> {
        // SAFETY: the context is alive.
        unsafe { result::ctx::set_current(self.context) }.map_err(refused("using the device"))
    }

    fn stream(&self, stream: Stream) -> sys::CUstream {
        match stream {
            Stream::Compute => self.streams[0],
            Stream::Copy => self.streams[1],
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.bind().is_err() {
            return;
        }
        for stream in self.streams.into_iter().filter(|stream| !stream.is_null()) {
            // SAFETY: ours, and not used again. What fails here is left to the end of the process.
            let _ = unsafe { result::stream::synchronize(stream) };
            // SAFETY: as above.
            let _ = unsafe { result::stream::destroy(stream) };
        }
        // SAFETY: retained in `open`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A GPU.
pub struct Driver {
    ordinal: u32,
    context: Arc<Context>,
    facts: DeviceFacts,
    compiler: Compiler,
    loaded: Mutex<HashMap<Options, Arc<LoadedKernels>>>,
    blas: OnceLock<CublasLt>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Driver").field(&self.facts.name).finish()
    }
}

impl Driver {
    /// How many GPUs there are.
    ///
    /// # Errors
    /// When there is no driver, or one too old.
    pub fn count() -> Result<u32, DeviceError> {
        // SAFETY: the initialisers of the driver's library run here, as in every CUDA program.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::NoDriver);
        }
        let mut version: c_int = 0;
        // SAFETY: the library is there, and the place is ours.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(refused("asking for the driver's version"))?;
        if version < INTERFACE {
            return Err(DeviceError::OldDriver { version });
        }
        match result::init() {
            Ok(()) => {}
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => return Ok(0),
            Err(error) => return Err(refused("starting the driver")(error)),
        }
        let count = result::device::get_count().map_err(refused("counting devices"))?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// What a GPU is that kernels compile for, without opening it: what goes wrong on it later does not reach
    /// this process.
    ///
    /// # Errors
    /// When there is no driver, no such device, or it is too old.
    pub fn describe(ordinal: u32) -> Result<DeviceFacts, DeviceError> {
        let facts = facts(Self::device(ordinal)?)?;
        new_enough(&facts)?;
        Ok(facts)
    }

    fn device(ordinal: u32) -> Result<sys::CUdevice, DeviceError> {
        let count = Self::count()?;
        if ordinal >= count {
            return Err(DeviceError::NoDevice { ordinal, count });
        }
        result::device::get(ordinal as c_int).map_err(refused("opening the device"))
    }

    /// Opens a GPU. Its kernels are compiled at [`Device::load`], and kept in the user's cache folder.
    ///
    /// # Errors
    /// When there is no driver, no such device or no compiler.
    pub fn open(ordinal: u32) -> Result<Self, DeviceError> {
        let device = Self::device(ordinal)?;
        let facts = facts(device)?;
        new_enough(&facts)?;
        let context = Arc::new(Context::open(device)?);
        Ok(Self {
            ordinal,
            facts,
            context,
            compiler: Compiler::load(CubinCache::of_user())?,
            loaded: Mutex::default(),
            blas: OnceLock::new(),
        })
    }

    fn target(&self) -> Target {
        let (major, minor) = self.facts.capability;
        Target { major, minor }
    }
}

/// Refuses a device that the kernels do not compile for.
fn new_enough(facts: &DeviceFacts) -> Result<(), DeviceError> {
    let (major, minor) = facts.capability;
    if (Target { major, minor }) < Target::OLDEST {
        return Err(DeviceError::OldDevice {
            name: facts.name.clone(),
            major,
            minor,
        });
    }
    Ok(())
}

fn facts(device: sys::CUdevice) -> Result<DeviceFacts, DeviceError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let attribute = |attribute| {
        // SAFETY: the device is one that the driver gave.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        value
            .map(|value| u32::try_from(value).unwrap_or(0))
            .map_err(refused("asking what the device is"))
    };
    let mut version: c_int = 0;
    // SAFETY: the place is ours.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(refused("asking for the driver's version"))?;
    let kilohertz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE).unwrap_or(0);
    let bits = attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH).unwrap_or(0);
    // Two transfers in each cycle of the clock.
    let bandwidth = 2.0 * 1e3 * f64::from(kilohertz) * f64::from(bits) / 8.0;
    Ok(DeviceFacts {
        name: result::device::get_name(device).map_err(refused("asking what the device is"))?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: the device is one that the driver gave.
        memory: unsafe { result::device::total_mem(device) }
            .map_err(refused("asking what the device is"))?,
        bandwidth: (bandwidth > 0.0).then_some(bandwidth),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        driver: format!("{}.{}", version / 1000, version % 1000 / 10),
    })
}

impl Device for Driver {
    fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    fn free_bytes(&self) -> Result<usize, DeviceError> {
        self.context.bind()?;
        let (free, _) = result::mem_get_info().map_err(refused("asking for free memory"))?;
        Ok(free)
    }

    fn load(&self, options: &Options) -> Result<Arc<dyn Kernels>, DeviceError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = loaded.get(options) {
            return Ok(Arc::clone(kernels) as Arc<dyn Kernels>);
        }
        self.context.bind()?;
        let mut kernels = LoadedKernels::new(&self.context);
        for source in SOURCES {
            let cubin = self.compiler.compile(source, options, self.target())?;
            kernels.add(&cubin, source.kernels)?;
        }
        let kernels = Arc::new(kernels);
        loaded.insert(*options, Arc::clone(&kernels));
        Ok(kernels)
    }

    fn load_each(&self, options: &Options) -> Vec<(&'static str, Result<(), DeviceError>)> {
        let one = |source: &Source| {
            self.context.bind()?;
            let cubin = self.compiler.compile(source, options, self.target())?;
            LoadedKernels::new(&self.context).add(&cubin, source.kernels)
        };
        let each = SOURCES.iter();
        each.map(|source| (source.name, one(source))).collect()
    }

    fn blas(&self) -> Result<&dyn Blas, DeviceError> {
        if let Some(blas) = self.blas.get() {
            return Ok(blas);
        }
        self.context.bind()?;
        let context = Arc::clone(&self.context);
        let made = CublasLt::open(self.context.stream(Stream::Compute), move || context.bind())?;
        // Another thread's is as good.
        Ok(self.blas.get_or_init(|| made))
    }

    fn group(&self, devices: &[Arc<dyn Device>]) -> Result<Vec<Arc<dyn DeviceRank>>, DeviceError> {
        let mut members: Vec<Member> = Vec::with_capacity(devices.len());
        for device in devices {
            let device: &dyn Any = &**device;
            let gpu = device
                .downcast_ref::<Self>()
                .ok_or(DeviceError::Unsupported(
                    "way to reach a device of another kind",
                ))?;
            let context = Arc::clone(&gpu.context);
            members.push(Member {
                ordinal: gpu.ordinal,
                stream: gpu.context.stream(Stream::Compute).cast(),
                bind: Box::new(move || context.bind()),
            });
        }
        let ranks = NcclRank::group(members)?;
        Ok(ranks.into_iter().map(|rank| Arc::new(rank) as _).collect())
    }

    fn allocate(&self, bytes: usize) -> Result<Address, DeviceError> {
        self.context.bind()?;
        // SAFETY: the contents are undefined, as promised.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Address(address)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(DeviceError::Memory { bytes })
            }
            Err(error) => Err(refused("taking memory")(error)),
        }
    }

    unsafe fn free(&self, memory: Address, _: usize) {
        if self.context.bind().is_ok() {
            // SAFETY: by the caller's promise. What fails is left to the end of the process.
            let _ = unsafe { result::free_sync(memory.0) };
        }
    }

    fn allocate_host(&self, bytes: usize) -> Result<*mut u8, DeviceError> {
        self.context.bind()?;
        // SAFETY: the contents are undefined, as promised.
        let memory = unsafe { result::malloc_host(bytes, 0) };
        memory
            .map(|memory| memory.cast())
            .map_err(refused("taking page-locked memory"))
    }

    unsafe fn free_host(&self, memory: *mut u8, _: usize) {
        if self.context.bind().is_ok() {
            // SAFETY: by the caller's promise.
            let _ = unsafe { result::free_host(memory.cast()) };
        }
    }

    unsafe fn lock_host(&self, memory: *const u8, bytes: usize) -> Result<(), DeviceError> {
        self.context.bind()?;
        // SAFETY: by the caller's promise; nothing is written.
        unsafe { sys::cuMemHostRegister_v2(memory.cast_mut().cast(), bytes, 0) }
            .result()
            .map_err(refused("page-locking memory"))
    }

    unsafe fn unlock_host(&self, memory: *const u8) {
        if self.context.bind().is_ok() {
            // SAFETY: by the caller's promise.
            let _ = unsafe { sys::cuMemHostUnregister(memory.cast_mut().cast()) };
        }
    }

    unsafe fn upload(&self, stream: Stream, to: Address, from: &[u8]) -> Result<(), DeviceError> {
        self.context.bind()?;
        // SAFETY: by the caller's promise.
        unsafe { result::memcpy_htod_async(to.0, from, self.context.stream(stream)) }
            .map_err(refused("copying to the device"))
    }

    unsafe fn download(
        &self,
        stream: Stream,
        to: *mut u8,
        from: Address,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        self.context.bind()?;
        // SAFETY: by the caller's promise.
        unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from.0, bytes, self.context.stream(stream)) }
            .result()
            .map_err(refused("copying from the device"))
    }

    unsafe fn clear(&self, stream: Stream, to: Address, bytes: usize) -> Result<(), DeviceError> {
        self.context.bind()?;
        // SAFETY: by the caller's promise.
        unsafe { result::memset_d8_async(to.0, 0, bytes, self.context.stream(stream)) }
            .map_err(refused("clearing memory"))
    }

    fn synchronize(&self, stream: Stream) -> Result<(), DeviceError> {
        self.context.bind()?;
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(self.context.stream(stream)) }
            .map_err(refused("waiting for the device"))
    }

    fn record(&self, stream: Stream) -> Result<u64, DeviceError> {
        self.context.bind()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
            .map_err(refused("making an event"))?;
        // SAFETY: both are alive.
        let recorded = unsafe { result::event::record(event, self.context.stream(stream)) };
        if let Err(error) = recorded {
            // SAFETY: ours, and not used again.
            let _ = unsafe { result::event::destroy(event) };
            return Err(refused("recording an event")(error));
        }
        Ok(event as u64)
    }

    unsafe fn wait_for(&self, stream: Stream, event: u64) -> Result<(), DeviceError> {
        self.context.bind()?;
        let (stream, event) = (self.context.stream(stream), event as sys::CUevent);
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: by the caller's promise.
        unsafe { result::stream::wait_event(stream, event, flags) }
            .map_err(refused("waiting for an event"))
    }

    unsafe fn await_event(&self, event: u64) -> Result<(), DeviceError> {
        self.context.bind()?;
        // SAFETY: by the caller's promise.
        unsafe { result::event::synchronize(event as sys::CUevent) }
            .map_err(refused("waiting for an event"))
    }

    unsafe fn seconds_between(&self, first: u64, last: u64) -> Result<f64, DeviceError> {
        self.context.bind()?;
        // SAFETY: by the caller's promise.
        let milliseconds =
            unsafe { result::event::elapsed(first as sys::CUevent, last as sys::CUevent) };
        milliseconds
            .map(|milliseconds| f64::from(milliseconds) / 1e3)
            .map_err(refused("measuring time"))
    }

    unsafe fn drop_event(&self, event: u64) {
        if self.context.bind().is_ok() {
            // SAFETY: by the caller's promise.
            let _ = unsafe { result::event::destroy(event as sys::CUevent) };
        }
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        self.context.bind()?;
        // Of this thread alone: another thread's copies go on meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        unsafe { result::stream::begin_capture(self.context.stream(Stream::Compute), mode) }
            .map_err(refused("writing launches down"))
    }

    fn end_capture(&self) -> Result<u64, DeviceError> {
        self.context.bind()?;
        let failed = refused("writing launches down");
        // SAFETY: the stream is alive.
        let graph = unsafe { result::stream::end_capture(self.context.stream(Stream::Compute)) };
        let graph = graph.map_err(&failed)?;
        if graph.is_null() {
            return Err(DeviceError::Refused {
                what: "writing launches down",
                reason: "something among them cannot be".to_owned(),
            });
        }
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph is alive until it is destroyed.
        let ready = unsafe { result::graph::instantiate(graph, flags) };
        // SAFETY: as above; what was instantiated has its own copy.
        let _ = unsafe { result::graph::destroy(graph) };
        Ok(ready.map_err(failed)? as u64)
    }

    unsafe fn launch_graph(&self, graph: u64) -> Result<(), DeviceError> {
        self.context.bind()?;
        let stream = self.context.stream(Stream::Compute);
        // SAFETY: by the caller's promise.
        unsafe { result::graph::launch(graph as sys::CUgraphExec, stream) }
            .map_err(refused("launching a graph"))
    }

    unsafe fn drop_graph(&self, graph: u64) {
        if self.context.bind().is_ok() {
            // SAFETY: by the caller's promise.
            let _ = unsafe { result::graph::exec_destroy(graph as sys::CUgraphExec) };
        }
    }
}

/// Kernels on the device.
struct LoadedKernels {
    context: Arc<Context>,
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: as for `Context`.
unsafe impl Send for LoadedKernels {}
// SAFETY: as for `Context`.
unsafe impl Sync for LoadedKernels {}

impl LoadedKernels {
    fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            modules: Vec::new(),
            functions: HashMap::new(),
        }
    }

    fn add(&mut self, cubin: &[u8], kernels: &[&'static str]) -> Result<(), DeviceError> {
        // SAFETY: the compiler's output, whole, as the cache checks. The driver reads its length from it.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) }
            .map_err(refused("loading kernels"))?;
        self.modules.push(module);
        for kernel in kernels {
            let name = CString::new(*kernel).map_err(|_| DeviceError::NoKernel(kernel))?;
            // SAFETY: the module is loaded and stays as long as its functions.
            let function = unsafe { result::module::get_function(module, name) }
                .map_err(|_| DeviceError::NoKernel(kernel))?;
            self.functions.insert(kernel, function);
        }
        Ok(())
    }
}

impl Kernels for LoadedKernels {
    unsafe fn launch(&self, stream: Stream, call: &dyn Call) -> Result<(), DeviceError> {
        let launch = call.launch();
        if launch.is_empty() {
            return Ok(());
        }
        let function = self
            .functions
            .get(launch.kernel)
            .ok_or(DeviceError::NoKernel(launch.kernel))?;
        self.context.bind()?;
        let mut arguments: Vec<*mut c_void> = call.arguments();
        let [x, y, z] = launch.grid;
        let stream = self.context.stream(stream);
        // SAFETY: the arguments live through the call, which copies them; what they mean is the caller's
        // promise.
        unsafe {
            result::launch_kernel(
                *function,
                (x, y, z),
                (launch.threads, 1, 1),
                0,
                stream,
                &mut arguments,
            )
        }
        .map_err(refused(launch.kernel))
    }
}

impl Drop for LoadedKernels {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        for module in &self.modules {
            // SAFETY: ours, and not used again.
            let _ = unsafe { result::module::unload(*module) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_the_kernels_are_too_new_for_should_be_refused() {
        let facts = |capability| DeviceFacts {
            name: "NVIDIA T4".to_owned(),
            capability,
            memory: 0,
            bandwidth: None,
            multiprocessors: 0,
            driver: String::new(),
        };
        for capability in [(8, 0), (8, 9), (9, 0), (10, 0)] {
            assert!(new_enough(&facts(capability)).is_ok(), "{capability:?}");
        }
        let refused = new_enough(&facts((7, 5))).unwrap_err().to_string();
        assert!(refused.starts_with("NVIDIA T4 has compute capability 7.5"));
        assert!(refused.contains("8.0"), "{refused}");
    }

    #[test]
    fn a_machine_without_a_driver_should_get_an_error_that_says_so() {
        match Driver::count() {
            Err(error @ DeviceError::NoDriver) => {
                assert!(error
                    .to_string()
                    .starts_with("no CUDA driver: libcuda.so.1"));
                assert!(matches!(Driver::open(0), Err(DeviceError::NoDriver)));
            }
            Err(error) => println!("a driver that cannot be used: {error}"),
            Ok(count) => assert!(matches!(
                Driver::open(count),
                Err(DeviceError::NoDevice { .. })
            )),
        }
    }
}
