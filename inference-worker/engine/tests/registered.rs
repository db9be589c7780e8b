//! What an adapter that is registered and not asked for takes of memory.

mod common;

use openledger_engine::{AdapterId, EngineOptions, FolderSource};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; beside it, a number is kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn ten_thousand_registered_adapters_should_take_less_than_a_kilobyte_each() {
    const ADAPTERS: usize = 10_000;
    let engine = common::engine(EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    });
    let before = ALLOCATED.load(Ordering::Relaxed);
    for n in 0..ADAPTERS {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).to_le_bytes());
        let folder = PathBuf::from(format!("/var/lib/openledger/adapters/adapter-{n:06}"));
        engine
            .register_adapter(AdapterId(id), Arc::new(FolderSource(folder)))
            .unwrap();
        let name = format!("adapter-{n}");
        engine
            .adapters()
            .swap_alias(&name, None, AdapterId(id))
            .unwrap();
    }
    let each = (ALLOCATED.load(Ordering::Relaxed) - before) / ADAPTERS;
    println!("{each} bytes for each registered adapter");
    assert_eq!(engine.stats().adapters, ADAPTERS);
    assert!((100..1_024).contains(&each), "{each} bytes");
}
