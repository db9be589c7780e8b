//! Weights of the calls.

use frame_support::weights::{constants::RocksDbWeight, Weight};

/// Weight of each call and of the steps taken in idle time.
pub trait WeightInfo {
    /// `open_channel` with `l` lanes.
    fn open_channel(l: u32) -> Weight;
    /// `deposit`.
    fn deposit() -> Weight;
    /// `add_signer`.
    fn add_signer() -> Weight;
    /// `revoke_signer`.
    fn revoke_signer() -> Weight;
    /// `add_lanes` of `l` lanes.
    fn add_lanes(l: u32) -> Weight;
    /// `close_channel`.
    fn close_channel() -> Weight;
    /// `finish_close` of a channel of `l` lanes.
    fn finish_close(l: u32) -> Weight;
    /// `submit_batch` of `c` claims, `u` usage lines and `r` credits. Receipts do not count.
    fn submit_batch(c: u32, u: u32, r: u32) -> Weight;
    /// `settle_page` of `n` lines.
    fn settle_page(n: u32) -> Weight;
    /// `release_liability` of `n` batches.
    fn release_liability(n: u32) -> Weight;
    /// `cut_deposit`.
    fn cut_deposit() -> Weight;
    /// `finish_cut`.
    fn finish_cut() -> Weight;
    /// Looking up what is due.
    fn next_due() -> Weight;
}

/// Proof size of a channel, an account and its holds, in bytes, generously.
const PROOF: u64 = 12_288;

fn weight(micros: u64, reads: u64, writes: u64) -> Weight {
    Weight::from_parts(micros.saturating_mul(1_000_000), PROOF)
        .saturating_add(RocksDbWeight::get().reads_writes(reads, writes))
}

fn each(n: u32, micros: u64, reads: u64, writes: u64) -> Weight {
    Weight::from_parts(micros.saturating_mul(1_000_000), 4_096)
        .saturating_add(RocksDbWeight::get().reads_writes(reads, writes))
        .saturating_mul(n.into())
}

/// Above what the benchmarks measure on slow machines; for tests and until a runtime has its own.
impl WeightInfo for () {
    fn open_channel(l: u32) -> Weight {
        weight(120, 8, 5).saturating_add(each(l, 5, 0, 1))
    }
    fn deposit() -> Weight {
        weight(100, 4, 3)
    }
    fn add_signer() -> Weight {
        weight(50, 1, 1)
    }
    fn revoke_signer() -> Weight {
        weight(50, 2, 1)
    }
    fn add_lanes(l: u32) -> Weight {
        weight(120, 4, 3).saturating_add(each(l, 5, 0, 1))
    }
    fn close_channel() -> Weight {
        weight(50, 2, 1)
    }
    fn finish_close(l: u32) -> Weight {
        weight(120, 4, 4).saturating_add(each(l, 5, 0, 1))
    }
    fn submit_batch(c: u32, u: u32, r: u32) -> Weight {
        // A claim: two signature checks, its channel, lane, consumer and holds. A usage line: its
        // revision, model and terms. A credit: its contribution, and versions that are read once.
        // Lines are written in pages.
        weight(200, 12, 44)
            .saturating_add(each(c, 350, 5, 5))
            .saturating_add(each(u, 60, 5, 0))
            .saturating_add(each(r, 80, 4, 0))
    }
    fn settle_page(n: u32) -> Weight {
        // A usage line pays five parts.
        weight(150, 12, 10).saturating_add(each(n, 400, 24, 10))
    }
    fn release_liability(n: u32) -> Weight {
        weight(60, 3, 3).saturating_add(each(n, 50, 3, 4))
    }
    fn cut_deposit() -> Weight {
        weight(50, 2, 1)
    }
    fn finish_cut() -> Weight {
        weight(100, 3, 3)
    }
    fn next_due() -> Weight {
        weight(20, 1, 0)
    }
}
