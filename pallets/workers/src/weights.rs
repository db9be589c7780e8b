//! Weights of the calls.

use frame_support::weights::{constants::RocksDbWeight, Weight};

/// Weight of each call.
pub trait WeightInfo {
    /// `join`.
    fn join() -> Weight;
    /// `set_service_key`.
    fn set_service_key() -> Weight;
    /// `serve`: `new` revisions announced, `old` ones before.
    fn serve(new: u32, old: u32) -> Weight;
    /// `heartbeat`.
    fn heartbeat() -> Weight;
    /// `drain` with `old` revisions announced.
    fn drain(old: u32) -> Weight;
    /// `leave`.
    fn leave() -> Weight;
    /// `update`.
    fn update() -> Weight;
}

/// Proof size of a worker with its keys, in bytes, generously.
const WORKER_PROOF: u64 = 8_192;
/// Proof size of one revision or one entry of the index, in bytes, generously.
const ENTRY_PROOF: u64 = 2_600;

fn fixed(picoseconds: u64, reads: u64, writes: u64) -> Weight {
    Weight::from_parts(picoseconds, WORKER_PROOF)
        .saturating_add(RocksDbWeight::get().reads_writes(reads, writes))
}

fn per_entry(entries: u32, reads: u64, writes: u64) -> Weight {
    Weight::from_parts(6_000_000, ENTRY_PROOF)
        .saturating_add(RocksDbWeight::get().reads_writes(reads, writes))
        .saturating_mul(u64::from(entries))
}

/// Above what the benchmarks measure on slow machines; for tests and until a runtime has its own.
impl WeightInfo for () {
    fn join() -> Weight {
        fixed(120_000_000, 9, 7)
    }
    fn set_service_key() -> Weight {
        fixed(120_000_000, 5, 19)
    }
    fn serve(new: u32, old: u32) -> Weight {
        fixed(60_000_000, 3, 1)
            .saturating_add(per_entry(new, 2, 1))
            .saturating_add(per_entry(old, 1, 1))
    }
    fn heartbeat() -> Weight {
        fixed(50_000_000, 3, 1)
    }
    fn drain(old: u32) -> Weight {
        fixed(50_000_000, 2, 2).saturating_add(per_entry(old, 1, 1))
    }
    fn leave() -> Weight {
        fixed(150_000_000, 5, 20)
    }
    fn update() -> Weight {
        fixed(50_000_000, 1, 1)
    }
}
