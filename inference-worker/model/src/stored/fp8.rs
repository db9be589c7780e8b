//! Floats of eight bits: one of sign, four of exponent, three of mantissa, no infinities (`E4M3` of
//! Micikevicius et al., 2022). The largest is 448; the two codes above it are not numbers.

/// The largest value.
pub const MAX: f32 = 448.0;

/// Whether the code is a number.
pub fn is_finite(code: u8) -> bool {
    code & 0x7f != 0x7f
}

/// The value of a code, exactly.
pub fn to_f32(code: u8) -> f32 {
    let mantissa = u32::from(code & 7);
    let exponent = u32::from(code >> 3 & 0xf);
    if !is_finite(code) {
        return f32::NAN;
    }
    // Without an exponent there is no leading one, and the exponent is that of the smallest.
    let digits = if exponent == 0 {
        mantissa
    } else {
        mantissa | 8
    };
    let magnitude = digits as f32 * f32::from_bits((exponent.max(1) + 117) << 23);
    if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// The code whose value is nearest, of two as near the one with an even mantissa; what lies beyond the
/// largest becomes the largest. Not for NaN.
pub fn from_f32(value: f32) -> u8 {
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    let magnitude = value.abs().min(MAX);
    // Below the least value with a leading one, codes are counts of the least of all.
    if magnitude < 0.015_625 {
        return sign | (magnitude * 512.0).round_ties_even() as u8;
    }
    // Twenty bits of the mantissa are rounded away, and the exponent counts from another zero.
    let bits = magnitude.to_bits();
    let rounded = (bits + 0x7_ffff + (bits >> 20 & 1)) >> 20;
    sign | (rounded - (120 << 3)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_should_have_the_values_of_the_format() {
        let cases = [
            (0x00, 0.0),
            (0x01, 0.001_953_125),
            (0x07, 0.013_671_875),
            (0x08, 0.015_625),
            (0x38, 1.0),
            (0x39, 1.125),
            (0x7e, 448.0),
            (0xb8, -1.0),
        ];
        for (code, value) in cases {
            assert_eq!(to_f32(code), value);
        }
        assert!(to_f32(0x7f).is_nan() && to_f32(0xff).is_nan());
    }

    #[test]
    fn values_should_be_rounded_to_the_nearest_code() {
        for code in 0..=255u8 {
            if is_finite(code) {
                assert_eq!(from_f32(to_f32(code)), code);
            }
        }
        // Between 1.0 and 1.125, 1.125 and 1.25: ties go to the even mantissa.
        assert_eq!(from_f32(1.0625), 0x38);
        assert_eq!(from_f32(1.1875), 0x3a);
        assert_eq!(from_f32(1.07), 0x39);
        assert_eq!(from_f32(1e9), 0x7e);
        assert_eq!(from_f32(-1e9), 0xfe);
        assert_eq!(from_f32(1e-9), 0);
        // The nearest by trying all, over the whole range.
        for i in 0..4000 {
            let value = 1.004f32.powi(i - 2500) * if i % 2 == 0 { 1.0 } else { -1.0 };
            let error = (to_f32(from_f32(value)) - value.clamp(-MAX, MAX)).abs();
            let least = (0..=255)
                .filter(|code| is_finite(*code))
                .map(|code| (to_f32(code) - value.clamp(-MAX, MAX)).abs())
                .fold(f32::INFINITY, f32::min);
            assert_eq!(error, least, "{value}");
        }
    }
}
