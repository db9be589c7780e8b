//! How a fee is split among those who earned it, and how much of the protocol's part is burned.

use openledger_primitives::{
    terms::{Split, PPM},
    Balance,
};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Parts of a fee, planck.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Parts {
    /// The worker's, with what flooring the others left over.
    pub worker: Balance,
    /// The developer's.
    pub developer: Balance,
    /// The holders'.
    pub holders: Balance,
    /// The contributors'.
    pub contributors: Balance,
    /// The protocol's.
    pub protocol: Balance,
}

impl Parts {
    /// Sum of the parts; `None` on overflow, which parts of one fee never reach.
    pub fn total(&self) -> Option<Balance> {
        [
            self.developer,
            self.holders,
            self.contributors,
            self.protocol,
        ]
        .iter()
        .try_fold(self.worker, |sum, part| sum.checked_add(*part))
    }
}

/// ⌊amount · ppm / 1,000,000⌋ without intermediate overflow; at most `amount`.
pub fn share(amount: Balance, ppm: u32) -> Balance {
    let (ppm, whole) = (Balance::from(ppm.min(PPM)), Balance::from(PPM));
    let quotient = amount.checked_div(whole).unwrap_or_default();
    let remainder = amount.checked_rem(whole).unwrap_or_default();
    let fine = remainder
        .saturating_mul(ppm)
        .checked_div(whole)
        .unwrap_or_default();
    quotient.saturating_mul(ppm).saturating_add(fine)
}

/// Splits `fee` (planck): each part floored, what is left over to the worker. The parts sum to the
/// fee exactly, whatever the split.
pub fn split_fee(fee: Balance, split: &Split) -> Parts {
    let mut left = fee;
    let mut take = |ppm: u32| {
        let part = share(fee, ppm).min(left);
        left = left.saturating_sub(part);
        part
    };
    let developer = take(split.developer);
    let holders = take(split.holders);
    let contributors = take(split.contributors);
    let protocol = take(split.protocol);
    Parts {
        worker: left,
        developer,
        holders,
        contributors,
        protocol,
    }
}

/// Splits the protocol's part into (burned, kept), planck: what is kept is floored, so that the odd
/// planck burns.
pub fn split_burn(protocol: Balance, burn_ppm: u32) -> (Balance, Balance) {
    let kept = share(protocol, PPM.saturating_sub(burn_ppm));
    (protocol.saturating_sub(kept), kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPLIT: Split = Split {
        worker: 600_000,
        developer: 150_000,
        holders: 0,
        contributors: 200_000,
        protocol: 50_000,
    };

    /// (fee, worker, developer, holders, contributors, protocol).
    const VECTORS: [[Balance; 6]; 6] = [
        [0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [7, 5, 1, 0, 1, 0],
        [19, 14, 2, 0, 3, 0],
        [1_000_003, 600_003, 150_000, 0, 200_000, 50_000],
        [
            u128::MAX,
            204_169_420_152_563_078_078_024_764_459_060_926_874,
            51_042_355_038_140_769_519_506_191_114_765_231_718,
            0,
            68_056_473_384_187_692_692_674_921_486_353_642_291,
            17_014_118_346_046_923_173_168_730_371_588_410_572,
        ],
    ];

    #[test]
    fn fees_split_as_the_vectors_say() {
        for [fee, worker, developer, holders, contributors, protocol] in VECTORS {
            let expected = Parts {
                worker,
                developer,
                holders,
                contributors,
                protocol,
            };
            assert_eq!(split_fee(fee, &SPLIT), expected, "fee {fee}");
        }
    }

    #[test]
    fn the_odd_planck_burns() {
        assert_eq!(split_burn(0, 500_000), (0, 0));
        assert_eq!(split_burn(1, 500_000), (1, 0));
        assert_eq!(split_burn(7, 500_000), (4, 3));
        assert_eq!(split_burn(10, 1_000_000), (10, 0));
        assert_eq!(split_burn(10, 0), (0, 10));
    }

    fn any_split() -> impl Strategy<Value = Split> {
        // Cuts of one million into five.
        prop::collection::vec(0u32..=PPM, 4).prop_map(|mut cuts| {
            cuts.sort_unstable();
            Split {
                worker: cuts[0],
                developer: cuts[1] - cuts[0],
                holders: cuts[2] - cuts[1],
                contributors: cuts[3] - cuts[2],
                protocol: PPM - cuts[3],
            }
        })
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_fee(fee: u128, split in any_split()) {
            let parts = split_fee(fee, &split);
            prop_assert_eq!(parts.total(), Some(fee));
            prop_assert!(parts.worker >= share(fee, split.worker));
            prop_assert!(parts.worker - share(fee, split.worker) <= 4);
        }

        #[test]
        fn parts_sum_to_the_fee_even_when_the_split_does_not(
            fee: u128,
            [worker, developer, holders, contributors, protocol]: [u32; 5],
        ) {
            let split = Split { worker, developer, holders, contributors, protocol };
            prop_assert_eq!(split_fee(fee, &split).total(), Some(fee));
        }

        #[test]
        fn a_share_is_the_floor(amount in 0u128..1 << 100, ppm in 0..=PPM) {
            prop_assert_eq!(share(amount, ppm), amount * u128::from(ppm) / u128::from(PPM));
        }

        #[test]
        fn what_burns_and_what_is_kept_is_all(protocol: u128, ppm in 0..=PPM) {
            let (burned, kept) = split_burn(protocol, ppm);
            prop_assert_eq!(burned.checked_add(kept), Some(protocol));
            prop_assert!(ppm < PPM / 2 || burned >= kept);
        }
    }
}
