//! The checks' machine for kernels that were compiled for the CPU.

use super::{Machine, MachineError};
use crate::backend::cuda::host::{HostKernels, Order};
use crate::backend::cuda::{Address, Call};
use std::sync::Arc;

/// Sixteen bytes at an address divisible by sixteen.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Block([u8; 16]);

/// The CPU, with threads of a block in a given order.
pub struct HostMachine {
    kernels: Arc<HostKernels>,
    order: Order,
    memory: Vec<Vec<Block>>,
}

impl HostMachine {
    /// With these kernels.
    pub fn new(kernels: Arc<HostKernels>, order: Order) -> Self {
        Self {
            kernels,
            order,
            memory: Vec::new(),
        }
    }
}

impl Machine for HostMachine {
    fn upload(&mut self, bytes: &[u8]) -> Result<Address, MachineError> {
        let mut blocks: Vec<Block> = bytes
            .chunks(16)
            .map(|chunk| {
                let mut block = Block([0; 16]);
                block.0[..chunk.len()].copy_from_slice(chunk);
                block
            })
            .collect();
        let at = blocks.as_mut_ptr() as u64;
        self.memory.push(blocks);
        Ok(Address(at))
    }

    fn download(&mut self, from: Address, to: &mut [u8]) -> Result<(), MachineError> {
        for memory in &self.memory {
            let size = size_of_val(memory.as_slice());
            let first = from.0.wrapping_sub(memory.as_ptr() as u64);
            if first <= size as u64 && to.len() as u64 <= size as u64 - first {
                // SAFETY: the blocks are initialised bytes without padding.
                let bytes =
                    unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<u8>(), size) };
                to.copy_from_slice(&bytes[first as usize..][..to.len()]);
                return Ok(());
            }
        }
        Err("an address that is not of this machine".into())
    }

    unsafe fn launch(&mut self, call: &dyn Call) -> Result<(), MachineError> {
        // SAFETY: by the caller's promise; memory is of the host, and only this thread uses it.
        Ok(unsafe { self.kernels.launch(call, self.order) }?)
    }

    fn release(&mut self) {
        self.memory.clear();
    }
}
