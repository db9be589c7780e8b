//! Numbers with a bound for how far a kernel's may be off: a reference written with them gives the result
//! in f64 and, from the same lines, the tolerance that the kernel's arithmetic allows.
//!
//! The rules are those of rounding error analysis (Higham, Accuracy and Stability of Numerical
//! Algorithms): an operation in f32 adds half a unit in the last place, a sum of which only the longest
//! chain of additions is known adds as many times that of the sum of magnitudes. CUDA's `expf` and
//! `logf` are documented to be within two units.

use crate::backend::cuda::Storage;

/// Half a unit in the last place of an f32 of 1.
pub const HALF_UNIT: f64 = 1.0 / (1u64 << 24) as f64;
/// The same of a BF16.
pub const HALF_UNIT_BF16: f64 = 1.0 / 256.0;
/// Below any number that f32 rounds relatively.
const SMALLEST: f64 = 1.0e-38;

/// How a chain of multiply-adds rounds: the longest chain of additions, and what each may add.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    length: f64,
    unit: f64,
}

impl Chain {
    /// Additions in f32, the longest chain of them.
    pub fn of(length: usize) -> Self {
        Self {
            length: length as f64,
            unit: HALF_UNIT,
        }
    }

    /// Products of tensor cores over this many inputs, sixteen at a time: the sixteen products and what
    /// they are added to are cut off to the unit of the largest, and so is their sum.
    pub fn of_tensor_cores(inputs: usize) -> Self {
        Self {
            length: 18.0 * inputs.div_ceil(16) as f64,
            unit: 2.0 * HALF_UNIT,
        }
    }

    /// With more additions in f32 after it.
    pub fn then(mut self, additions: usize) -> Self {
        self.length += additions as f64;
        self
    }

    fn share(self) -> f64 {
        // The hundredth covers products of roundings.
        1.01 * self.length * self.unit
    }
}

/// A number that a kernel computes to within `error` of `value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Real {
    /// In f64.
    pub value: f64,
    /// At most this far off.
    pub error: f64,
}

impl From<f32> for Real {
    fn from(value: f32) -> Self {
        Self {
            value: value.into(),
            error: 0.0,
        }
    }
}

impl Real {
    fn new(value: f64, error: f64) -> Self {
        Self { value, error }
    }

    /// Of a number that may not be an f32.
    pub fn of(value: f64) -> Self {
        Self::new(value, 0.0)
    }

    /// After an operation whose exact result this is: to the nearest f32.
    fn rounded(self) -> Self {
        let error = self.error + HALF_UNIT * (self.value.abs() + self.error);
        Self::new(self.value, error + SMALLEST * HALF_UNIT)
    }

    /// The longest distance from zero.
    fn size(self) -> f64 {
        self.value.abs() + self.error
    }

    /// `self + other`.
    pub fn plus(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        Self::new(self.value + other.value, self.error + other.error).rounded()
    }

    /// `self · other`, rounded.
    pub fn by(self, other: impl Into<Self>) -> Self {
        self.times(other.into()).rounded()
    }

    /// `self · other`, not rounded: within a fused multiply-add, or where the rounding is in a chain.
    fn times(self, other: Self) -> Self {
        let error = self.value.abs() * other.error
            + other.value.abs() * self.error
            + self.error * other.error;
        Self::new(self.value * other.value, error)
    }

    /// `self · factor + addend`, fused.
    pub fn fma(self, factor: impl Into<Self>, addend: impl Into<Self>) -> Self {
        let (product, addend) = (self.times(factor.into()), addend.into());
        Self::new(product.value + addend.value, product.error + addend.error).rounded()
    }

    /// `self / other`; a divisor that may be zero gives no bound.
    pub fn over(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        let value = self.value / other.value;
        let least = other.value.abs() - other.error;
        let error = if least > 0.0 {
            (self.error + value.abs() * other.error) / least
        } else {
            f64::INFINITY
        };
        Self::new(value, error).rounded()
    }

