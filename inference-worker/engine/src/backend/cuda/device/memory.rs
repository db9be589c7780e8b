//! What a device lends: memory, events and graphs that are given back by themselves, and copies that
//! stay within them.

use super::{Address, Device, DeviceError, Stream};
use crate::backend::cuda::calls::{LoraEntry, LoraTile, RowTile};
use std::ops::Range;
use std::sync::Arc;

/// Values that are the same bytes on host and device.
///
/// # Safety
/// The type has no padding, no pointer and no invalid bytes.
pub unsafe trait Plain: Copy {}

// SAFETY: numbers of one size.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: `repr(C)`; three addresses of eight bytes and two numbers of four.
unsafe impl Plain for LoraEntry {}
// SAFETY: `repr(C)`; three numbers of four bytes.
unsafe impl Plain for LoraTile {}
// SAFETY: as above.
unsafe impl Plain for RowTile {}

/// The bytes of some values.
fn bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: every byte of a plain value is initialised.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Memory of a device.
#[derive(Debug)]
pub struct Memory {
    device: Arc<dyn Device>,
    address: Address,
    bytes: usize,
}

impl Memory {
    /// Takes memory; its contents are undefined.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Self, DeviceError> {
        // An address of its own, whatever it is for.
        let bytes = bytes.max(16);
        Ok(Self {
            address: device.allocate(bytes)?,
            device: Arc::clone(device),
            bytes,
        })
    }

    /// Memory that holds these values.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn of<T: Plain>(device: &Arc<dyn Device>, values: &[T]) -> Result<Self, DeviceError> {
        let memory = Self::new(device, size_of_val(values))?;
        memory.write(Stream::Copy, 0, values)?;
        Ok(memory)
    }

    /// Its first byte.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The device that it is of.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// An address within.
    ///
    /// # Errors
    /// When fewer than `bytes` bytes follow it.
    pub fn at(&self, first: usize, bytes: usize) -> Result<Address, DeviceError> {
        match first.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(Address(self.address.0 + first as u64)),
            end => Err(DeviceError::Bounds {
                first,
                end: end.unwrap_or(usize::MAX),
                bytes: self.bytes,
            }),
        }
    }

    /// Writes values from byte `first` on, after all that is queued on the stream, and waits until they
    /// are there.
    ///
    /// # Errors
    /// When they do not fit, or the device fails.
    pub fn write<T: Plain>(
        &self,
        stream: Stream,
        first: usize,
        values: &[T],
    ) -> Result<(), DeviceError> {
        let values = bytes(values);
        let to = self.at(first, values.len())?;
        // SAFETY: the memory is large enough, and the values stay until the copy is done.
        unsafe { self.device.upload(stream, to, values) }?;
        self.device.synchronize(stream)
    }

    /// Queues writing values from byte `first` on.
    ///
    /// # Safety
    /// Page-locked values stay, and stay as they are, until the stream was synchronised.
    ///
    /// # Errors
    /// When they do not fit, or the device fails.
    pub unsafe fn upload<T: Plain>(
        &self,
        stream: Stream,
        first: usize,
        values: &[T],
    ) -> Result<(), DeviceError> {
        let values = bytes(values);
        let to = self.at(first, values.len())?;
        // SAFETY: the memory is large enough; the rest is the caller's promise.
        unsafe { self.device.upload(stream, to, values) }
    }

    /// Reads values from byte `first` on, after all that is queued on the stream.
    ///
    /// # Errors
    /// When there are fewer, or the device fails.
    pub fn read<T: Plain>(
        &self,
        stream: Stream,
        first: usize,
        values: &mut [T],
    ) -> Result<(), DeviceError> {
        let size = size_of_val(values);
        let from = self.at(first, size)?;
        let to = values.as_mut_ptr().cast();
        // SAFETY: the memory is large enough; the values are borrowed until the copy is done, and any
        // bytes are a value.
        unsafe { self.device.download(stream, to, from, size) }?;
        self.device.synchronize(stream)
    }

    /// Queues setting all bytes to zero.
    ///
    /// # Errors
    /// When the device fails.
    pub fn clear(&self, stream: Stream) -> Result<(), DeviceError> {
        // SAFETY: the memory is of this size.
        unsafe { self.device.clear(stream, self.address, self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: from `allocate` of this device. The driver waits for queued work before it frees.
        unsafe { self.device.free(self.address, self.bytes) };
    }
}

/// Page-locked memory of the host, zero at first.
pub struct HostMemory {
    device: Arc<dyn Device>,
    memory: *mut u8,
    bytes: usize,
}

// SAFETY: memory that is reached through this owner alone.
unsafe impl Send for HostMemory {}
// SAFETY: shared borrows only read.
unsafe impl Sync for HostMemory {}

impl HostMemory {
    /// Takes memory.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Self, DeviceError> {
        let bytes = bytes.max(16);
        let memory = device.allocate_host(bytes)?;
        // SAFETY: of this size, and ours.
        unsafe { memory.write_bytes(0, bytes) };
        Ok(Self {
            device: Arc::clone(device),
            memory,
            bytes,
        })
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn range<T: Plain>(&self, first: usize, count: usize) -> Result<Range<usize>, DeviceError> {
        let end = count
            .checked_mul(size_of::<T>())
            .and_then(|n| n.checked_add(first));
        match end {
            Some(end) if end <= self.bytes && first.is_multiple_of(align_of::<T>()) => {
                Ok(first..end)
            }
            end => Err(DeviceError::Bounds {
                first,
                end: end.unwrap_or(usize::MAX),
                bytes: self.bytes,
            }),
        }
    }

    /// `count` values from byte `first` on.
    ///
    /// # Errors
    /// When there are fewer, or they would not be aligned.
    pub fn values<T: Plain>(&self, first: usize, count: usize) -> Result<&[T], DeviceError> {
        let range = self.range::<T>(first, count)?;
        // SAFETY: within the memory, which is initialised and aligned to pages; any bytes are a value.
        Ok(unsafe { std::slice::from_raw_parts(self.memory.add(range.start).cast(), count) })
    }

    /// `count` values from byte `first` on, to be written.
    ///
    /// # Errors
    /// When there are fewer, or they would not be aligned.
    pub fn values_mut<T: Plain>(
        &mut self,
        first: usize,
        count: usize,
    ) -> Result<&mut [T], DeviceError> {
        let range = self.range::<T>(first, count)?;
        // SAFETY: as above, and borrowed as a whole.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.add(range.start).cast(), count) })
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // Copies that were queued by somebody who broke off.
        let _ = self.device.synchronize(Stream::Compute);
        // SAFETY: from `allocate_host` of this device, and not used by the compute stream any more; the
        // copy stream has memory of its own.
        unsafe { self.device.free_host(self.memory, self.bytes) };
    }
}

/// Keeps memory of the host page-locked while it lives.
pub struct HostLock {
    device: Arc<dyn Device>,
    memory: *const u8,
}

// SAFETY: the pointer is only a name for the lock.
unsafe impl Send for HostLock {}
// SAFETY: as above.
unsafe impl Sync for HostLock {}

impl HostLock {
    /// Locks values where they are.
    ///
    /// # Safety
    /// The values stay allocated where they are until the lock is dropped, and no queued copy uses them
    /// then.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub unsafe fn new<T: Plain>(
        device: &Arc<dyn Device>,
        values: &[T],
    ) -> Result<Self, DeviceError> {
        let memory = values.as_ptr().cast();
        // SAFETY: by the caller's promise.
        unsafe { device.lock_host(memory, size_of_val(values)) }?;
        Ok(Self {
            device: Arc::clone(device),
            memory,
        })
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // SAFETY: locked by `new`.
        unsafe { self.device.unlock_host(self.memory) };
    }
}

