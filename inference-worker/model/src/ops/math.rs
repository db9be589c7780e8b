//! Inner loops, written so that the compiler turns them into vector instructions.

const LANES: usize = 16;

/// `e^x` for `x` in about [-87, 88], clamped outside; relative error below 3e-7.
///
/// The exponent's integer part goes into the float's exponent bits, the rest through a Taylor
/// polynomial on [-ln 2 / 2, ln 2 / 2]; unlike the library's function it has no branch or call.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first short enough that its multiples are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * LN2_HIGH - whole * LN2_LOW;
    let mut series = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        series = series * rest + coefficient;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(127 << 23));
    series * power
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Sum of products, over a fixed number of partial sums.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_body, b_body) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_body
        .remainder()
        .iter()
        .zip(b_body.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_body.zip(b_body) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Largest value; negative infinity of none.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let body = values.chunks_exact(LANES);
    let tail = body
        .remainder()
        .iter()
        .fold(f32::NEG_INFINITY, |a, b| if a > *b { a } else { *b });
    for chunk in body {
        for lane in 0..LANES {
            best[lane] = if best[lane] > chunk[lane] {
                best[lane]
            } else {
                chunk[lane]
            };
        }
    }
    best.iter().fold(tail, |a, b| if a > *b { a } else { *b })
}

/// Replaces each value by `e^(value - shift)` and returns their sum.
#[inline(always)]
pub(super) fn exp_sum(values: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let mut body = values.chunks_exact_mut(LANES);
    for chunk in &mut body {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - shift);
            sums[lane] += chunk[lane];
        }
    }
    let mut tail = 0.0;
    for value in body.into_remainder() {
        *value = exp(*value - shift);
        tail += *value;
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_stays_within_three_parts_in_ten_million() {
        let mut x = -87.0f32;
        while x < 88.0 {
            let (ours, true_value) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                ((ours - true_value) / true_value).abs() < 3e-7,
                "{x}: {ours} {true_value}"
            );
            x += 0.00731;
        }
    }

    #[test]
    fn reductions_cover_the_tail() {
        let values: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(max(&values), 36.0);
        assert_eq!(dot(&values, &[1.0; 37]), 666.0);
        let mut copy = values.clone();
        let sum = exp_sum(&mut copy, 36.0);
        let expected: f64 = (0..37).map(|i| f64::from(i - 36).exp()).sum();
        assert!((f64::from(sum) - expected).abs() < 1e-5);
    }
}
