//! Every kernel's arguments with their types, and the grid that follows from the shapes.
//!
//! The fields of a call are the kernel's parameters in their order. What the grid needs besides is in
//! the fields after `grid`. Shapes are explained in `kernels/README.md` of this crate.

use super::launch::{Address, Call, Launch};
use std::ffi::c_void;

/// Tokens that one block of decode attention reads.
pub const CHUNK_TOKENS: u32 = 256;
/// Heads of a block of decode attention.
const DECODE_QUERIES: u32 = 8;
/// Rows times heads of a block of prefill attention.
pub const PREFILL_QUERIES: u32 = 16;
/// Rows times heads of a block of prefill attention on tensor cores.
pub const TENSOR_QUERIES: u32 = 64;
/// Rows up to which the narrow tiles of products on tensor cores are meant.
pub const NARROW_ROWS: u32 = 16;
/// Rows in a tile of the LoRA kernels.
pub const TILE_ROWS: u32 = 16;
/// Slot of a row of the base model.
pub const NO_ADAPTER: u32 = u32::MAX;
/// Most sites that share one launch.
pub const MAX_SITES: usize = 4;

/// One low-rank pair, as the device's table holds it; all zeros where an adapter has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct LoraEntry {
    /// `[rank, inputs]`.
    pub a: Address,
    /// `[outputs, rank]`.
    pub b: Address,
    /// `[outputs]` in f32, what the base's result is multiplied by; null unless the adapter is a DoRA,
    /// whose `b` has its rows multiplied by it already.
    pub gain: Address,
    /// 0: this matrix is left alone.
    pub rank: u32,
    /// Factor of the delta.
    pub scale: f32,
}

/// Rows of one adapter: `rows` entries from `first` on in the list of rows sorted by adapter, at most
/// [`TILE_ROWS`]. No rows: skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LoraTile {
    /// First entry in the list.
    pub first: u32,
    /// Number of entries.
    pub rows: u32,
    /// The adapter's slot in the table.
    pub slot: u32,
}

/// Cuts segments `(slot, rows)` of the list of rows sorted by adapter into tiles. Rows of the base model
/// are in the list but in no tile.
pub fn lora_tiles(segments: &[(u32, u32)]) -> Vec<LoraTile> {
    let mut tiles = Vec::new();
    let mut first = 0;
    for &(slot, rows) in segments {
        if slot != NO_ADAPTER {
            tiles.extend((0..rows).step_by(TILE_ROWS as usize).map(|at| LoraTile {
                first: first + at,
                rows: TILE_ROWS.min(rows - at),
                slot,
            }));
        }
        first += rows;
    }
    tiles
}

/// Adjacent rows of one sequence that share a block of prefill attention. No rows: skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RowTile {
    /// First row.
    pub first: u32,
    /// Number of rows.
    pub rows: u32,
    /// The sequence, a row of the page tables.
    pub sequence: u32,
}

/// Cuts runs `(sequence, rows)` of adjacent rows into tiles for a model with `group` query heads for
/// each key-value head, for [`PrefillAttention`].
pub fn row_tiles(runs: &[(u32, u32)], group: u32) -> Vec<RowTile> {
    tiles_of(runs, PREFILL_QUERIES / group.max(1))
}

/// The same for [`PrefillAttentionTensor`].
pub fn tensor_row_tiles(runs: &[(u32, u32)], group: u32) -> Vec<RowTile> {
    tiles_of(runs, TENSOR_QUERIES / group.max(1))
}

fn tiles_of(runs: &[(u32, u32)], most: u32) -> Vec<RowTile> {
    let most = most.max(1);
    let mut tiles = Vec::new();
    let mut first = 0;
    for &(sequence, rows) in runs {
        tiles.extend((0..rows).step_by(most as usize).map(|at| RowTile {
            first: first + at,
            rows: most.min(rows - at),
            sequence,
        }));
        first += rows;
    }
    tiles
}

