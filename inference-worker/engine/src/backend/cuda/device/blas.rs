//! Matrix products by cuBLASLt, found at run time.
//!
//! The library's matrices are column-major: `y [rows, outputs]` row by row is `yᵀ` column by column, so
//! it is asked for `yᵀ = w · xᵀ`. Sums are in f32 without TF32.

use super::{Address, Blas, DeviceError, Product, ProductShape};
use crate::backend::cuda::sources::Storage;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::sys as driver;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

/// Bytes that a product may use beside its matrices: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

fn refused(what: &'static str) -> impl Fn(CublasError) -> DeviceError {
    move |error| DeviceError::Refused {
        what,
        reason: format!("cuBLASLt: {error}"),
    }
}

/// The library on one device.
pub(super) struct CublasLt {
    bind: Box<dyn Fn() -> Result<(), DeviceError> + Send + Sync>,
    handle: sys::cublasLtHandle_t,
    stream: sys::cudaStream_t,
    workspace: Address,
    plans: Mutex<HashMap<(ProductShape, Alignment), Plan>>,
}

// SAFETY: the library's handle may be used from any thread; plans are behind a lock.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

impl CublasLt {
    /// Opens the library for the device whose context is current; `bind` makes it current on any
    /// thread, and keeps it alive.
    pub fn open(
        stream: driver::CUstream,
        bind: impl Fn() -> Result<(), DeviceError> + Send + Sync + 'static,
    ) -> Result<Self, DeviceError> {
        // SAFETY: the initialisers of a library of cuBLASLt's name run here.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::NoBlas);
        }
        let handle = result::create_handle().map_err(refused("starting matrix products"))?;
        let mut open = Self {
            bind: Box::new(bind),
            handle,
            stream: stream.cast(),
            workspace: Address::NULL,
            plans: Mutex::default(),
        };
        // SAFETY: the contents are undefined, and nobody reads them.
        match unsafe { cudarc::driver::result::malloc_sync(WORKSPACE) } {
            Ok(workspace) => open.workspace = Address(workspace),
            Err(_) => return Err(DeviceError::Memory { bytes: WORKSPACE }),
        }
        Ok(open)
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        if (self.bind)().is_err() {
            return;
        }
        self.plans
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        // SAFETY: ours, and not used again.
        let _ = unsafe { result::destroy_handle(self.handle) };
        if self.workspace != Address::NULL {
            // SAFETY: as above; the driver waits for queued work before it frees.
            let _ = unsafe { cudarc::driver::result::free_sync(self.workspace.0) };
        }
    }
}

impl Blas for CublasLt {
    unsafe fn multiply(&self, product: &Product) -> Result<(), DeviceError> {
        (self.bind)()?;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let alignment = Alignment::of(product);
        let plan = match plans.entry((product.shape, alignment)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(Plan::new(self.handle, &product.shape, alignment)?)
            }
        };
        let (one, zero) = (1.0f32, 0.0f32);
        let pointer = |address: Address| address.0 as *mut c_void;
        // SAFETY: handle, plan and workspace are alive, the factors are read before this returns, and the
        // matrices are the caller's promise.
        unsafe {
            result::matmul(
                self.handle,
                plan.operation,
                std::ptr::from_ref(&one).cast(),
                std::ptr::from_ref(&zero).cast(),
                pointer(product.w),
                plan.w,
                pointer(product.x),
                plan.x,
                pointer(product.y),
                plan.y,
                pointer(product.y),
                plan.y,
                &plan.algorithm,
                pointer(self.workspace),
                WORKSPACE,
                self.stream,
            )
        }
        .map_err(refused("a matrix product"))
    }
}

/// Bytes by which the addresses of `w`, `x` and `y` are divisible, which an algorithm may count on. The
/// library takes it for [`Alignment::MOST`] unless it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Alignment([u32; 3]);

impl Alignment {
    /// The most that any algorithm asks for.
    const MOST: u32 = 256;

