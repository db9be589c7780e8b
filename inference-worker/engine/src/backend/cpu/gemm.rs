//! Rows times weight matrices: packing, cutting into tasks, and the small products of LoRA.

use super::kernels::{multiply, panels_for, Isa, Weight, MAX_ROWS};
use super::matrix::{MatrixView, Unpack, CHUNK};
use crate::panels::{PanelValues, PanelView, LANES};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// One product of a region: a matrix, or some of its panels, and where the result `[rows, outputs of
/// those panels]` goes.
pub struct Product<'a> {
    weights: MatrixView<'a>,
    panels: Range<usize>,
    width: usize,
    out: &'a mut [f32],
}

impl<'a> Product<'a> {
    /// The product with all of a matrix; `out` is row-major and overwritten.
    pub fn whole(weights: MatrixView<'a>, out: &'a mut [f32]) -> Self {
        let panels = 0..weights.panel_count();
        Self::of_panels(weights, panels, out)
    }

    /// The product with some panels of a matrix.
    pub fn of_panels(weights: MatrixView<'a>, panels: Range<usize>, out: &'a mut [f32]) -> Self {
        let end = (panels.end * LANES).min(weights.outputs());
        Self {
            weights,
            width: end.saturating_sub(panels.start * LANES),
            panels,
            out,
        }
    }
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

/// A LoRA pair on one tile of its rows, and where its delta goes.
#[derive(Clone, Copy)]
pub struct LoraTask<'a> {
    /// `[rank, inputs]`.
    pub a: PanelView<'a>,
    /// `[outputs, rank]`.
    pub b: PanelView<'a>,
    /// Factor of the delta.
    pub scale: f32,
    /// The rows.
    pub tile: RowTile<'a>,
    /// Rows of deltas.
    pub out: SharedRows,
    /// Where in a row of deltas this matrix begins.
    pub column: usize,
}

/// Columns of one product.
struct ProductTask<'a> {
    weights: MatrixView<'a>,
    out: SharedRows,
    panels: Range<usize>,
    /// The matrix's output that is the first of the result.
    origin: usize,
}