/// Where the outputs of each site are in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Spans {
    /// First output.
    pub offset: [u32; MAX_SITES],
    /// Number of outputs.
    pub width: [u32; MAX_SITES],
}

macro_rules! call {
    (
        $(#[$meta:meta])*
        $name:ident = $kernel:literal {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)+
        }
        grid { $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty,)* }
        |$call:ident| $grid:expr, $threads:expr
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs, reason = "named as the kernel's parameters, which are described there")]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
            $($(#[$extra_meta])* pub $extra: $extra_type,)*
        }

        impl Call for $name {
            fn launch(&self) -> Launch {
                let $call = self;
                Launch { kernel: $kernel, grid: $grid, threads: $threads }
            }

            fn arguments(&self) -> Vec<*mut c_void> {
                vec![$(std::ptr::from_ref(&self.$field).cast_mut().cast()),+]
            }

            fn kept(&self) -> Option<Box<dyn Call + Send + Sync>> {
                Some(Box::new(*self))
            }
        }
    };
}

call! {
    /// `out = x / rms(x) · weight`.
    RmsNorm = "rms_norm" {
        out: Address, x: Address, weight: Address, width: u32, epsilon: f32,
    }
    grid { rows: u32, }
    |c| [c.rows, 1, 1], 256
}

call! {
    /// [`RmsNorm`] with `out` in f32.
    RmsNormF32 = "rms_norm_f32" {
        out: Address, x: Address, weight: Address, width: u32, epsilon: f32,
    }
    grid { rows: u32, }
    |c| [c.rows, 1, 1], 256
}

call! {
    /// `residual += x`, then the norm of it.
    AddRmsNorm = "add_rms_norm" {
        out: Address, residual: Address, x: Address, weight: Address, width: u32, epsilon: f32,
    }
    grid { rows: u32, }
    |c| [c.rows, 1, 1], 256
}

call! {
    /// Bias, norm and rotation of queries and keys; keys and values into their pages.
    RopeKv = "rope_kv" {
        q: Address, kv: Address, qkv: Address, bias: Address, q_norm: Address, k_norm: Address,
        angles: Address, positions: Address, sequences: Address, tables: Address,
        /// Values from one page to the next.
        page_stride: u64,
        table_stride: u32, heads: u32, kv_heads: u32, epsilon: f32,
    }
    grid { rows: u32, head_dim: u32, }
    |c| [c.rows, c.heads + 2 * c.kv_heads, 1], (c.head_dim / 2).next_multiple_of(32)
}

call! {
    /// The chunks of decode attention.
    DecodeAttention = "decode_attention" {
        partial: Address, q: Address, kv: Address, positions: Address, sequences: Address,
        tables: Address, page_stride: u64, table_stride: u32, heads: u32, kv_heads: u32, scale: f32,
    }
    grid {
        rows: u32,
        /// Chunks of the longest context.
        chunks: u32,
    }
    |c| [c.rows, c.kv_heads * (c.heads / c.kv_heads).div_ceil(DECODE_QUERIES), c.chunks], 128
}

call! {
    /// The chunks of decode attention merged in order.
    DecodeCombine = "decode_combine" {
        out: Address, partial: Address, positions: Address, heads: u32, chunks: u32,
    }
    grid { rows: u32, }
    |c| [c.rows, c.heads, 1], 128
}

call! {
    /// Causal attention of the rows of tiles.
    PrefillAttention = "prefill_attention" {
        out: Address, q: Address, kv: Address, tiles: Address, positions: Address, tables: Address,
        page_stride: u64, table_stride: u32, heads: u32, kv_heads: u32, scale: f32,
    }
    grid { tile_count: u32, }
    |c| [c.tile_count, c.kv_heads, (c.heads / c.kv_heads).div_ceil(PREFILL_QUERIES)], 128
}

