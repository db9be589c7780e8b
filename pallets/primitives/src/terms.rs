//! Prices, and how a fee is split.

use crate::ids::Balance;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

/// Parts per million that make a whole.
pub const PPM: u32 = 1_000_000;

/// Shares of a fee in parts per million. A valid split sums to [`PPM`] exactly.
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
    Serialize,
    Deserialize,
)]
pub struct Split {
    /// The worker that served the answer.
    pub worker: u32,
    /// The developer of the model.
    pub developer: u32,
    /// The holders of the model's tokens; the developer's until the model is offered.
    pub holders: u32,
    /// The contributors whose data shaped the answer; what is not attributed goes to the pool.
    pub contributors: u32,
    /// The protocol; half of it is burned.
    pub protocol: u32,
}

impl Split {
    /// Whether the shares sum to one million exactly.
    pub fn sums_to_whole(&self) -> bool {
        [
            self.worker,
            self.developer,
            self.holders,
            self.contributors,
            self.protocol,
        ]
        .iter()
        .try_fold(0u32, |sum, share| sum.checked_add(*share))
            == Some(PPM)
    }
}

/// Terms of a model: an entry of an append-only list; a voucher names the entry, so that a change
/// never reaches back.
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
pub struct Terms<BlockNumber> {
    /// Planck per 1,000 prompt tokens.
    pub price_in: Balance,
    /// Planck per 1,000 output tokens.
    pub price_out: Balance,
    /// Who gets what of a fee.
    pub split: Split,
    /// First block at which a voucher may name these terms.
    pub effective_from: BlockNumber,
}
