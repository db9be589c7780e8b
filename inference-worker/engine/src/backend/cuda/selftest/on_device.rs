//! The checks' machine for a [`Device`].

use super::{Machine, MachineError};
use crate::backend::cuda::device::{Device, Kernels, Memory, Stream};
use crate::backend::cuda::{Address, Call, Options};
use std::sync::Arc;

/// A device with its kernels compiled for some options.
pub struct DeviceMachine {
    device: Arc<dyn Device>,
    kernels: Arc<dyn Kernels>,
    memory: Vec<Memory>,
}

impl DeviceMachine {
    /// Compiles the kernels.
    ///
    /// # Errors
    /// When they do not compile or do not load.
    pub fn new(device: Arc<dyn Device>, options: &Options) -> Result<Self, MachineError> {
        Ok(Self {
            kernels: device.load(options)?,
            device,
            memory: Vec::new(),
        })
    }
}

impl Machine for DeviceMachine {
    fn upload(&mut self, bytes: &[u8]) -> Result<Address, MachineError> {
        let memory = Memory::of(&self.device, bytes)?;
        let at = memory.address();
        self.memory.push(memory);
        Ok(at)
    }

    fn download(&mut self, from: Address, to: &mut [u8]) -> Result<(), MachineError> {
        for memory in &self.memory {
            let first = from.0.wrapping_sub(memory.address().0);
            let size = memory.bytes() as u64;
            if first <= size && to.len() as u64 <= size - first {
                return Ok(memory.read(Stream::Compute, first as usize, to)?);
            }
        }
        Err("an address that is not of this machine".into())
    }

    unsafe fn launch(&mut self, call: &dyn Call) -> Result<(), MachineError> {
        // SAFETY: by the caller's promise; memory is given back after it was waited for.
        unsafe { self.kernels.launch(Stream::Compute, call) }?;
        // What went wrong in a kernel is said of this kernel, not of a later one.
        Ok(self.device.synchronize(Stream::Compute)?)
    }

    fn release(&mut self) {
        self.memory.clear();
    }
}
