//! Checks of `decode_attention.cu` and `prefill_attention.cu`.

use super::bench::{Bench, Format, Output, Tensor};
use super::number::{Chain, Real, HALF_UNIT, HALF_UNIT_BF16};
use super::{Check, Extent, Failure};
use crate::backend::cuda::calls::{
    row_tiles, tensor_row_tiles, DecodeAttention, DecodeCombine, PrefillAttention,
    PrefillAttentionTensor, RowTile, CHUNK_TOKENS,
};
use crate::backend::cuda::Address;

/// Tokens of a page.
pub(super) const PAGE_TOKENS: usize = 16;
const LAYERS: usize = 2;
/// Which layer is attended to.
const LAYER: usize = 1;

/// Keys' heads, and heads of queries for each.
type Heads = (usize, usize);

pub(super) fn checks(dim: usize, extent: Extent) -> Vec<Check> {
    let mut checks = Vec::new();
    let groups = [
        (2, 1),
        (3, 3),
        (1, 8),
        (1, 20),
        (1, 2),
        (1, 4),
        (2, 7),
        (1, 9),
    ];
    // Every group once; the reference takes longer the wider a head is.
    let groups = if dim == 64 { &groups[..] } else { &groups[..4] };
    for heads in groups {
        // Prompts from their beginning, across the end of a chunk, and behind two.
        add(
            &mut checks,
            dim,
            *heads,
            vec![(0, 3), (254, 4), (511, 2), (0, 1), (15, 2)],
        );
    }
    add(&mut checks, dim, (1, 2), vec![(30, 40), (0, 17)]);
    if extent == Extent::Full {
        add(
            &mut checks,
            dim,
            (8, 4),
            vec![(0, 40), (1000, 3), (2047, 2)],
        );
    }
    for (rows, heads, chunks) in [(1, 1, 1), (3, 5, 4)] {
        let shape = (dim, rows, heads, chunks);
        checks.push(Check::new("decode_combine", shape, move |b| {
            combine(b, shape)
        }));
    }
    checks
}

/// Of prefill attention on tensor cores; none for heads that it cannot read.
pub(super) fn tensor_checks(dim: usize, extent: Extent) -> Vec<Check> {
    if !dim.is_multiple_of(8) {
        return Vec::new();
    }
    let mut cases = vec![
        ((1, 1), vec![(0, 3), (14, 70), (0, 1)]),
        ((2, 3), vec![(31, 2), (0, 22), (60, 5)]),
        ((1, 8), vec![(250, 9), (0, 17)]),
        ((1, 70), vec![(0, 2), (20, 1)]),
    ];
    if extent == Extent::Full {
        cases.push(((8, 4), vec![(0, 40), (1000, 3), (2047, 2)]));
    }
    let check = |(heads, runs): (Heads, Vec<(usize, usize)>)| {
        let shape = (dim, heads, runs.clone());
        Check::new("prefill_attention_tensor", shape, move |b| {
            let case = Case::new(b, dim, heads, &runs)?;
            let tiles = tensor_row_tiles(&case.tile_runs(), heads.1 as u32);
            let out = case.prefill(b, Way::Tensor, tiles)?;
            case.expect(b, &out, Way::Tensor)?;
            // The same bits for every row by itself.
            let single: Vec<RowTile> = (0..)
                .zip(&case.rows)
                .map(|(first, (sequence, _))| RowTile {
                    first,
                    rows: 1,
                    sequence: *sequence as u32,
                })
                .collect();
            let alone = case.prefill(b, Way::Tensor, single)?;
            b.expect_same("rows alone and in tiles", &alone, &out)
        })
    };
    cases.into_iter().map(check).collect()
}

/// How attention is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Tensor,
}

