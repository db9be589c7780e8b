//! How the CUDA backend is set up.

use super::device::Device;
use super::sources::Storage;
use std::sync::Arc;

/// Which device computes.
#[derive(Clone, Debug)]
pub enum DeviceChoice {
    /// A GPU, by its number.
    Ordinal(u32),
    /// One that is open already.
    Open(Arc<dyn Device>),
}

/// Options of the CUDA backend.
#[derive(Clone, Debug)]
pub struct CudaOptions {
    /// Which devices compute: one for each rank, in order.
    pub devices: Vec<DeviceChoice>,
    /// How weights, activations, keys, values and adapters are stored. Sums are in f32 in any case.
    pub storage: Storage,
    /// Whether every result has the same bits whatever shares its step. Matrix products then are the
    /// engine's own, one chain of additions for each output, instead of the vendor's library.
    pub deterministic: bool,
    /// Whether BF16 is computed on tensor cores, by those kernels that give the right results on the device
    /// when they are tried at the start. In the deterministic mode only products are, whose bits do not
    /// depend on the batch.
    pub tensor_cores: bool,
    /// Whether steps in which every sequence has one row are written down once for each size and
    /// launched as a whole from then on.
    pub graphs: bool,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self {
            devices: vec![DeviceChoice::Ordinal(0)],
            storage: Storage::Bf16,
            deterministic: false,
            tensor_cores: true,
            graphs: true,
        }
    }
}