    fn of(product: &Product) -> Self {
        let of =
            |address: Address| 1 << address.0.trailing_zeros().min(Self::MOST.trailing_zeros());
        Self([product.w, product.x, product.y].map(of))
    }
}

/// How a shape is computed.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    w: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

fn element(storage: Storage) -> sys::cudaDataType {
    match storage {
        Storage::F32 => sys::cudaDataType::CUDA_R_32F,
        Storage::Bf16 => sys::cudaDataType::CUDA_R_16BF,
    }
}

impl Plan {
    fn new(
        handle: sys::cublasLtHandle_t,
        shape: &ProductShape,
        Alignment([w, x, y]): Alignment,
    ) -> Result<Self, DeviceError> {
        let failed = refused("planning a matrix product");
        let mut plan = Self {
            operation: std::ptr::null_mut(),
            w: std::ptr::null_mut(),
            x: std::ptr::null_mut(),
            y: std::ptr::null_mut(),
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        let (rows, outputs) = (u64::from(shape.rows), u64::from(shape.outputs));
        let inputs = u64::from(shape.inputs);
        let layout = |storage, rows: u64, columns: u64| {
            result::create_matrix_layout(element(storage), rows, columns, rows as i64)
        };
        // What is made before an error is given back by `Drop`.
        plan.operation = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )
        .map_err(&failed)?;
        plan.w = layout(shape.storage, inputs, outputs).map_err(&failed)?;
        plan.x = layout(shape.storage, inputs, rows).map_err(&failed)?;
        plan.y = layout(shape.result, outputs, rows).map_err(&failed)?;
        let transposed = cudarc::cublas::sys::cublasOperation_t::CUBLAS_OP_T;
        // SAFETY: the description is alive, and the attribute is of this type.
        unsafe {
            result::set_matmul_desc_attribute(
                plan.operation,
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
                std::ptr::from_ref(&transposed).cast(),
                size_of_val(&transposed),
            )
        }
        .map_err(&failed)?;
        let preference = result::create_matmul_pref().map_err(&failed)?;
        use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
        let aligned = [
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, w),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y),
        ];
        // SAFETY: the preference is alive until it is destroyed below, and so is the rest; attributes are of
        // the types that the library's header gives them.
        let chosen = unsafe {
            let aligned = aligned.iter().try_for_each(|(attribute, bytes)| {
                result::set_matmul_pref_attribute(
                    preference,
                    *attribute,
                    std::ptr::from_ref(bytes).cast(),
                    size_of_val(bytes),
                )
            });
            let workspace = || {
                result::set_matmul_pref_attribute(
                    preference,
                    Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                    std::ptr::from_ref(&WORKSPACE).cast(),
                    size_of_val(&WORKSPACE),
                )
            };
            aligned.and_then(|()| workspace()).and_then(|()| {
                result::get_matmul_algo_heuristic(
                    handle,
                    plan.operation,
                    plan.w,
                    plan.x,
                    plan.y,
                    plan.y,
                    preference,
                )
            })
        };
        // SAFETY: ours, and not used again.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        plan.algorithm = chosen.map_err(failed)?.algo;
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        for layout in [self.w, self.x, self.y] {
            if !layout.is_null() {
                // SAFETY: ours, and not used again.
                let _ = unsafe { result::destroy_matrix_layout(layout) };
            }
        }
        if !self.operation.is_null() {
            // SAFETY: as above.
            let _ = unsafe { result::destroy_matmul_desc(self.operation) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_should_count_on_no_more_alignment_than_there_is() {
        let product = |w, x, y| Product {
            w: Address(w),
            x: Address(x),
            y: Address(y),
            shape: ProductShape {
                rows: 1,
                outputs: 1,
                inputs: 1,
                storage: Storage::Bf16,
                result: Storage::F32,
            },
        };
        let of = |w, x, y| Alignment::of(&product(w, x, y)).0;
        assert_eq!(of(1 << 20, 256, 512), [256, 256, 256]);
        // A part of a small embedding that is the output projection.
        assert_eq!(of((1 << 20) + 80 * 36 * 2, 16, 4), [128, 16, 4]);
    }
}
