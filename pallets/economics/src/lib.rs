#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

extern crate alloc;

pub mod attribution;
pub mod exposure;
pub mod fee;
pub mod split;

pub use exposure::{Exposure, Limit};
pub use fee::{fee_is_possible, receipt_fee};
pub use split::{split_burn, split_fee, Parts};
