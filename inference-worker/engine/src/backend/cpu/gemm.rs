//! Rows times weight matrices: packing, cutting into tasks, and the small products of LoRA.

use super::kernels::{multiply, panels_for, Isa, Weight, MAX_ROWS};
use crate::panels::{PanelValues, PanelView, LANES};
use rayon::prelude::*;

/// Multiply-adds below which a product is not handed to other threads: some tens of microseconds, which
/// a busy machine loses when it waits for a second core.
pub const SERIAL_BELOW: usize = 2_000_000;

/// Bytes of weights in one task: with the inputs of a block they stay in a core's second-level cache.
const TASK_BYTES: usize = 256 << 10;

/// Rows interleaved in blocks of up to sixteen, as the kernels read them.
///
/// Block `b` holds rows `16 b ..`; input `i` of its row `r` is at `16 b k + i * rows_of_block + r`.
#[derive(Default)]
pub struct PackedRows {
    rows: usize,
    inputs: usize,
    values: Vec<f32>,
}

/// Some adjacent rows of one block.
#[derive(Clone, Copy)]
pub struct RowTile<'a> {
    /// Number of the first row within all rows.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
    stride: usize,
    values: &'a [f32],
}

impl PackedRows {
    /// Takes rows `[rows, inputs]`.
    pub fn pack(&mut self, source: &[f32], inputs: usize) {
        self.inputs = inputs;
        self.rows = source.len() / inputs;
        self.values.resize(self.rows * inputs, 0.0);
        for (from, to) in source
            .chunks(MAX_ROWS * inputs)
            .zip(self.values.chunks_mut(MAX_ROWS * inputs))
        {
            let rows = from.len() / inputs;
            if rows == 1 {
                to.copy_from_slice(from);
                continue;
            }
            // Sixteen inputs at a time: both sides stay in few cache lines.
            for start in (0..inputs).step_by(LANES) {
                let end = (start + LANES).min(inputs);
                for (r, row) in from.chunks_exact(inputs).enumerate() {
                    for i in start..end {
                        to[i * rows + r] = row[i];
                    }
                }
            }
        }
    }

    /// The parts of the blocks that hold the rows `first..first + rows`.
    pub fn tiles(&self, first: usize, rows: usize) -> impl Iterator<Item = RowTile<'_>> {
        let end = (first + rows).min(self.rows);
        let blocks = first / MAX_ROWS..end.div_ceil(MAX_ROWS);
        blocks.map(move |block| {
            let start = block * MAX_ROWS;
            let stride = (self.rows - start).min(MAX_ROWS);
            let from = first.max(start);
            let to = end.min(start + stride);
            let values = &self.values[start * self.inputs..(start + stride) * self.inputs];
            RowTile {
                first: from,
                rows: to - from,
                stride,
                values: &values[from - start..],
            }
        })
    }
}

/// One product of a region: a matrix and where its result `[rows, outputs]` goes.
pub struct Product<'a> {
    /// The matrix.
    pub weights: PanelView<'a>,
    /// The result, row-major, overwritten.
    pub out: &'a mut [f32],
}

/// A place in a result that several tasks write side by side.
#[derive(Clone, Copy)]
pub struct SharedRows {
    base: *mut f32,
    len: usize,
    width: usize,
}

// SAFETY: tasks write disjoint columns or disjoint rows, which each caller cuts before it starts them.
unsafe impl Send for SharedRows {}
// SAFETY: as above.
unsafe impl Sync for SharedRows {}

impl SharedRows {
    /// Rows of `width` values.
    pub fn new(rows: &mut [f32], width: usize) -> Self {
        Self {
            base: rows.as_mut_ptr(),
            len: rows.len(),
            width,
        }
    }

    /// A part of one row.
    ///
    /// # Safety
    /// No other task touches this part while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, row: usize, column: usize, columns: usize) -> &mut [f32] {
        let start = row * self.width + column;
        assert!(column + columns <= self.width && start + columns <= self.len);
        // SAFETY: within the slice that `new` borrowed, and disjoint by the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(start), columns) }
    }
}