/// Multiplies the rows with every matrix of a region and computes the deltas of `pairs` beside it, over
/// all threads of the pool when it is worth it.
///
/// Every other thread begins with the pairs: rows of different adapters wait for memory while products
/// of many rows wait for arithmetic, so each hides behind the other.
///
/// # Safety
/// No two of `pairs` have the same rows and columns of deltas.
pub unsafe fn multiply_all(
    isa: Isa,
    x: &PackedRows,
    products: &mut [Product<'_>],
    pairs: &[LoraTask<'_>],
) {
    let mut work: usize = pairs.iter().map(LoraTask::work).sum();
    let mut tasks = Vec::new();
    for product in products.iter_mut() {
        let weights = product.weights;
        debug_assert_eq!(product.out.len(), x.rows * product.width);
        work += x.rows * product.width * weights.inputs();
        let out = SharedRows::new(product.out, product.width);
        let panel_bytes = (weights.bytes() / weights.panel_count().max(1)).max(1);
        let step = (TASK_BYTES / panel_bytes).clamp(1, 64).next_multiple_of(4);
        for first in product.panels.clone().step_by(step) {
            tasks.push(ProductTask {
                weights,
                out,
                panels: first..(first + step).min(product.panels.end),
                origin: product.panels.start * LANES,
            });
        }
    }
    let (next_pair, next_task) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run_pairs = || {
        let mut scratch = Vec::new();
        while let Some(pair) = pairs.get(next_pair.fetch_add(1, Ordering::Relaxed)) {
            // SAFETY: the caller's promise.
            unsafe { pair.run(isa, &mut scratch) };
        }
    };
    let run_products = || {
        let mut scratch = Scratch::default();
        while let Some(task) = tasks.get(next_task.fetch_add(1, Ordering::Relaxed)) {
            task.run(isa, x, &mut scratch);
        }
    };
    let threads = if work < SERIAL_BELOW {
        1
    } else {
        rayon::current_num_threads().min(pairs.len() + tasks.len())
    };
    let run = |thread: usize| {
        if thread.is_multiple_of(2) {
            run_products();
            run_pairs();
        } else {
            run_pairs();
            run_products();
        }
    };
    if threads <= 1 {
        run(0);
    } else {
        (0..threads).into_par_iter().with_max_len(1).for_each(run);
    }
}

impl ProductTask<'_> {
    fn run(&self, isa: Isa, x: &PackedRows, scratch: &mut Scratch) {
        let write = |row: usize, column: usize, values: &[f32]| {
            // SAFETY: a task owns the columns of its panels.
            let out = unsafe { self.out.part(row, column - self.origin, values.len()) };
            out.copy_from_slice(values);
        };
        let panels = self.panels.clone();
        match self.weights {
            MatrixView::Panels(weights) => {
                for tile in x.tiles(0, x.rows) {
                    product_of(isa, weights, panels.clone(), tile, |row, column, values| {
                        write(tile.first + row, column, values);
                    });
                }
            }
            MatrixView::Packed(weights) => walk_packed(isa, weights, panels, x, scratch, write),
            MatrixView::Blocks(weights) => walk_packed(isa, weights, panels, x, scratch, write),
        }
    }
}

/// Memory of a task over packed weights.
#[derive(Default)]
struct Scratch {
    /// The values of some panels over some inputs.
    values: Vec<f32>,
    /// One tile of results to each block of rows.
    tiles: Vec<[f32; MAX_ROWS * LANES]>,
}

/// Walks panels whose values are computed as they are needed: some inputs of some panels at a time, for
/// all rows. The chain of each output is that of the same values in [`walk`], cut into pieces.
fn walk_packed(
    isa: Isa,
    weights: &impl Unpack,
    panels: Range<usize>,
    x: &PackedRows,
    scratch: &mut Scratch,
    mut emit: impl FnMut(usize, usize, &[f32]),
) {
    let (outputs, k) = (weights.outputs(), weights.inputs());
    let Scratch { values, tiles } = scratch;
    tiles.resize(x.rows.div_ceil(MAX_ROWS), [0.0; MAX_ROWS * LANES]);
    // More panels than one keep a short tile's registers busy; rows of several tiles have full ones.
    let most = if x.rows <= MAX_ROWS {
        panels_for(x.rows.max(1))
    } else {
        1
    };
    let mut panel = panels.start;
    while panel < panels.end {
        let together = if panels.end - panel >= most { most } else { 1 };
        for start in (0..k).step_by(CHUNK) {
            let len = CHUNK.min(k - start);
            values.resize(together * len * LANES, 0.0);
            for (i, values) in values.chunks_exact_mut(len * LANES).enumerate() {
                weights.unpack(isa, panel + i, start, values);
            }
            for (tile, result) in x.tiles(0, x.rows).zip(tiles.iter_mut()) {
                let rows = &tile.values[start * tile.stride..];
                let resume = start > 0;
                multiply(
                    isa,
                    len,
                    values,
                    together,
                    rows,
                    tile.stride,
                    tile.rows,
                    result,
                    resume,
                );
            }
        }
        let column = panel * LANES;
        let width = (together * LANES).min(outputs - column);
        for (tile, result) in x.tiles(0, x.rows).zip(tiles.iter()) {
            for (row, values) in result.chunks(together * LANES).take(tile.rows).enumerate() {
                emit(tile.first + row, column, &values[..width]);
            }
        }
        panel += together;
    }
}

impl LoraTask<'_> {
    /// Multiply-adds.
    fn work(&self) -> usize {
        self.tile.rows * self.a.outputs() * (self.a.inputs() + self.b.outputs())
    }

    /// Shrinks to the rank, expands and scales.
    ///
    /// # Safety
    /// No other task touches these columns of the tile's rows of deltas meanwhile.
    unsafe fn run(&self, isa: Isa, scratch: &mut Vec<f32>) {
        let tile = self.tile;
        scratch.clear();
        scratch.resize(self.a.outputs() * tile.rows, 0.0);
        let panels = 0..self.a.panel_count();
        product_of(isa, self.a, panels, tile, |row, column, values| {
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
        let panels = 0..self.b.panel_count();
        product_of(isa, self.b, panels, shrunk, |row, column, values| {
            // SAFETY: the caller's promise.
            let out = unsafe {
                self.out
                    .part(tile.first + row, self.column + column, values.len())
            };
            for (to, v) in out.iter_mut().zip(values) {
                *to = self.scale * v;
            }
        });
    }
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
            false,
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
    use super::super::matrix::BaseMatrix;
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
        product_with(isa, MatrixView::Panels(weights.view()), x)
    }

    fn product_with(isa: Isa, weights: MatrixView<'_>, x: &[f32]) -> Vec<f32> {
        let mut packed = PackedRows::default();
        packed.pack(x, weights.inputs());
        let mut out = vec![f32::NAN; x.len() / weights.inputs() * weights.outputs()];
        let product = Product::whole(weights, &mut out);
        // SAFETY: no pairs.
        unsafe { multiply_all(isa, &packed, &mut [product], &[]) };
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
    fn every_storage_should_give_the_bits_of_its_values_whatever_shares_the_batch() {
        for matrix in crate::backend::cpu::matrix::samples(70, 512) {
            let (outputs, inputs) = (matrix.outputs(), matrix.inputs());
            let values = matrix.to_f32();
            let x = noise(37 * inputs, 9);
            let expected: Vec<f32> = (0..37 * outputs)
                .map(|i| {
                    let (row, output) = (i / outputs, i % outputs);
                    (0..inputs).fold(0f32, |sum, k| {
                        x[row * inputs + k].mul_add(values[output * inputs + k], sum)
                    })
                })
                .collect();
            let laid_out = BaseMatrix::new(&matrix);
            for isa in Isa::available() {
                for rows in [1, 2, 4, 7, 8, 16, 17, 37] {
                    let found = product_with(isa, laid_out.view(), &x[..rows * inputs]);
                    let name = matrix.type_name();
                    assert_eq!(found, expected[..rows * outputs], "{name} {isa:?} {rows}");
                }
            }
            // Some panels by themselves, as a rank computes its part of the vocabulary.
            let mut packed = PackedRows::default();
            packed.pack(&x, inputs);
            for (panels, columns) in [(1..3, 16..48), (4..5, 64..70), (2..2, 0..0)] {
                let mut part = vec![f32::NAN; 37 * columns.len()];
                let product = Product::of_panels(laid_out.view(), panels, &mut part);
                // SAFETY: no pairs.
                unsafe { multiply_all(Isa::detect(), &packed, &mut [product], &[]) };
                for row in 0..37 {
                    let ours = &part[row * columns.len()..][..columns.len()];
                    assert_eq!(ours, &expected[row * outputs..][columns.clone()]);
                }
            }
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
    fn a_lora_pair_should_give_its_scaled_delta_beside_a_product() {
        let (inputs, outputs, rank, rows) = (40, 50, 5, 20);
        let (a, b) = (noise(rank * inputs, 6), noise(outputs * rank, 7));
        let (w, x) = (noise(outputs * inputs, 9), noise(rows * inputs, 8));
        let panels = [
            (rank, inputs, &a),
            (outputs, rank, &b),
            (outputs, inputs, &w),
        ]
        .map(|(outputs, inputs, values)| PanelMatrix::from_rows(outputs, inputs, values));
        let mut packed = PackedRows::default();
        packed.pack(&x, inputs);
        let column = 3;
        let width = column + outputs + 1;
        let mut deltas = vec![1.0; rows * width];
        let mut out = vec![f32::NAN; rows * outputs];
        let shared = SharedRows::new(&mut deltas, width);
        let pairs = packed.tiles(3, 14).map(|tile| LoraTask {
            a: panels[0].view(),
            b: panels[1].view(),
            scale: 0.5,
            tile,
            out: shared,
            column,
        });
        let product = Product::whole(MatrixView::Panels(panels[2].view()), &mut out);
        // SAFETY: tiles do not overlap.
        unsafe {
            multiply_all(
                Isa::detect(),
                &packed,
                &mut [product],
                &pairs.collect::<Vec<_>>(),
            )
        };
        assert_eq!(out, super::tests::product(Isa::detect(), &panels[2], &x));
        for row in 0..rows {
            for at in 0..width {
                let delta = |o: usize| -> f32 {
                    let shrunk = |r: usize| -> f32 {
                        (0..inputs)
                            .map(|i| x[row * inputs + i] * a[r * inputs + i])
                            .sum()
                    };
                    (0..rank).map(|r| shrunk(r) * b[o * rank + r]).sum()
                };
                let inside = (3..17).contains(&row) && (column..width - 1).contains(&at);
                let expected = if inside {
                    0.5 * delta(at - column)
                } else {
                    1.0
                };
                assert!((deltas[row * width + at] - expected).abs() < 1e-4);
            }
        }
    }
}
