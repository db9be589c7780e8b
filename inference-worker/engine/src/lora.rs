//! The batch that mixes adapters.
//!
//! Rows of a step are ordered by adapter, so that each adapter's rows are one segment; a segment costs
//! one small pair of products per adapted matrix, at the adapter's own rank, and rows of the base model
//! cost nothing (the segmented products of Punica and S-LoRA).

use crate::adapters::slab::DeviceAdapter;
use std::sync::Arc;

/// Adjacent rows that use one adapter.
pub struct Segment {
    /// The adapter; none for the base model.
    pub adapter: Option<Arc<DeviceAdapter>>,
    /// First row.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
}

/// The segments of one step, in order of rows.
#[derive(Default)]
pub struct LoraBatch {
    segments: Vec<Segment>,
}

impl LoraBatch {
    /// Orders the entries of a step by adapter, keeping their order within an adapter, and cuts their
    /// rows into segments.
    pub fn group<'a, T>(
        entries: &mut [T],
        adapter: impl Fn(&T) -> Option<&'a Arc<DeviceAdapter>>,
        rows: impl Fn(&T) -> usize,
    ) -> Self {
        entries.sort_by_key(|e| adapter(e).map(|a| a.id()));
        let mut segments: Vec<Segment> = Vec::new();
        let mut first = 0;
        for entry in entries.iter() {
            let (adapter, rows) = (adapter(entry), rows(entry));
            match segments.last_mut() {
                Some(last) if last.adapter.as_ref().map(|a| a.id()) == adapter.map(|a| a.id()) => {
                    last.rows += rows;
                }
                _ => segments.push(Segment {
                    adapter: adapter.cloned(),
                    first,
                    rows,
                }),
            }
            first += rows;
        }
        Self { segments }
    }

    /// The segments, in order of rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Different adapters in the step, the base model not counted.
    pub fn distinct_adapters(&self) -> usize {
        self.segments.iter().filter(|s| s.adapter.is_some()).count()
    }
}