fn add(checks: &mut Vec<Check>, dim: usize, heads: Heads, runs: Vec<(usize, usize)>) {
    let shape = (dim, heads, runs.clone());
    let rows = runs.clone();
    checks.push(Check::new("decode_attention", &shape, move |b| {
        let case = Case::new(b, dim, heads, &runs)?;
        let out = case.decode(b)?;
        case.expect(b, &out, Way::Plain)
    }));
    // What decode is held against the reference for, prefill has to give in the same bits.
    checks.push(Check::new("prefill_attention", &shape, move |b| {
        let case = Case::new(b, dim, heads, &rows)?;
        let tiles = row_tiles(&case.tile_runs(), heads.1 as u32);
        let out = case.prefill(b, Way::Plain, tiles)?;
        let decoded = case.decode(b)?;
        b.expect_same("prefill_attention and decode_attention", &out, &decoded)
    }));
}

/// The chunks of rows of different lengths, with maxima far apart.
fn combine(
    b: &mut Bench<'_>,
    (dim, rows, heads, chunks): (usize, usize, usize, usize),
) -> Result<(), Failure> {
    let width = dim + 2;
    let mut values = b.numbers(rows * heads * chunks * width);
    for part in values.chunks_exact_mut(width) {
        part[0] *= 8.0;
        part[1] = 1.0 + part[1].abs();
    }
    let partial = b.plain(&values)?;
    let positions: Vec<u32> = (0..rows)
        .map(|row| {
            ((row % chunks + 1) as u32) * CHUNK_TOKENS - 1 + u32::from(row % chunks + 1 < chunks)
        })
        .collect();
    let out = b.output(Format::Scalar, rows * heads * dim)?;
    let call = DecodeCombine {
        out: out.at,
        partial,
        positions: b.plain(&positions)?,
        heads: heads as u32,
        chunks: chunks as u32,
        rows: rows as u32,
    };
    b.launch(&call)?;
    let storage = b.storage;
    b.expect("out", &out, |i| {
        let (head, d) = (i / dim, i % dim);
        let count = (positions[head / heads] / CHUNK_TOKENS) as usize + 1;
        let parts = &values[head * chunks * width..][..count * width];
        let largest = parts.chunks_exact(width).map(|part| part[0]);
        let largest = largest.fold(f32::NEG_INFINITY, f32::max);
        let of = |at: usize| {
            let terms = parts.chunks_exact(width).map(|part| {
                let below = f64::from(part[0] - largest);
                // A subtraction, an exponential and a product for each merge.
                let share = count as f64 * (below.abs() + 6.0) * HALF_UNIT * 1.01;
                Real::of(below.exp() * f64::from(part[at])).off_by(share)
            });
            Real::sum(terms, Chain::of(count))
        };
        of(2 + d).over(of(1)).stored(storage)
    })
}

/// Sequences with their keys and values in pages, and queries of their last rows.
struct Case {
    dim: usize,
    heads: Heads,
    runs: Vec<(usize, usize)>,
    q: Tensor,
    /// Layers of pages; NaN wherever no token is.
    kv: Tensor,
    page: usize,
    pages: Vec<u32>,
    table_stride: usize,
    positions: Address,
    sequences: Address,
    tables: Address,
    scale: f32,
    rows: Vec<(usize, usize)>,
}

