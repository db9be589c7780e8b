//! Weights of the calls.

use frame_support::weights::{constants::RocksDbWeight, Weight};

/// Weight of each call.
pub trait WeightInfo {
    /// `create`.
    fn create() -> Weight;
    /// `contribute`.
    fn contribute() -> Weight;
    /// `admit` of `n` contributions.
    fn admit(n: u32) -> Weight;
    /// `reject`.
    fn reject() -> Weight;
    /// `seal_version` that adds `n` contributions.
    fn seal_version(n: u32) -> Weight;
    /// `withdraw`.
    fn withdraw() -> Weight;
}

/// Proof size of what a call touches once, in bytes, generously.
const FIXED_PROOF: u64 = 12_288;
/// Proof size of one contribution with its entries, in bytes, generously.
const CONTRIBUTION_PROOF: u64 = 8_192;

fn fixed(picoseconds: u64, reads: u64, writes: u64) -> Weight {
    Weight::from_parts(picoseconds, FIXED_PROOF)
        .saturating_add(RocksDbWeight::get().reads_writes(reads, writes))
}

fn each(n: u32, picoseconds: u64, reads: u64, writes: u64) -> Weight {
    Weight::from_parts(picoseconds, CONTRIBUTION_PROOF)
        .saturating_add(RocksDbWeight::get().reads_writes(reads, writes))
        .saturating_mul(u64::from(n))
}

/// Above what the benchmarks measure on slow machines; for tests and until a runtime has its own.
impl WeightInfo for () {
    fn create() -> Weight {
        fixed(100_000_000, 4, 5)
    }
    fn contribute() -> Weight {
        fixed(120_000_000, 6, 5)
    }
    fn admit(n: u32) -> Weight {
        fixed(40_000_000, 1, 1).saturating_add(each(n, 80_000_000, 4, 4))
    }
    fn reject() -> Weight {
        fixed(120_000_000, 4, 4)
    }
    fn seal_version(n: u32) -> Weight {
        fixed(60_000_000, 3, 3).saturating_add(each(n, 40_000_000, 2, 3))
    }
    fn withdraw() -> Weight {
        fixed(120_000_000, 5, 6)
    }
}
