//! Weights of the calls.

use frame_support::weights::{constants::RocksDbWeight, Weight};

/// Weight of each call.
pub trait WeightInfo {
    /// `claim` of `n` earnings.
    fn claim(n: u32) -> Weight;
}

/// Above what the benchmarks measure on slow machines; for tests and until a runtime has its own.
impl WeightInfo for () {
    fn claim(n: u32) -> Weight {
        let n = u64::from(n);
        Weight::from_parts(100_000_000, 8_192)
            .saturating_add(Weight::from_parts(20_000_000, 2_048).saturating_mul(n))
            .saturating_add(RocksDbWeight::get().reads_writes(5, 3))
            .saturating_add(RocksDbWeight::get().reads_writes(1, 1).saturating_mul(n))
    }
}
