//! The CPU as a device, for tests: memory of the host, and kernels as C++.
//!
//! Work is done when it is queued, by the thread that queues it. Memory that was taken and not written
//! holds NaNs, so that a result that rests on it shows.

use super::{
    Address, Blas, Call, Device, DeviceError, DeviceFacts, DeviceRank, DeviceValues, Kernels,
    Product, Stream,
};
use crate::backend::cuda::calls::{Gemm, GemmLogits};
use crate::backend::cuda::host::{HostKernels, Order};
use crate::backend::cuda::sources::{Options, Storage};
use crate::backend::parallel::{Communicator, CommunicatorError, LocalRank};
use crate::panels::Bf16;
use std::alloc::{alloc, dealloc, Layout};
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// To which taken memory is aligned, as on a GPU.
const ALIGNMENT: usize = 256;

/// Every byte of memory that was taken: a NaN as f32 and as BF16.
const UNWRITTEN: u8 = 0xff;

/// The CPU.
#[derive(Debug)]
pub struct HostDevice {
    facts: DeviceFacts,
    shared: Arc<Shared>,
    blas: HostBlas,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    events: HashMap<u64, Instant>,
    /// Launches that are written down now.
    capture: Option<Vec<Written>>,
    graphs: HashMap<u64, Arc<Vec<Written>>>,
    /// Graphs that were launched so far.
    graph_launches: u64,
    /// Bytes of the device that are taken.
    taken: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("taken", &self.taken)
            .field("graphs", &self.graphs.len())
            .finish_non_exhaustive()
    }
}

/// Work that was written down.
type Written = Box<dyn Fn() -> Result<(), DeviceError> + Send + Sync>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn layout(bytes: usize) -> Result<Layout, DeviceError> {
    Layout::from_size_align(bytes, ALIGNMENT).map_err(|_| DeviceError::Memory { bytes })
}

impl HostDevice {
    /// A device with `memory` bytes.
    pub fn new(memory: usize) -> Self {
        let shared: Arc<Shared> = Arc::default();
        Self {
            blas: HostBlas(Arc::clone(&shared)),
            facts: DeviceFacts {
                name: "cpu with CUDA kernels".to_owned(),
                capability: (0, 0),
                memory,
                bandwidth: None,
                multiprocessors: 1,
                driver: String::new(),
            },
            shared,
        }
    }

    /// Graphs that were launched so far.
    pub fn graph_launches(&self) -> u64 {
        self.shared.lock().graph_launches
    }

    /// Bytes that are taken now.
    pub fn taken(&self) -> usize {
        self.shared.lock().taken
    }

    fn take(bytes: usize) -> Result<*mut u8, DeviceError> {
        let layout = layout(bytes.max(1))?;
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc(layout) };
        if memory.is_null() {
            return Err(DeviceError::Memory { bytes });
        }
        // SAFETY: of this size, and ours.
        unsafe { memory.write_bytes(UNWRITTEN, bytes) };
        Ok(memory)
    }

    /// # Safety
    /// From `take` with the same size, and not used again.
    unsafe fn give(memory: *mut u8, bytes: usize) {
        if let Ok(layout) = layout(bytes.max(1)) {
            // SAFETY: by the caller's promise.
            unsafe { dealloc(memory, layout) };
        }
    }
}

impl Device for HostDevice {
    fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    fn free_bytes(&self) -> Result<usize, DeviceError> {
        Ok(self.facts.memory.saturating_sub(self.taken()))
    }

    fn load(&self, options: &Options) -> Result<Arc<dyn Kernels>, DeviceError> {
        Ok(Arc::new(LoadedKernels {
            kernels: HostKernels::load(options)?,
            shared: Arc::clone(&self.shared),
        }))
    }

    fn blas(&self) -> Result<&dyn Blas, DeviceError> {
        Ok(&self.blas)
    }

    fn group(&self, devices: &[Arc<dyn Device>]) -> Result<Vec<Arc<dyn DeviceRank>>, DeviceError> {
        let ends = LocalRank::group(devices.len()).into_iter();
        let rank = |(device, end): (&Arc<dyn Device>, LocalRank)| {
            let device: &dyn Any = &**device;
            let host = device
                .downcast_ref::<Self>()
                .ok_or(DeviceError::Unsupported(
                    "way to reach a device of another kind",
                ))?;
            Ok(Arc::new(HostRank {
                end: Arc::new(end),
                shared: Arc::clone(&host.shared),
            }) as Arc<dyn DeviceRank>)
        };
        devices.iter().zip(ends).map(rank).collect()
    }

    fn allocate(&self, bytes: usize) -> Result<Address, DeviceError> {
        let mut state = self.shared.lock();
        if state.taken.saturating_add(bytes) > self.facts.memory {
            return Err(DeviceError::Memory { bytes });
        }
        let memory = Self::take(bytes)?;
        state.taken += bytes;
        Ok(Address(memory as u64))
    }

