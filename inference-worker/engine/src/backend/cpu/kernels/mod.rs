//! The matrix kernels: one tile of `M` rows by `P` panels of sixteen outputs.
//!
//! Every output is one chain of fused multiply-adds over the input dimension, in order. The chain does
//! not depend on how many rows share the tile, on how many panels are walked together, on the number
//! of threads or on the width of the machine's vectors. So a row's result has the same bits alone, in
//! a batch, in a prefill chunk or in a decode step, and on any machine with IEEE 754 fused
//! multiply-add. Preemption by recomputation, audits and the execution fingerprint rest on this.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::panels::{Bf16, LANES};

/// The most rows of one tile.
pub const MAX_ROWS: usize = 16;

/// The most panels that one tile walks together.
pub const MAX_PANELS: usize = 4;

/// The instruction set that the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Plain Rust; slow where the target has no fused multiply-add, with the same results.
    Portable,
}

impl Isa {
    /// The widest set that this machine has.
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Self::Portable)
    }

    /// All sets that this machine has, narrowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f") {
                    sets.push(Self::Avx512);
                }
            }
        }
        sets
    }

    /// The name shown in logs and benches.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

/// Stored weights that a kernel widens to f32 as it reads them.
pub trait Weight: Copy + Send + Sync + 'static {
    /// The value as f32, exactly.
    fn widen(self) -> f32;

    /// Sixteen values as one vector.
    ///
    /// # Safety
    /// The machine has AVX-512F and `from` points at sixteen readable values.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load512(from: *const Self) -> core::arch::x86_64::__m512;

    /// Eight values as one vector.
    ///
    /// # Safety
    /// The machine has AVX2 and `from` points at eight readable values.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load256(from: *const Self) -> core::arch::x86_64::__m256;
}

/// A tile kernel.
///
/// Arguments: `k` (inputs), `weights` (first panel), `panel_stride` (elements from one panel to the
/// next), `x` (first row's first input), `x_stride` (elements from one input to the next; rows are
/// adjacent), `tile` (`[rows][panels][16]` f32, written), whether the chains go on from what `tile` holds.
type Tile<W> = unsafe fn(usize, *const W, usize, *const f32, usize, *mut f32, bool);

/// How many panels a tile of `rows` rows walks together: as many as the registers hold, so that short
/// tiles have enough independent chains to hide the latency of the multiply-add.
pub const fn panels_for(rows: usize) -> usize {
    if rows <= 4 {
        4
    } else if rows <= 8 {
        2
    } else {
        1
    }
}

macro_rules! pick {
    ($isa:ident, $weight:ty, $rows:expr, $panels:expr; $($m:literal)*) => {
        match ($rows, $panels) {
            $(
                ($m, 1) => $isa::tile::<$weight, $m, 1>,
                ($m, _) => $isa::tile::<$weight, $m, { panels_for($m) }>,
            )*
            _ => unreachable!("a tile has 1 to {MAX_ROWS} rows"),
        }
    };
}

/// Multiplies `rows` rows with `panels` panels (1 or [`panels_for`]`(rows)`).
///
/// `x` holds the rows interleaved: input `i` of row `r` is `x[i * x_stride + r]`. `tile` receives
/// `[rows][panels][16]`; with `resume` it holds the chains of the inputs before these, which go on. A
/// chain has the same bits however it is cut.
///
/// # Panics
/// When a slice is too short for the shape; the shapes come from this crate only.
#[allow(clippy::too_many_arguments)]
pub fn multiply<W: Weight>(
    isa: Isa,
    k: usize,
    weights: &[W],
    panels: usize,
    x: &[f32],
    x_stride: usize,
    rows: usize,
    tile: &mut [f32; MAX_ROWS * LANES],
    resume: bool,
) {
    assert!((1..=MAX_ROWS).contains(&rows));
    assert!(panels == 1 || panels == panels_for(rows));
    assert!(weights.len() >= panels * k * LANES);
    assert!(k == 0 || (x_stride >= rows && x.len() >= (k - 1) * x_stride + rows));
    let kernel: Tile<W> = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            pick!(avx512, W, rows, panels; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => pick!(avx2, W, rows, panels; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
        Isa::Portable => {
            pick!(portable, W, rows, panels; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
        }
    };
    // SAFETY: the assertions above bound every read (`panels` panels of `k` rows of lanes, `k` strides of
    // `rows` inputs) and `rows * panels <= 16` tiles of sixteen bound every write; an `Isa` other than
    // Portable comes from `available`, which asked the machine.
    unsafe {
        kernel(
            k,
            weights.as_ptr(),
            k * LANES,
            x.as_ptr(),
            x_stride,
            tile.as_mut_ptr(),
            resume,
        );
    }
}

impl Weight for f32 {
    fn widen(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load512(from: *const Self) -> core::arch::x86_64::__m512 {
        // SAFETY: the caller's promise.
        unsafe { core::arch::x86_64::_mm512_loadu_ps(from) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load256(from: *const Self) -> core::arch::x86_64::__m256 {
        // SAFETY: the caller's promise.
        unsafe { core::arch::x86_64::_mm256_loadu_ps(from) }
    }
}

impl Weight for Bf16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load512(from: *const Self) -> core::arch::x86_64::__m512 {
        use core::arch::x86_64::*;
        // SAFETY: the caller's promise.
        unsafe {
            let halves = _mm256_loadu_si256(from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load256(from: *const Self) -> core::arch::x86_64::__m256 {
        use core::arch::x86_64::*;
        // SAFETY: the caller's promise.
        unsafe {
            let halves = _mm_loadu_si128(from.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        }
    }
}
