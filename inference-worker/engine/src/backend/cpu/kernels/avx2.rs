//! Tiles in 256-bit vectors.

use super::Weight;
use crate::panels::LANES;
use core::arch::x86_64::*;

/// Rows that fit the sixteen registers beside the weights: a higher tile is walked in slices.
const ROWS: usize = 4;

/// See [`super::multiply`].
///
/// # Safety
/// The machine has AVX2 and FMA, and the pointers cover the shape as described for the tile type.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn tile<W: Weight, const M: usize, const P: usize>(
    k: usize,
    weights: *const W,
    panel_stride: usize,
    x: *const f32,
    x_stride: usize,
    tile: *mut f32,
    resume: bool,
) {
    for p in 0..P {
        let mut r = 0;
        while r < M {
            // SAFETY: the caller's promise, for a part of the tile.
            unsafe {
                let weights = weights.add(p * panel_stride);
                let x = x.add(r);
                let out = tile.add((r * P + p) * LANES);
                match M - r {
                    1 => slice::<W, 1>(k, weights, x, x_stride, out, P * LANES, resume),
                    2 => slice::<W, 2>(k, weights, x, x_stride, out, P * LANES, resume),
                    3 => slice::<W, 3>(k, weights, x, x_stride, out, P * LANES, resume),
                    _ => slice::<W, ROWS>(k, weights, x, x_stride, out, P * LANES, resume),
                }
            }
            r += ROWS;
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn slice<W: Weight, const M: usize>(
    k: usize,
    weights: *const W,
    x: *const f32,
    x_stride: usize,
    out: *mut f32,
    row_stride: usize,
    resume: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); 2]; M];
        if resume {
            for (r, acc) in acc.iter_mut().enumerate() {
                acc[0] = _mm256_loadu_ps(out.add(r * row_stride));
                acc[1] = _mm256_loadu_ps(out.add(r * row_stride + 8));
            }
        }
        for i in 0..k {
            let low = W::load256(weights.add(i * LANES));
            let high = W::load256(weights.add(i * LANES + 8));
            let x = x.add(i * x_stride);
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*x.add(r));
                acc[0] = _mm256_fmadd_ps(x, low, acc[0]);
                acc[1] = _mm256_fmadd_ps(x, high, acc[1]);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            _mm256_storeu_ps(out.add(r * row_stride), acc[0]);
            _mm256_storeu_ps(out.add(r * row_stride + 8), acc[1]);
        }
    }
}