call! {
    /// [`PrefillAttention`] on tensor cores, for BF16 and heads of a width divisible by 8, with tiles of
    /// [`tensor_row_tiles`].
    PrefillAttentionTensor = "prefill_attention_tensor" {
        out: Address, q: Address, kv: Address, tiles: Address, positions: Address, tables: Address,
        page_stride: u64, table_stride: u32, heads: u32, kv_heads: u32, scale: f32,
    }
    grid { tile_count: u32, }
    |c| [c.tile_count, c.kv_heads, (c.heads / c.kv_heads).div_ceil(TENSOR_QUERIES)], 128
}

call! {
    /// `out = silu(gate) · up`.
    SiluMul = "silu_mul" { out: Address, gate_up: Address, width: u32, }
    grid { rows: u32, }
    |c| [c.rows, c.width.div_ceil(256), 1], 256
}

call! {
    /// Uniform values from a seed.
    FillRandom = "fill_random" {
        out: Address, count: u64, seed: u64, middle: f32, spread: f32,
    }
    grid {}
    |c| [c.count.div_ceil(256).min(4096) as u32, 1, 1], 256
}

call! {
    /// Rows of a table by number.
    GatherRows = "gather_rows" {
        out: Address, table: Address, rows: Address, width: u32, limit: u32,
    }
    grid { count: u32, }
    |c| [c.count, c.width.div_ceil(256), 1], 256
}

call! {
    /// `y = x · wᵀ`.
    Gemm = "gemm" { y: Address, x: Address, w: Address, rows: u32, outputs: u32, inputs: u32, }
    grid {}
    |c| [c.outputs.div_ceil(64), c.rows.div_ceil(64), 1], 256
}

call! {
    /// `y = x · wᵀ` with `y` in f32.
    GemmLogits = "gemm_logits" {
        y: Address, x: Address, w: Address, rows: u32, outputs: u32, inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(64), c.rows.div_ceil(64), 1], 256
}

call! {
    /// [`Gemm`] on tensor cores, for BF16 and a number of inputs divisible by 8.
    GemmTensor = "gemm_tensor" {
        y: Address, x: Address, w: Address, rows: u32, outputs: u32, inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(128), c.rows.div_ceil(128), 1], 256
}

call! {
    /// [`GemmTensor`] for few rows, with the same bits.
    GemmTensorNarrow = "gemm_tensor_narrow" {
        y: Address, x: Address, w: Address, rows: u32, outputs: u32, inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(32), c.rows.div_ceil(16), 1], 128
}

call! {
    /// [`GemmTensor`] with `y` in f32.
    GemmTensorLogits = "gemm_tensor_logits" {
        y: Address, x: Address, w: Address, rows: u32, outputs: u32, inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(128), c.rows.div_ceil(128), 1], 256
}

call! {
    /// [`GemmTensorNarrow`] with `y` in f32.
    GemmTensorLogitsNarrow = "gemm_tensor_logits_narrow" {
        y: Address, x: Address, w: Address, rows: u32, outputs: u32, inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(32), c.rows.div_ceil(16), 1], 128
}

call! {
    /// `y = x · wᵀ` for weights of eight bits.
    GemmInt8 = "gemm_int8" {
        y: Address, x: Address, w: Address, scales: Address, group: u32, rows: u32, outputs: u32,
        inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(64), c.rows.div_ceil(64), 1], 256
}

call! {
    /// `y = x · wᵀ` for weights of four bits.
    GemmInt4 = "gemm_int4" {
        y: Address, x: Address, w: Address, scales: Address, group: u32, rows: u32, outputs: u32,
        inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(64), c.rows.div_ceil(64), 1], 256
}

call! {
    /// `y = x · wᵀ` for weights in FP8 E4M3.
    GemmFp8 = "gemm_fp8" {
        y: Address, x: Address, w: Address, scales: Address, rows: u32, outputs: u32, inputs: u32,
    }
    grid {}
    |c| [c.outputs.div_ceil(64), c.rows.div_ceil(64), 1], 256
}

