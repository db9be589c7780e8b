//! The linear layers of a decoder layer: the frozen products, and the changes of the adapters.

use super::arena::ArenaMemory;
use super::gemm::{multiply_all, LoraTask, PackedRows, Product, SharedRows};
use super::kernels::Isa;
use super::layer::Layer;
use super::math::add;
use crate::adapters::slab::DeviceAdapter;
use crate::adapters::table::AdapterTable;
use crate::backend::StepBatch;
use crate::error::StepError;
use openledger_model::Site;

/// An adapter's rows in the step, with its words.
pub(super) struct AdapterRows<'a> {
    table: &'a AdapterTable,
    words: &'a [u32],
    first: usize,
    rows: usize,
}

/// The adapters of a step as rank `rank` has them, once their layer `index` has arrived.
pub(super) fn adapters_of<'a>(
    batch: &'a StepBatch,
    arena: &'a ArenaMemory,
    rank: usize,
    index: usize,
) -> Result<Vec<AdapterRows<'a>>, StepError> {
    let segments = batch.lora.segments().iter();
    segments
        .filter_map(|segment| {
            let adapter: &DeviceAdapter = segment.adapter.as_deref()?;
            let table = adapter.table.shard(rank);
            let layer = table.layer_words(index);
            let first = arena.page(adapter.pages.start);
            Some(adapter.wait(index).map(|()| AdapterRows {
                table,
                // SAFETY: these words have arrived, and the slab stays as it is while a request of
                // the step uses it.
                words: unsafe { arena.words(first + layer.start..first + layer.end) },
                first: segment.first,
                rows: segment.rows,
            }))
        })
        .collect()
}

/// The frozen products of some matrices that share their argument, and the adapters' deltas on them.
pub(super) fn linear(
    isa: Isa,
    layer: &Layer,
    index: usize,
    adapters: &[AdapterRows<'_>],
    x: &PackedRows,
    deltas: &mut Vec<f32>,
    outs: &mut [(Site, &mut [f32])],
) {
    let width_of = |site: Site| layer.sites[site.index()].view().outputs();
    let width: usize = outs.iter().map(|(site, _)| width_of(*site)).sum();
    let rows = outs
        .first()
        .map_or(0, |(site, out)| out.len() / width_of(*site));
    if !adapters.is_empty() && deltas.len() < rows * width {
        deltas.resize(rows * width, 0.0);
    }
    let shared = SharedRows::new(deltas, width);
    let mut pairs: Vec<LoraTask<'_>> = Vec::new();
    for used in adapters {
        let table = used.table;
        // Places count from the adapter's first word, `words` from the layer's.
        let start = table.layer_words(index).start;
        let mut column = 0;
        for (site, _) in outs.iter() {
            if let Some(pair) = table.site(index, *site) {
                let (a, b) = (
                    pair.a.view(start, used.words),
                    pair.b.view(start, used.words),
                );
                pairs.extend(x.tiles(used.first, used.rows).map(|tile| LoraTask {
                    a,
                    b,
                    scale: pair.scale,
                    tile,
                    out: shared,
                    column,
                }));
            }
            column += width_of(*site);
        }
    }
    let mut products: Vec<Product<'_>> = outs
        .iter_mut()
        .map(|(site, out)| Product::whole(layer.sites[site.index()].view(), out))
        .collect();
    // SAFETY: pairs differ in their matrix's columns or in their rows.
    unsafe { multiply_all(isa, x, &mut products, &pairs) };

    for used in adapters {
        let table = used.table;
        let start = table.layer_words(index).start;
        let mut column = 0;
        for (site, out) in outs.iter_mut() {
            let outputs = width_of(*site);
            if let Some(pair) = table.site(index, *site) {
                let gain = pair.gain(start, used.words);
                for row in used.first..used.first + used.rows {
                    let delta = &deltas[row * width + column..][..outputs];
                    add_delta(&mut out[row * outputs..][..outputs], delta, gain);
                }
            }
            column += outputs;
        }
    }
    for (site, out) in outs {
        if let Some(bias) = &layer.bias[site.index()] {
            out.chunks_exact_mut(bias.len())
                .for_each(|row| add(row, bias));
        }
    }
}

/// Adds a delta to a row, which is multiplied by the gain before if there is one. Not fused: plain Rust
/// has the same bits on every target.
fn add_delta(row: &mut [f32], delta: &[f32], gain: Option<&[f32]>) {
    match gain {
        None => add(row, delta),
        Some(gain) => {
            for ((to, delta), gain) in row.iter_mut().zip(delta).zip(gain) {
                *to = *to * gain + delta;
            }
        }
    }
}
