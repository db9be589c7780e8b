//! Weights of the calls.

use frame_support::weights::{constants::RocksDbWeight, Weight};

/// Weight of each call.
pub trait WeightInfo {
    /// Any of the `set_*` calls: each reads and writes every struct.
    fn set() -> Weight;
}

/// Above what the benchmarks measure on slow machines; for tests and until a runtime has its own.
impl WeightInfo for () {
    fn set() -> Weight {
        Weight::from_parts(40_000_000, 4_096)
            .saturating_add(RocksDbWeight::get().reads_writes(6, 6))
    }
}