    unsafe fn free(&self, memory: Address, bytes: usize) {
        self.shared.lock().taken -= bytes;
        // SAFETY: from `allocate`, by the caller's promise.
        unsafe { Self::give(memory.0 as *mut u8, bytes) };
    }

    fn allocate_host(&self, bytes: usize) -> Result<*mut u8, DeviceError> {
        Self::take(bytes)
    }

    unsafe fn free_host(&self, memory: *mut u8, bytes: usize) {
        // SAFETY: from `allocate_host`, by the caller's promise.
        unsafe { Self::give(memory, bytes) };
    }

    unsafe fn lock_host(&self, _: *const u8, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn unlock_host(&self, _: *const u8) {}

    unsafe fn upload(&self, _: Stream, to: Address, from: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: by the caller's promise; memory of the device is never borrowed.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.0 as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn download(
        &self,
        _: Stream,
        to: *mut u8,
        from: Address,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        // SAFETY: by the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, to, bytes) };
        Ok(())
    }

    unsafe fn clear(&self, _: Stream, to: Address, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: by the caller's promise.
        unsafe { (to.0 as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    fn synchronize(&self, _: Stream) -> Result<(), DeviceError> {
        Ok(())
    }

    fn record(&self, _: Stream) -> Result<u64, DeviceError> {
        let mut state = self.shared.lock();
        let event = state.number();
        state.events.insert(event, Instant::now());
        Ok(event)
    }

    unsafe fn wait_for(&self, _: Stream, _: u64) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn await_event(&self, _: u64) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn seconds_between(&self, first: u64, last: u64) -> Result<f64, DeviceError> {
        let state = self.shared.lock();
        match (state.events.get(&first), state.events.get(&last)) {
            (Some(first), Some(last)) => Ok(last.saturating_duration_since(*first).as_secs_f64()),
            _ => Err(DeviceError::Unsupported("such event")),
        }
    }

    unsafe fn drop_event(&self, event: u64) {
        self.shared.lock().events.remove(&event);
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        self.shared.lock().capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<u64, DeviceError> {
        let mut state = self.shared.lock();
        let written = state
            .capture
            .take()
            .ok_or(DeviceError::Unsupported("capture that was begun"))?;
        let graph = state.number();
        state.graphs.insert(graph, Arc::new(written));
        Ok(graph)
    }

    unsafe fn launch_graph(&self, graph: u64) -> Result<(), DeviceError> {
        let written = {
            let mut state = self.shared.lock();
            state.graph_launches += 1;
            state.graphs.get(&graph).cloned()
        };
        let written = written.ok_or(DeviceError::Unsupported("such graph"))?;
        written.iter().try_for_each(|work| work())
    }

    unsafe fn drop_graph(&self, graph: u64) {
        self.shared.lock().graphs.remove(&graph);
    }
}

/// Stands in for a library of matrix products, by the kernel that it would take the place of.
#[derive(Debug)]
struct HostBlas(Arc<Shared>);

impl Blas for HostBlas {
    unsafe fn multiply(&self, product: &Product) -> Result<(), DeviceError> {
        let Product { y, x, w, shape } = *product;
        let (rows, outputs, inputs) = (shape.rows, shape.outputs, shape.inputs);
        let kernels = LoadedKernels {
            // Products have no heads: any width will do.
            kernels: HostKernels::load(&Options {
                storage: shape.storage,
                head_dim: 8,
            })?,
            shared: Arc::clone(&self.0),
        };
        let plain = Gemm {
            y,
            x,
            w,
            rows,
            outputs,
            inputs,
        };
        let exact = GemmLogits {
            y,
            x,
            w,
            rows,
            outputs,
            inputs,
        };
        let call: &dyn Call = match shape.result == shape.storage {
            true => &plain,
            false => &exact,
        };
        // SAFETY: by the caller's promise.
        unsafe { kernels.launch(Stream::Compute, call) }
    }
}

/// A rank whose device is the CPU. Who comes to a sum waits for the others, at once or when a graph in
/// which it is written down is launched.
struct HostRank {
    end: Arc<LocalRank>,
    shared: Arc<Shared>,
}

impl Communicator for HostRank {
    type Buffer = DeviceValues;

    fn rank(&self) -> usize {
        self.end.rank()
    }

    fn ranks(&self) -> usize {
        self.end.ranks()
    }

    fn all_reduce(&self, values: &mut DeviceValues) -> Result<(), CommunicatorError> {
        let (end, values) = (Arc::clone(&self.end), *values);
        if let Some(capture) = &mut self.shared.lock().capture {
            capture.push(Box::new(move || Ok(sum(&end, values)?)));
            return Ok(());
        }
        sum(&end, values)
    }

    fn abort(&self, reason: &str) {
        self.end.abort(reason);
    }
}

impl DeviceRank for HostRank {
    fn name(&self) -> String {
        "sums of threads of this process".to_owned()
    }

    fn is_capturable(&self) -> bool {
        true
    }

    fn is_exact(&self) -> bool {
        true
    }
}

/// Replaces values by their sum over all ranks, taken in f32.
fn sum(end: &LocalRank, values: DeviceValues) -> Result<(), CommunicatorError> {
    let DeviceValues {
        first,
        count,
        storage,
    } = values;
    match storage {
        Storage::F32 => {
            // SAFETY: memory of this device, by the promise of who made `values`; nothing else is queued
            // for it, for work is done when it is queued.
            let values = unsafe { std::slice::from_raw_parts_mut(first.0 as *mut f32, count) };
            end.all_reduce(values)
        }
        Storage::Bf16 => {
            // SAFETY: as above.
            let stored = unsafe { std::slice::from_raw_parts_mut(first.0 as *mut u16, count) };
            let wide = stored
                .iter()
                .map(|bits| f32::from_bits(u32::from(*bits) << 16));
            let mut wide: Vec<f32> = wide.collect();
            end.all_reduce(&mut wide)?;
            for (stored, wide) in stored.iter_mut().zip(wide) {
                *stored = Bf16::nearest(wide).to_bits();
            }
            Ok(())
        }
    }
}

/// Kernels that write themselves down while the device captures.
struct LoadedKernels {
    kernels: Arc<HostKernels>,
    shared: Arc<Shared>,
}

impl Kernels for LoadedKernels {
    unsafe fn launch(&self, _: Stream, call: &dyn Call) -> Result<(), DeviceError> {
        if let Some(capture) = &mut self.shared.lock().capture {
            let call = call
                .kept()
                .ok_or(DeviceError::Unsupported("way to write this launch down"))?;
            let kernels = Arc::clone(&self.kernels);
            // SAFETY: who launches the graph promises that the memory of its launches is still there.
            let work = move || Ok(unsafe { kernels.launch(&*call, Order::Forward) }?);
            capture.push(Box::new(work));
            return Ok(());
        }
        // SAFETY: by the caller's promise.
        Ok(unsafe { self.kernels.launch(call, Order::Forward) }?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Graph, Memory};
    use super::*;
    use crate::backend::cuda::calls::SiluMul;
    use crate::backend::cuda::host::HostError;
    use crate::backend::cuda::Storage;

    #[test]
    fn memory_should_be_counted_and_refused_when_it_is_gone() {
        let host = Arc::new(HostDevice::new(4096));
        let device: Arc<dyn Device> = host.clone();
        let memory = Memory::of(&device, &[1u32, 2, 3, 4]).unwrap();
        let mut back = [0u32; 2];
        memory.read(Stream::Copy, 8, &mut back).unwrap();
        assert_eq!(back, [3, 4]);
        assert!(matches!(
            memory.read(Stream::Copy, 12, &mut back),
            Err(DeviceError::Bounds {
                first: 12,
                end: 20,
                bytes: 16
            })
        ));
        assert!(matches!(
            Memory::new(&device, 4081),
            Err(DeviceError::Memory { bytes: 4081 })
        ));
        assert_eq!(host.taken(), 16);
        drop(memory);
        assert_eq!(host.taken(), 0);
    }

    #[test]
    fn a_graph_should_do_what_was_written_down_each_time_it_is_launched() {
        let device: Arc<dyn Device> = Arc::new(HostDevice::new(1 << 20));
        let options = Options {
            storage: Storage::F32,
            head_dim: 8,
        };
        let kernels = match device.load(&options) {
            Err(DeviceError::Host(HostError::NoCompiler)) => {
                println!("skipped: no C++ compiler");
                return;
            }
            kernels => kernels.unwrap(),
        };
        let x = Memory::of(&device, &[2.0f32, 3.0]).unwrap();
        let y = Memory::of(&device, &[0.0f32]).unwrap();
        let call = SiluMul {
            out: y.address(),
            gate_up: x.address(),
            width: 1,
            rows: 1,
        };
        let read = || {
            let mut value = [0.0f32];
            y.read(Stream::Compute, 0, &mut value).unwrap();
            value[0]
        };
        let silu = |v: f32| v / (1.0 + (-v).exp());
        // SAFETY: two values in, one out.
        let launch = || unsafe { kernels.launch(Stream::Compute, &call) };
        let graph = Graph::capture(&device, launch).unwrap();
        assert_eq!(read(), 0.0);
        for gate in [2.0f32, 5.0] {
            x.write(Stream::Compute, 0, &[gate]).unwrap();
            // SAFETY: the memory is still there.
            unsafe { graph.launch() }.unwrap();
            assert!((read() - silu(gate) * 3.0).abs() < 1e-5);
        }
    }
}
