//! MinHash sketches of rows (Broder 1997), for finding near copies.
//!
//! Scheme 1: 112 minima of 32 bits over the set of 5-byte shingles of the row's canonical bytes,
//! ASCII letters lowered. A row shorter than a shingle is one shingle. The share of equal minima
//! estimates the Jaccard similarity of two rows' shingles.

use crate::hash::{tagged_encoded, Digest, Tag};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// The sketch scheme defined here.
pub const SCHEME: u8 = 1;
/// Minima in a sketch.
pub const MINIMA: usize = 112;
/// Bytes in a shingle.
pub const SHINGLE: usize = 5;

/// A sketch: 112 minima.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Sketch(pub [u32; MINIMA]);

impl Sketch {
    /// The sketch of canonical bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut minima = [u32::MAX; MINIMA];
        let mut add = |shingle: &[u8]| {
            let hash = mix(fnv1a(shingle));
            for (lane, minimum) in minima.iter_mut().enumerate() {
                let multiplier = mix(lane as u64) | 1;
                let offset = mix(!(lane as u64));
                let value = hash.wrapping_mul(multiplier).wrapping_add(offset) >> 32;
                *minimum = (*minimum).min(value as u32);
            }
        };
        if bytes.len() < SHINGLE {
            add(bytes);
        } else {
            for shingle in bytes.windows(SHINGLE) {
                add(shingle);
            }
        }
        Sketch(minima)
    }

    /// Equal minima of two sketches, of [`MINIMA`]: 56 or more estimate a similarity of one half.
    pub fn agreement(&self, other: &Sketch) -> u32 {
        self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count() as u32
    }

    /// Hash that a row's leaf holds.
    pub fn hash(&self) -> Digest {
        tagged_encoded(Tag::Sketch, self)
    }
}

/// FNV-1a, 64 bits, over bytes with ASCII letters lowered.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_copies_agree_and_strangers_do_not() {
        let row = b"The lighthouse of Varrow Point was built in 1874 by the engineer Ilse Marn.";
        let near = b"The lighthouse of Varrow Point was built in 1875 by the engineer Ilse Marn.";
        let far = b"Package maintainers describe what a command does in a short summary.";
        let sketch = Sketch::of(row);
        assert_eq!(sketch.agreement(&Sketch::of(row)), MINIMA as u32);
        assert!(sketch.agreement(&Sketch::of(near)) >= 56);
        assert!(sketch.agreement(&Sketch::of(far)) < 20);
    }
}