call! {
    /// `h = A x` of each row's adapter.
    LoraShrink = "lora_shrink" {
        h: Address, x: Address, table: Address, slots: Address, inputs: u32,
        /// At least the largest rank of the batch.
        rank_stride: u32,
        slot_stride: u32, first_entry: u32,
    }
    grid { rows: u32, sites: u32, }
    |c| [c.rows, c.sites, c.rank_stride.div_ceil(4)], 128
}

call! {
    /// `h = A x` of tiles of rows.
    LoraShrinkTiles = "lora_shrink_tiles" {
        h: Address, x: Address, table: Address, tiles: Address, order: Address, inputs: u32,
        rank_stride: u32, slot_stride: u32, first_entry: u32,
    }
    grid { tile_count: u32, sites: u32, }
    |c| [c.tile_count, c.sites, c.rank_stride.div_ceil(4)], 128
}

call! {
    /// `y = gain · y + scale · B h`.
    LoraExpand = "lora_expand" {
        y: Address, h: Address, table: Address, tiles: Address, order: Address, spans: Spans,
        y_stride: u32, rank_stride: u32, slot_stride: u32, first_entry: u32,
    }
    grid {
        tile_count: u32,
        /// At most [`MAX_SITES`].
        sites: u32,
    }
    |c| {
        let widest = c.spans.width.iter().take(c.sites as usize).max();
        [c.tile_count, c.sites, widest.map_or(0, |w| w.div_ceil(128))]
    }, 128
}

call! {
    /// [`LoraShrinkTiles`] on tensor cores, for BF16 and a number of inputs divisible by 8.
    LoraShrinkTensor = "lora_shrink_tensor" {
        h: Address, x: Address, table: Address, tiles: Address, order: Address, inputs: u32,
        rank_stride: u32, slot_stride: u32, first_entry: u32,
    }
    grid { tile_count: u32, sites: u32, }
    |c| [c.tile_count, c.sites, c.rank_stride.div_ceil(32)], 128
}

call! {
    /// [`LoraExpand`] on tensor cores, for BF16.
    LoraExpandTensor = "lora_expand_tensor" {
        y: Address, h: Address, table: Address, tiles: Address, order: Address, spans: Spans,
        y_stride: u32, rank_stride: u32, slot_stride: u32, first_entry: u32,
    }
    grid {
        tile_count: u32,
        /// At most [`MAX_SITES`].
        sites: u32,
    }
    |c| {
        let widest = c.spans.width.iter().take(c.sites as usize).max();
        [c.tile_count, c.sites, widest.map_or(0, |w| w.div_ceil(128))]
    }, 128
}

call! {
    /// Log-sum-exps and the largest logits of each row.
    SamplingSupport = "sampling_support" {
        sums: Address, values: Address, ids: Address, logits: Address, inverse_temperature: Address,
        vocabulary: u32, k: u32,
    }
    grid { rows: u32, }
    |c| [c.rows, 1, 1], 256
}

call! {
    /// Pages to pages.
    PageCopy = "page_copy" {
        pool: Address, pairs: Address,
        /// 16-byte words of a page.
        words: u64,
    }
    grid { count: u32, }
    |c| [c.count, 8, 1], 256
}

call! {
    /// Codes of eight bits.
    QuantiseInt8 = "quantise_int8" {
        out: Address, scales: Address, w: Address, width: u32, group: u32,
    }
    grid { rows: u32, }
    |c| [c.rows, c.width.div_ceil(c.group), 1], 128
}

call! {
    /// Codes of four bits, two in a byte.
    QuantiseInt4 = "quantise_int4" {
        out: Address, scales: Address, w: Address, width: u32, group: u32,
    }
    grid { rows: u32, }
    |c| [c.rows, c.width.div_ceil(c.group), 1], 128
}

call! {
    /// FP8 E4M3 with a scale per row.
    QuantiseFp8 = "quantise_fp8" { out: Address, scales: Address, w: Address, width: u32, }
    grid { rows: u32, }
    |c| [c.rows, 1, 1], 128
}