    /// Of a number that is surely positive.
    pub fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let least = (self.value - self.error).max(0.0).sqrt();
        Self::new(value, value - least).rounded()
    }

    /// `eˣ`.
    pub fn exp(self) -> Self {
        let value = self.value.exp();
        Self::new(value, value * self.error.exp_m1()).within_units(2.0)
    }

    /// The natural logarithm of a number that is surely positive.
    pub fn ln(self) -> Self {
        let value = self.value.ln();
        Self::new(value, -(-self.error / self.value).ln_1p()).within_units(2.0)
    }

    /// A function of the mathematical library.
    fn within_units(self, units: f64) -> Self {
        let error = self.error + 2.0 * units * HALF_UNIT * self.size();
        Self::new(self.value, error + SMALLEST * HALF_UNIT)
    }

    /// `-self`.
    pub fn negated(self) -> Self {
        Self::new(-self.value, self.error)
    }

    /// Off by another share of itself.
    pub fn off_by(self, share: f64) -> Self {
        Self::new(self.value, self.error + share * self.size())
    }

    /// Rounded to the storage of tensors.
    pub fn stored(self, storage: Storage) -> Self {
        match storage {
            Storage::F32 => self,
            Storage::Bf16 => self.off_by(HALF_UNIT_BF16),
        }
    }

    /// The sum of terms, added in some order of which the longest chain is known.
    pub fn sum(terms: impl IntoIterator<Item = Self>, chain: Chain) -> Self {
        let (mut value, mut error, mut sizes) = (0.0, 0.0, 0.0);
        for term in terms {
            value += term.value;
            error += term.error;
            sizes += term.size();
        }
        Self::new(value, error + chain.share() * sizes + SMALLEST * HALF_UNIT)
    }

    /// The sum of products by fused multiply-adds, of which the longest chain is known.
    pub fn dot<A: Into<Self>, B: Into<Self>>(
        pairs: impl IntoIterator<Item = (A, B)>,
        chain: Chain,
    ) -> Self {
        let products = pairs.into_iter().map(|(a, b)| a.into().times(b.into()));
        Self::sum(products, chain)
    }

    /// Whether a kernel may give this number.
    pub fn allows(self, number: f64) -> bool {
        if self.value.is_nan() {
            number.is_nan()
        } else if self.value.is_infinite() {
            number == self.value
        } else {
            (number - self.value).abs() <= self.error
        }
    }
}

/// The nearest BF16, ties to even, as the bits of its upper half.
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let (kept, cut) = ((bits >> 16) as u16, bits & 0xffff);
    // One more is the neighbour further from zero; beyond the largest finite it is infinity.
    match cut.cmp(&0x8000) {
        std::cmp::Ordering::Less => kept,
        std::cmp::Ordering::Equal => kept + (kept & 1),
        std::cmp::Ordering::Greater => kept + 1,
    }
}

/// What storage keeps of a number.
pub fn kept(value: f32, storage: Storage) -> f32 {
    match storage {
        Storage::F32 => value,
        Storage::Bf16 => f32::from_bits(u32::from(to_bf16(value)) << 16),
    }
}

/// The 127 sizes of an FP8 E4M3 by code, in order.
fn fp8_sizes() -> impl Iterator<Item = f64> {
    (0..127).map(|code| {
        let (exponent, mantissa) = (code >> 3, f64::from(code & 7));
        match exponent {
            0 => mantissa / 512.0,
            _ => (1.0 + mantissa / 8.0) * 2.0f64.powi(exponent - 7),
        }
    })
}

/// The value of an FP8 code.
pub fn fp8_value(code: u8) -> f64 {
    let size = fp8_sizes().nth((code & 0x7f).into()).unwrap_or(f64::NAN);
    if code & 0x80 == 0 {
        size
    } else {
        -size
    }
}

/// The nearest FP8 code, ties to the even one; beyond the largest the largest.
pub fn fp8_code(value: f32) -> u8 {
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    if value.is_nan() {
        return sign | 0x7f;
    }
    let size = f64::from(value.abs());
    let mut best = (0u8, f64::INFINITY);
    for (code, candidate) in (0u8..).zip(fp8_sizes()) {
        let distance = (candidate - size).abs();
        if distance < best.1 || (distance == best.1 && code % 2 == 0) {
            best = (code, distance);
        }
    }
    sign | best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_arithmetic_should_stay_within_the_bounds() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        for _ in 0..10_000 {
            let (a, b, c) = (next(), next(), next());
            let (x, y, z) = (Real::from(a), Real::from(b), Real::from(c));
            assert!(x.plus(y).by(z).allows(((a + b) * c).into()));
            assert!(x.fma(y, z).allows(a.mul_add(b, c).into()));
            assert!(x.over(y.plus(2.0)).allows((a / (b + 2.0)).into()));
            let root = (a * a + 0.1).sqrt().exp();
            let x = x.by(x).plus(0.1).sqrt();
            assert!(x.exp().allows(root.into()));
            assert!(!x.exp().allows((root * 1.000_01).into()));
            assert!(x.exp().ln().allows(root.ln().into()));
        }
        let values: Vec<f32> = (0..999).map(|_| next()).collect();
        let sum: f32 = values.iter().sum();
        let pairs = values.iter().map(|v| (*v, 1.0f32));
        assert!(Real::dot(pairs, Chain::of(999)).allows(sum.into()));
    }

    #[test]
    fn storage_should_round_to_the_nearest_even() {
        for (value, expected) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (-1.0 - 1.1 / 256.0, 0xbf81),
            (f32::MAX, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
        ] {
            assert_eq!(to_bf16(value), expected, "{value}");
        }
        assert!(kept(f32::from_bits(0x7f80_0001), Storage::Bf16).is_nan());
    }

    #[test]
    fn fp8_codes_should_be_the_nearest() {
        assert_eq!(fp8_value(0x7e), 448.0);
        assert!(fp8_value(0xff).is_nan());
        for code in 0..=0xfeu8 {
            if code != 0x7f {
                assert_eq!(fp8_code(fp8_value(code) as f32), code, "{code}");
            }
        }
        assert_eq!(fp8_code(1000.0), 0x7e);
        assert_eq!(fp8_code(17.0), 0x58);
        assert_eq!(fp8_code(19.0), 0x5a);
    }
}
