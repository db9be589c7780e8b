//! Tiles in plain Rust, for machines without the vectors and as the reference of the others.

use super::Weight;
use crate::panels::LANES;

/// See [`super::multiply`].
///
/// # Safety
/// The pointers cover the shape as described for the tile type.
pub unsafe fn tile<W: Weight, const M: usize, const P: usize>(
    k: usize,
    weights: *const W,
    panel_stride: usize,
    x: *const f32,
    x_stride: usize,
    tile: *mut f32,
    resume: bool,
) {
    for r in 0..M {
        for p in 0..P {
            let mut acc = [0f32; LANES];
            if resume {
                // SAFETY: the caller's promise.
                unsafe {
                    let from = tile.add((r * P + p) * LANES);
                    core::ptr::copy_nonoverlapping(from, acc.as_mut_ptr(), LANES);
                }
            }
            for i in 0..k {
                // SAFETY: the caller's promise.
                let (x, w) = unsafe {
                    (
                        *x.add(i * x_stride + r),
                        core::slice::from_raw_parts(
                            weights.add(p * panel_stride + i * LANES),
                            LANES,
                        ),
                    )
                };
                for (acc, w) in acc.iter_mut().zip(w) {
                    *acc = x.mul_add(w.widen(), *acc);
                }
            }
            // SAFETY: the caller's promise.
            unsafe {
                core::ptr::copy_nonoverlapping(acc.as_ptr(), tile.add((r * P + p) * LANES), LANES);
            }
        }
    }
}