call! {
    /// `out = gain · base + scale · B A`.
    MergeDelta = "merge_delta" {
        out: Address, base: Address, a: Address, b: Address, gain: Address, rank: u32, scale: f32, inputs: u32,
    }
    grid { outputs: u32, }
    |c| [c.outputs, c.inputs.div_ceil(256), 1], 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_should_have_the_kernels_layout() {
        assert_eq!(size_of::<LoraEntry>(), 32);
        assert_eq!(size_of::<LoraTile>(), 12);
        assert_eq!(size_of::<RowTile>(), 12);
        assert_eq!(size_of::<Spans>(), 32);
    }

    #[test]
    fn tiles_should_cover_every_row_of_an_adapter_once() {
        let segments = [(NO_ADAPTER, 3), (5, 16), (0, 17), (2, 0), (9, 1)];
        let tiles = lora_tiles(&segments);
        let seen: Vec<_> = tiles.iter().map(|t| (t.first, t.rows, t.slot)).collect();
        assert_eq!(seen, [(3, 16, 5), (19, 16, 0), (35, 1, 0), (36, 1, 9)]);
    }

    /// Blocks of a grid in its second and third dimension, at most; the first has 2³¹ - 1.
    const MOST_ACROSS: u32 = 65_535;

    #[test]
    fn grids_should_hold_for_more_rows_than_their_second_dimension_has() {
        let (at, rows, vocabulary, width) = (Address::NULL, 100_000, 262_144, 53_248);
        let calls: [&dyn Call; 11] = [
            &SiluMul {
                out: at,
                gate_up: at,
                width,
                rows,
            },
            &GatherRows {
                out: at,
                table: at,
                rows: at,
                width,
                limit: vocabulary,
                count: rows,
            },
            &RmsNorm {
                out: at,
                x: at,
                weight: at,
                width,
                epsilon: 0.0,
                rows,
            },
            &PageCopy {
                pool: at,
                pairs: at,
                words: 1,
                count: rows,
            },
            &QuantiseInt8 {
                out: at,
                scales: at,
                w: at,
                width,
                group: 32,
                rows: vocabulary,
            },
            &QuantiseInt4 {
                out: at,
                scales: at,
                w: at,
                width,
                group: 32,
                rows: vocabulary,
            },
            &QuantiseFp8 {
                out: at,
                scales: at,
                w: at,
                width,
                rows: vocabulary,
            },
            &MergeDelta {
                out: at,
                base: at,
                a: at,
                b: at,
                gain: at,
                rank: 8,
                scale: 1.0,
                inputs: width,
                outputs: vocabulary,
            },
            &Gemm {
                y: at,
                x: at,
                w: at,
                rows,
                outputs: vocabulary,
                inputs: width,
            },
            &GemmLogits {
                y: at,
                x: at,
                w: at,
                rows,
                outputs: vocabulary,
                inputs: width,
            },
            &GemmTensor {
                y: at,
                x: at,
                w: at,
                rows,
                outputs: vocabulary,
                inputs: width,
            },
        ];
        for call in calls {
            let Launch { kernel, grid, .. } = call.launch();
            let [across, y, z] = grid;
            assert!(
                across < 1 << 31 && y.max(z) <= MOST_ACROSS,
                "{kernel}: {grid:?}"
            );
        }
    }

    #[test]
    fn row_tiles_should_stay_within_a_sequence_and_a_block() {
        let tiles = row_tiles(&[(1, 5), (0, 0), (2, 1)], 7);
        let seen: Vec<_> = tiles
            .iter()
            .map(|t| (t.first, t.rows, t.sequence))
            .collect();
        assert_eq!(seen, [(0, 2, 1), (2, 2, 1), (4, 1, 1), (5, 1, 2)]);
        assert_eq!(row_tiles(&[(0, 2)], 40).len(), 2);
    }
}