/// A mark in a stream.
#[derive(Debug)]
pub struct Event {
    device: Arc<dyn Device>,
    event: u64,
}

impl Event {
    /// Marks the end of what is queued on the stream now.
    ///
    /// # Errors
    /// When the device fails.
    pub fn record(device: &Arc<dyn Device>, stream: Stream) -> Result<Self, DeviceError> {
        Ok(Self {
            event: device.record(stream)?,
            device: Arc::clone(device),
        })
    }

    /// Lets a stream wait for it, without the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn hold(&self, stream: Stream) -> Result<(), DeviceError> {
        // SAFETY: this device's, and alive.
        unsafe { self.device.wait_for(stream, self.event) }
    }

    /// Waits for it on the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: this device's, and alive.
        unsafe { self.device.await_event(self.event) }
    }

    /// Seconds on the device until another event of the same stream; both have passed.
    ///
    /// # Errors
    /// When one has not passed yet.
    pub fn seconds_until(&self, later: &Self) -> Result<f64, DeviceError> {
        // SAFETY: this device's, and alive.
        unsafe { self.device.seconds_between(self.event, later.event) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: this device's, and not used again.
        unsafe { self.device.drop_event(self.event) };
    }
}

/// Launches that were written down, to be queued again at once.
#[derive(Debug)]
pub struct Graph {
    device: Arc<dyn Device>,
    graph: u64,
}

impl Graph {
    /// Writes down what `work` queues on the compute stream; none of it is done. `work` copies nothing
    /// and waits for nothing.
    ///
    /// # Errors
    /// When the device cannot write it down, or `work` fails.
    pub fn capture<E: From<DeviceError>>(
        device: &Arc<dyn Device>,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, E> {
        device.begin_capture()?;
        let done = work();
        let graph = device.end_capture();
        let graph = graph.map(|graph| Self {
            device: Arc::clone(device),
            graph,
        });
        done?;
        Ok(graph?)
    }

    /// Queues it.
    ///
    /// # Safety
    /// All memory that its launches use is still there.
    ///
    /// # Errors
    /// When the device fails.
    pub unsafe fn launch(&self) -> Result<(), DeviceError> {
        // SAFETY: this device's, and alive; the rest is the caller's promise.
        unsafe { self.device.launch_graph(self.graph) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Nothing of it may still run.
        let _ = self.device.synchronize(Stream::Compute);
        // SAFETY: this device's, not running, and not used again.
        unsafe { self.device.drop_graph(self.graph) };
    }
}