impl Case {
    /// For each sequence the position of its first row and the number of its rows.
    fn new(
        b: &mut Bench<'_>,
        dim: usize,
        heads: Heads,
        runs: &[(usize, usize)],
    ) -> Result<Self, Failure> {
        let (kv_heads, group) = heads;
        let longest = runs.iter().map(|(first, rows)| first + rows).max();
        let table_stride = longest.unwrap_or(1).div_ceil(PAGE_TOKENS) + 1;
        let pages = b.shuffled((runs.len() * table_stride + 3) as u32);
        let layer = 2 * kv_heads * PAGE_TOKENS * dim;
        let page = LAYERS * layer;
        let mut rows = Vec::new();
        for (sequence, (first, count)) in runs.iter().enumerate() {
            rows.extend((*first..first + count).map(|position| (sequence, position)));
        }
        let q = b.random(rows.len() * kv_heads * group * dim)?;
        let mut case = Self {
            dim,
            heads,
            runs: runs.to_vec(),
            q,
            kv: Tensor {
                at: Address::NULL,
                values: vec![f32::NAN; pages.len() * page],
            },
            page,
            table_stride,
            positions: Address::NULL,
            sequences: Address::NULL,
            tables: b.plain(&pages)?,
            pages,
            // Larger than usual: scores differ more, so that the largest matters.
            scale: 2.0 / (dim as f32).sqrt(),
            rows,
        };
        for (sequence, (first, count)) in runs.iter().enumerate() {
            for token in 0..first + count {
                for part in 0..2 * kv_heads {
                    let at = case.place(sequence, token, part);
                    let values = b.numbers(dim);
                    case.kv.values[at..at + dim].copy_from_slice(&values);
                }
            }
        }
        case.kv = b.tensor(std::mem::take(&mut case.kv.values))?;
        let positions: Vec<u32> = case.rows.iter().map(|row| row.1 as u32).collect();
        let sequences: Vec<u32> = case.rows.iter().map(|row| row.0 as u32).collect();
        case.positions = b.plain(&positions)?;
        case.sequences = b.plain(&sequences)?;
        Ok(case)
    }

    /// Where a token's key or value is; `part` counts the heads of the keys, then those of the values.
    fn place(&self, sequence: usize, token: usize, part: usize) -> usize {
        let page = self.pages[sequence * self.table_stride + token / PAGE_TOKENS] as usize;
        let layer = self.page / LAYERS;
        page * self.page + LAYER * layer + (part * PAGE_TOKENS + token % PAGE_TOKENS) * self.dim
    }

    fn kv(&self, b: &Bench<'_>) -> Address {
        b.element(self.kv.at, LAYER * self.page / LAYERS)
    }

    fn decode(&self, b: &mut Bench<'_>) -> Result<Output, Failure> {
        let (kv_heads, group) = self.heads;
        let heads = kv_heads * group;
        let longest = self.rows.iter().map(|row| row.1 + 1).max().unwrap_or(1);
        // More than needed, as in a captured graph.
        let chunks = longest.div_ceil(CHUNK_TOKENS as usize) + 1;
        let rows = self.rows.len();
        let partial = b.output(Format::F32, rows * heads * chunks * (self.dim + 2))?;
        let out = b.output(Format::Scalar, rows * heads * self.dim)?;
        b.launch(&DecodeAttention {
            partial: partial.at,
            q: self.q.at,
            kv: self.kv(b),
            positions: self.positions,
            sequences: self.sequences,
            tables: self.tables,
            page_stride: self.page as u64,
            table_stride: self.table_stride as u32,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            scale: self.scale,
            rows: rows as u32,
            chunks: chunks as u32,
        })?;
        b.bytes(&partial)?;
        b.launch(&DecodeCombine {
            out: out.at,
            partial: partial.at,
            positions: self.positions,
            heads: heads as u32,
            chunks: chunks as u32,
            rows: rows as u32,
        })?;
        Ok(out)
    }

    /// With an empty tile among `tiles`, as in a captured graph.
    fn prefill(
        &self,
        b: &mut Bench<'_>,
        way: Way,
        mut tiles: Vec<RowTile>,
    ) -> Result<Output, Failure> {
        let (kv_heads, group) = self.heads;
        let heads = kv_heads * group;
        tiles.insert(1, RowTile::default());
        let out = b.output(Format::Scalar, self.rows.len() * heads * self.dim)?;
        let kv = self.kv(b);
        let tile_count = tiles.len() as u32;
        let tiles = b.plain(&tiles)?;
        macro_rules! call {
            ($name:ident) => {
                $name {
                    out: out.at,
                    q: self.q.at,
                    kv,
                    tiles,
                    positions: self.positions,
                    tables: self.tables,
                    page_stride: self.page as u64,
                    table_stride: self.table_stride as u32,
                    heads: heads as u32,
                    kv_heads: kv_heads as u32,
                    scale: self.scale,
                    tile_count,
                }
            };
        }
        match way {
            Way::Plain => b.launch(&call!(PrefillAttention))?,
            Way::Tensor => b.launch(&call!(PrefillAttentionTensor))?,
        }
        Ok(out)
    }

