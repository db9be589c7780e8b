//! Element-wise functions whose bits do not depend on the machine.
//!
//! Sums run in sixteen fixed lanes and a fixed tree; `exp` is computed here, as the system's differs
//! between libraries. Each function is compiled for every instruction set from one text: plain IEEE
//! 754 operations in a fixed order, so wider vectors change the speed only.

use super::kernels::Isa;
use crate::panels::LANES;

/// Compiles a function once per instruction set and picks one at run time.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::backend::cpu::kernels::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                $body($($arg),*)
            }
            match isa {
                // SAFETY: `Isa` names a set that `Isa::available` found on this machine.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::cpu::kernels::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::cpu::kernels::Isa::Avx2 => unsafe { avx2($($arg),*) },
                $crate::backend::cpu::kernels::Isa::Portable => $body($($arg),*),
            }
        }
    };
}
pub(super) use per_isa;

/// `e^x` to about two units in the last place; 0 below -87, and no infinity above 88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first short enough for an exact product with the exponent.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = clamped * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    // Taylor's series to the seventh power: |r| <= 0.35.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let exponent = (rounded.to_bits() as i32)
        .wrapping_sub(ROUND.to_bits() as i32)
        .wrapping_shl(23);
    let value = f32::from_bits((p.to_bits() as i32).wrapping_add(exponent) as u32);
    if x < -87.0 {
        0.0
    } else {
        value
    }
}

/// Adds sixteen lanes in a fixed tree.
#[inline(always)]
pub fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v * v;
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane += v * v;
    }
    sum_lanes(lanes)
}

#[inline(always)]
fn rms_norm_rows(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    for (x, out) in x
        .chunks_exact(weight.len())
        .zip(out.chunks_exact_mut(weight.len()))
    {
        let mean = sum_of_squares(x) / weight.len() as f32;
        let scale = 1.0 / (mean + eps).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = w * (x * scale);
        }
    }
}

per_isa! {
    /// RMSNorm of each row of `x` by `weight` (both `weight.len()` wide) into `out`.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = rms_norm_rows
}

#[inline(always)]
fn silu_mul_values(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

per_isa! {
    /// `silu(gate) * up`, in place of `gate`.
    pub fn silu_mul(gate: &mut [f32], up: &[f32]) = silu_mul_values
}

#[inline(always)]
fn log_sum_exp_values(values: &[f32], max: f32) -> f64 {
    let mut lanes = [0f32; LANES];
    let mut total = 0f64;
    // Lanes are emptied into an f64 now and then: a large vocabulary loses no precision.
    for block in values.chunks(64 * LANES) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane += exp(v - max);
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane += exp(v - max);
        }
        total += f64::from(sum_lanes(lanes));
        lanes = [0.0; LANES];
    }
    total.ln() + f64::from(max)
}

per_isa! {
    fn log_sum_exp_isa(values: &[f32], max: f32) -> f64 = log_sum_exp_values
}

/// `ln Σ e^v`, the normaliser of log-probabilities.
pub fn log_sum_exp(values: &[f32]) -> f64 {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    log_sum_exp_isa(Isa::detect(), values, max)
}

/// Adds `delta` to `x`.
pub fn add(x: &mut [f32], delta: &[f32]) {
    for (x, d) in x.iter_mut().zip(delta) {
        *x += d;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_should_be_within_a_few_units_in_the_last_place() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 4e-7, "exp({x}): relative error {error}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn every_instruction_set_should_give_the_same_bits() {
        let x: Vec<f32> = (0..203).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
        let w: Vec<f32> = (0..203).map(|i| (i as f32 * 0.11).cos()).collect();
        let run = |isa| {
            let mut normed = vec![0.0; x.len()];
            rms_norm(isa, &x, &w, 1e-5, &mut normed);
            let mut gated = x.clone();
            silu_mul(isa, &mut gated, &w);
            let lse = log_sum_exp_isa(isa, &x, 9.0);
            (normed, gated, lse.to_bits())
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Portable), "{isa:?}");
        }
    }
}