/// Multiplies the rows with every matrix of a region, over all threads of the pool when it is worth it.
pub fn multiply_all(isa: Isa, x: &PackedRows, products: &mut [Product<'_>]) {
    struct Task<'a> {
        weights: PanelView<'a>,
        out: SharedRows,
        first: usize,
        panels: usize,
    }
    let mut tasks = Vec::new();
    let mut work = 0;
    for product in products.iter_mut() {
        let weights = product.weights;
        debug_assert_eq!(product.out.len(), x.rows * weights.outputs());
        work += x.rows * weights.outputs() * weights.inputs();
        let out = SharedRows::new(product.out, weights.outputs());
        let panel_bytes = (weights.bytes() / weights.panel_count().max(1)).max(1);
        let step = (TASK_BYTES / panel_bytes).clamp(1, 64).next_multiple_of(4);
        for first in (0..weights.panel_count()).step_by(step) {
            tasks.push(Task {
                weights,
                out,
                first,
                panels: step.min(weights.panel_count() - first),
            });
        }
    }
    let run = |task: &Task<'_>| {
        for tile in x.tiles(0, x.rows) {
            let panels = task.first..task.first + task.panels;
            product_of(isa, task.weights, panels, tile, |row, column, values| {
                // SAFETY: a task owns the columns of its panels.
                let out = unsafe { task.out.part(tile.first + row, column, values.len()) };
                out.copy_from_slice(values);
            });
        }
    };
    if work < SERIAL_BELOW || rayon::current_num_threads() == 1 {
        tasks.iter().for_each(run);
    } else {
        tasks.par_iter().with_max_len(1).for_each(run);
    }
}

/// One LoRA pair on one tile of rows: shrink to the rank, expand, scale, add to the result's rows, which
/// are multiplied by the gain before if there is one.
///
/// # Safety
/// No other task touches the tile's rows of `out` meanwhile.
#[allow(clippy::too_many_arguments)]
pub unsafe fn add_lora(
    isa: Isa,
    a: PanelView<'_>,
    b: PanelView<'_>,
    scale: f32,
    gain: Option<&[f32]>,
    tile: RowTile<'_>,
    scratch: &mut Vec<f32>,
    out: SharedRows,
) {
    let rank = a.outputs();
    scratch.clear();
    scratch.resize(rank * tile.rows, 0.0);
    product_of(isa, a, 0..a.panel_count(), tile, |row, column, values| {
        for (i, v) in values.iter().enumerate() {
            scratch[(column + i) * tile.rows + row] = *v;
        }
    });
    let shrunk = RowTile {
        first: tile.first,
        rows: tile.rows,
        stride: tile.rows,
        values: scratch,
    };
    product_of(isa, b, 0..b.panel_count(), shrunk, |row, column, values| {
        // SAFETY: the caller's promise.
        let out = unsafe { out.part(tile.first + row, column, values.len()) };
        // Not fused: plain Rust has the same bits on every target.
        match gain.map(|gain| &gain[column..column + values.len()]) {
            None => {
                for (to, v) in out.iter_mut().zip(values) {
                    *to += scale * v;
                }
            }
            Some(gain) => {
                for ((to, v), gain) in out.iter_mut().zip(values).zip(gain) {
                    *to = *to * gain + scale * v;
                }
            }
        }
    });
}

/// Walks the panels and hands out each row's results: (row of the tile, first output, values).
fn product_of(
    isa: Isa,
    weights: PanelView<'_>,
    panels: core::ops::Range<usize>,
    tile: RowTile<'_>,
    emit: impl FnMut(usize, usize, &[f32]),
) {
    match weights.values() {
        PanelValues::F32(values) => walk(isa, weights, values, panels, tile, emit),
        PanelValues::Bf16(values) => walk(isa, weights, values, panels, tile, emit),
    }
}

