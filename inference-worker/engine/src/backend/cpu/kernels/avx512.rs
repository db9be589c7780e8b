//! Tiles in 512-bit vectors.

use super::Weight;
use crate::panels::LANES;
use core::arch::x86_64::*;

/// See [`super::multiply`].
///
/// # Safety
/// The machine has AVX-512F, and the pointers cover the shape as described for the tile type.
#[target_feature(enable = "avx512f")]
pub unsafe fn tile<W: Weight, const M: usize, const P: usize>(
    k: usize,
    weights: *const W,
    panel_stride: usize,
    x: *const f32,
    x_stride: usize,
    tile: *mut f32,
    resume: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); P]; M];
        if resume {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm512_loadu_ps(tile.add((r * P + p) * LANES));
                }
            }
        }
        for i in 0..k {
            let mut w = [_mm512_setzero_ps(); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = W::load512(weights.add(p * panel_stride + i * LANES));
            }
            let x = x.add(i * x_stride);
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*x.add(r));
                for p in 0..P {
                    acc[p] = _mm512_fmadd_ps(x, w[p], acc[p]);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (p, acc) in acc.iter().enumerate() {
                _mm512_storeu_ps(tile.add((r * P + p) * LANES), *acc);
            }
        }
    }
}
