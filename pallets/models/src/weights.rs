//! Weights of the calls.

use frame_support::weights::{constants::RocksDbWeight, Weight};

/// Weight of each call.
pub trait WeightInfo {
    /// `register_base`.
    fn register_base() -> Weight;
    /// `register_adapter`.
    fn register_adapter() -> Weight;
    /// `publish_revision` on `n` versions.
    fn publish_revision(n: u32) -> Weight;
    /// `set_terms` of an adapter with as many live revisions as it may have.
    fn set_terms() -> Weight;
    /// `retire_revision`.
    fn retire_revision() -> Weight;
}

/// Proof size of what a call touches once, in bytes, generously.
const FIXED_PROOF: u64 = 16_384;
/// Proof size of a revision, or of a version with its Datanet, in bytes, generously.
const ENTRY_PROOF: u64 = 6_144;

fn fixed(picoseconds: u64, reads: u64, writes: u64) -> Weight {
    Weight::from_parts(picoseconds, FIXED_PROOF)
        .saturating_add(RocksDbWeight::get().reads_writes(reads, writes))
}

fn each(n: u32, picoseconds: u64, reads: u64) -> Weight {
    Weight::from_parts(picoseconds, ENTRY_PROOF)
        .saturating_add(RocksDbWeight::get().reads(reads))
        .saturating_mul(u64::from(n))
}

/// Above what the benchmarks measure on slow machines; for tests and until a runtime has its own.
impl WeightInfo for () {
    fn register_base() -> Weight {
        fixed(150_000_000, 8, 9)
    }
    fn register_adapter() -> Weight {
        fixed(100_000_000, 5, 5)
    }
    fn publish_revision(n: u32) -> Weight {
        fixed(140_000_000, 9, 6).saturating_add(each(n, 10_000_000, 3))
    }
    fn set_terms() -> Weight {
        fixed(60_000_000, 4, 2).saturating_add(each(crate::MAX_LIVE, 10_000_000, 1))
    }
    fn retire_revision() -> Weight {
        fixed(60_000_000, 2, 2)
    }
}
