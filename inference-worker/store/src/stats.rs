//! What was read from where, for programs and for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one store since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Objects opened that were on this disk.
    pub disk_hits: u64,
    /// Their bytes.
    pub disk_bytes: u64,
    /// Objects brought from the remote store.
    pub remote_hits: u64,
    /// Their bytes.
    pub remote_bytes: u64,
    /// Downloads that failed.
    pub remote_failures: u64,
    /// Objects in the disk cache.
    pub cache_objects: u64,
    /// Their bytes.
    pub cache_bytes: u64,
    /// Objects that gave way so far.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
}

/// See [`StoreStats`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    disk_hits: AtomicU64,
    disk_bytes: AtomicU64,
    remote_hits: AtomicU64,
    remote_bytes: AtomicU64,
    remote_failures: AtomicU64,
    cache_objects: AtomicU64,
    cache_bytes: AtomicU64,
    evictions: AtomicU64,
    evicted_bytes: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

impl Counts {
    pub(crate) fn disk(&self, bytes: u64) {
        add(&self.disk_hits, 1);
        add(&self.disk_bytes, bytes);
        metrics::counter!("openledger_store_reads_total", "tier" => "disk").increment(1);
        metrics::counter!("openledger_store_read_bytes_total", "tier" => "disk").increment(bytes);
    }

    pub(crate) fn remote(&self, bytes: u64) {
        add(&self.remote_hits, 1);
        add(&self.remote_bytes, bytes);
        metrics::counter!("openledger_store_reads_total", "tier" => "remote").increment(1);
        metrics::counter!("openledger_store_read_bytes_total", "tier" => "remote").increment(bytes);
    }

    pub(crate) fn failed(&self) {
        add(&self.remote_failures, 1);
        metrics::counter!("openledger_store_remote_failures_total").increment(1);
    }

    pub(crate) fn cached(&self, objects: usize, bytes: u64) {
        self.cache_objects.store(objects as u64, Ordering::Relaxed);
        self.cache_bytes.store(bytes, Ordering::Relaxed);
        metrics::gauge!("openledger_store_cache_objects").set(objects as f64);
        metrics::gauge!("openledger_store_cache_bytes").set(bytes as f64);
    }

    pub(crate) fn evicted(&self, bytes: u64) {
        add(&self.evictions, 1);
        add(&self.evicted_bytes, bytes);
        metrics::counter!("openledger_store_evictions_total").increment(1);
    }

    pub(crate) fn read(&self) -> StoreStats {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StoreStats {
            disk_hits: of(&self.disk_hits),
            disk_bytes: of(&self.disk_bytes),
            remote_hits: of(&self.remote_hits),
            remote_bytes: of(&self.remote_bytes),
            remote_failures: of(&self.remote_failures),
            cache_objects: of(&self.cache_objects),
            cache_bytes: of(&self.cache_bytes),
            evictions: of(&self.evictions),
            evicted_bytes: of(&self.evicted_bytes),
        }
    }
}