    /// Each sequence's rows, as tiles are cut from them.
    fn tile_runs(&self) -> Vec<(u32, u32)> {
        let runs = (0..).zip(&self.runs);
        runs.map(|(sequence, (_, rows))| (sequence, *rows as u32))
            .collect()
    }

    fn expect(&self, b: &mut Bench<'_>, out: &Output, way: Way) -> Result<(), Failure> {
        let (kv_heads, group) = self.heads;
        let heads = kv_heads * group;
        let mut expected = Vec::with_capacity(self.rows.len() * heads * self.dim);
        for row in 0..self.rows.len() {
            for head in 0..heads {
                expected.extend(self.reference(row, head, way));
            }
        }
        let storage = b.storage;
        b.expect("out", out, |i| expected[i].stored(storage))
    }

    /// One head of one row: the mean of values weighted by the exponentials of their scores.
    fn reference(&self, row: usize, head: usize, way: Way) -> Vec<Real> {
        let (kv_heads, group) = self.heads;
        let (sequence, position) = self.rows[row];
        let q = &self.q.values[(row * kv_heads * group + head) * self.dim..][..self.dim];
        let part = |token: usize, part: usize| {
            &self.kv.values[self.place(sequence, token, part)..][..self.dim]
        };
        // How often what was summed so far is scaled anew, and how sums are made in between.
        let (products, merges, sums, totals) = match way {
            Way::Plain => {
                let merges = position / CHUNK_TOKENS as usize + 1;
                // A thread's share of a chunk, then a butterfly.
                let totals = Chain::of(CHUNK_TOKENS as usize / 32 + 5);
                let sums = Chain::of(CHUNK_TOKENS as usize);
                (Chain::of(self.dim), merges, sums, totals)
            }
            Way::Tensor => {
                let merges = position / PAGE_TOKENS + 1;
                let sums = Chain::of_tensor_cores(position + 32);
                (
                    Chain::of_tensor_cores(self.dim),
                    merges,
                    sums,
                    Chain::of(10),
                )
            }
        };
        let rounding = match way {
            Way::Plain => 0.0,
            Way::Tensor => HALF_UNIT_BF16,
        };
        let scores: Vec<Real> = (0..=position)
            .map(|token| {
                let pairs = q.iter().zip(part(token, head / group));
                let pairs = pairs.map(|(q, k)| (*q, *k));
                Real::dot(pairs, products).by(self.scale)
            })
            .collect();
        let largest = scores.iter().map(|s| s.value).fold(f64::MIN, f64::max);
        let weights: Vec<Real> = scores
            .iter()
            .map(|score| {
                let below = score.value - largest;
                // The subtraction and the exponential (two units, four halves), and as much again with a
                // product for each chunk that is merged; the largest score is the same above and below
                // the line, so what it is off cancels.
                let share = score.error.exp_m1()
                    + (1.0 + merges as f64) * (below.abs() + 5.0) * HALF_UNIT * 1.01
                    + rounding;
                Real::of(below.exp()).off_by(share)
            })
            .collect();
        let total = Real::sum(weights.iter().copied(), totals.then(2 * merges));
        (0..self.dim)
            .map(|d| {
                let values = (0..=position).map(|token| part(token, kv_heads + head / group)[d]);
                let pairs = weights.iter().copied().zip(values);
                Real::dot(pairs, sums.then(2 * merges)).over(total)
            })
            .collect()
    }
}
