//! Information of tokens, in integers: any machine computes the same table.

/// −log₂(count / total) in millibits, rounded down. `1 ≤ count ≤ total < 2³²`.
pub(crate) fn millibits(count: u64, total: u64) -> u32 {
    let (count, total) = (u128::from(count.max(1)), u128::from(total.max(1)));
    let ratio = (total / count).max(1);
    let whole = ratio.ilog2();
    // total / count / 2^whole, in [1, 2), with 63 bits after the point.
    let mut mantissa = (total << 63) / (count << whole);
    let mut fraction = 0u128;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        let bit = mantissa >> 64;
        fraction = fraction << 1 | bit;
        mantissa >>= bit;
    }
    let fixed = u128::from(whole) << 32 | fraction;
    ((fixed * 1_000) >> 32) as u32
}

/// The table of a corpus: entry `id` is the information of that token. A token that does not occur
/// is as surprising as one that occurs once.
pub(crate) fn table(counts: &[u64]) -> Vec<u32> {
    let total = counts.iter().sum::<u64>().max(1);
    counts
        .iter()
        .map(|c| millibits((*c).max(1), total))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vectors() {
        for (count, total, expected) in [
            (1, 1, 0),
            (1, 2, 1_000),
            (1, 3, 1_584),
            (2, 3, 584),
            (1, 1_000, 9_965),
            (999, 1_000, 1),
            (7, 1 << 31, 28_192),
            (1, u64::from(u32::MAX), 31_999),
        ] {
            assert_eq!(millibits(count, total), expected, "{count}/{total}");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_logarithm(total in 1u64..1 << 32, part in 0.0f64..1.0) {
            let count = ((total as f64 * part) as u64).max(1);
            let expected = -(count as f64 / total as f64).log2() * 1_000.0;
            let found = f64::from(millibits(count, total));
            prop_assert!(found <= expected + 1e-6 && found > expected - 1.001);
        }
    }
}