fn walk<W: Weight>(
    isa: Isa,
    weights: PanelView<'_>,
    data: &[W],
    panels: core::ops::Range<usize>,
    tile: RowTile<'_>,
    mut emit: impl FnMut(usize, usize, &[f32]),
) {
    let (outputs, k) = (weights.outputs(), weights.inputs());
    let mut result = [0f32; MAX_ROWS * LANES];
    let mut panel = panels.start;
    while panel < panels.end {
        let together = panels_for(tile.rows);
        let together = if panels.end - panel >= together {
            together
        } else {
            1
        };
        multiply(
            isa,
            k,
            &data[panel * k * LANES..],
            together,
            tile.values,
            tile.stride,
            tile.rows,
            &mut result,
        );
        let column = panel * LANES;
        let width = (together * LANES).min(outputs - column);
        for (row, values) in result.chunks(together * LANES).take(tile.rows).enumerate() {
            emit(row, column, &values[..width]);
        }
        panel += together;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panels::PanelMatrix;

    fn noise(len: usize, salt: u32) -> Vec<f32> {
        let mut state = 0x9e37_79b9u32 ^ salt;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn product(isa: Isa, weights: &PanelMatrix, x: &[f32]) -> Vec<f32> {
        let weights = weights.view();
        let mut packed = PackedRows::default();
        packed.pack(x, weights.inputs());
        let mut out = vec![f32::NAN; x.len() / weights.inputs() * weights.outputs()];
        multiply_all(
            isa,
            &packed,
            &mut [Product {
                weights,
                out: &mut out,
            }],
        );
        out
    }

    #[test]
    fn every_row_should_have_the_same_bits_whatever_shares_the_batch() {
        let (outputs, inputs) = (150, 67);
        for round in [false, true] {
            let mut w = noise(outputs * inputs, 1);
            if round {
                for v in &mut w {
                    *v = f32::from_bits(v.to_bits() & 0xffff_0000);
                }
            }
            let weights = PanelMatrix::from_rows(outputs, inputs, &w);
            let x = noise(37 * inputs, 2);
            for isa in Isa::available() {
                let together = product(isa, &weights, &x);
                for rows in 1..=37 {
                    let part = product(isa, &weights, &x[..rows * inputs]);
                    assert_eq!(part, together[..rows * outputs], "{isa:?} {rows}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_should_give_the_bits_of_the_chain() {
        let (outputs, inputs, rows) = (35, 129, 19);
        let w = noise(outputs * inputs, 3);
        let x = noise(rows * inputs, 4);
        let weights = PanelMatrix::from_rows(outputs, inputs, &w);
        let expected: Vec<f32> = (0..rows * outputs)
            .map(|i| {
                let (row, output) = (i / outputs, i % outputs);
                (0..inputs).fold(0f32, |sum, k| {
                    x[row * inputs + k].mul_add(w[output * inputs + k], sum)
                })
            })
            .collect();
        for isa in Isa::available() {
            assert_eq!(product(isa, &weights, &x), expected, "{isa:?}");
        }
    }

    #[test]
    fn tiles_should_cover_exactly_the_rows_asked_for() {
        let inputs = 3;
        let x = noise(45 * inputs, 5);
        let mut packed = PackedRows::default();
        packed.pack(&x, inputs);
        for (first, rows) in [(0, 45), (15, 2), (16, 16), (7, 38), (44, 1)] {
            let mut next = first;
            for tile in packed.tiles(first, rows) {
                assert_eq!(tile.first, next);
                for r in 0..tile.rows {
                    for i in 0..inputs {
                        let expected = x[(tile.first + r) * inputs + i];
                        assert_eq!(tile.values[i * tile.stride + r], expected);
                    }
                }
                next += tile.rows;
            }
            assert_eq!(next, first + rows);
        }
    }

    #[test]
    fn a_lora_pair_should_add_its_scaled_delta() {
        let (inputs, outputs, rank, rows) = (40, 50, 5, 20);
        let (a, b) = (noise(rank * inputs, 6), noise(outputs * rank, 7));
        let x = noise(rows * inputs, 8);
        let mut packed = PackedRows::default();
        packed.pack(&x, inputs);
        let mut out = vec![1.0; rows * outputs];
        let shared = SharedRows::new(&mut out, outputs);
        for tile in packed.tiles(3, 14) {
            // SAFETY: one task at a time.
            unsafe {
                add_lora(
                    Isa::detect(),
                    PanelMatrix::from_rows(rank, inputs, &a).view(),
                    PanelMatrix::from_rows(outputs, rank, &b).view(),
                    0.5,
                    None,
                    tile,
                    &mut Vec::new(),
                    shared,
                );
            }
        }
        for row in 0..rows {
            for o in 0..outputs {
                let delta: f32 = (0..rank)
                    .map(|r| {
                        let h: f32 = (0..inputs)
                            .map(|i| x[row * inputs + i] * a[r * inputs + i])
                            .sum();
                        h * b[o * rank + r]
                    })
                    .sum();
                let expected = if (3..17).contains(&row) {
                    1.0 + 0.5 * delta
                } else {
                    1.0
                };
                assert!((out[row * outputs + o] - expected).abs() < 1e-4);
            }
        }
    }
}
