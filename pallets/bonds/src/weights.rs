//! Weights of the calls.

use frame_support::weights::{constants::RocksDbWeight, Weight};

/// Weight of each call.
pub trait WeightInfo {
    /// `bond_more`.
    fn bond_more() -> Weight;
    /// `thaw`.
    fn thaw() -> Weight;
    /// `withdraw`.
    fn withdraw() -> Weight;
}

/// Proof size of a ledger, an account and its holds, in bytes, generously.
const PROOF: u64 = 8_192;

/// Above what the benchmarks measure on slow machines; for tests and until a runtime has its own.
impl WeightInfo for () {
    fn bond_more() -> Weight {
        Weight::from_parts(80_000_000, PROOF)
            .saturating_add(RocksDbWeight::get().reads_writes(3, 3))
    }
    fn thaw() -> Weight {
        Weight::from_parts(50_000_000, PROOF)
            .saturating_add(RocksDbWeight::get().reads_writes(1, 1))
    }
    fn withdraw() -> Weight {
        Weight::from_parts(80_000_000, PROOF)
            .saturating_add(RocksDbWeight::get().reads_writes(3, 3))
    }
}
