//! Checks of `lora_shrink.cu` and `lora_expand.cu`.

use super::bench::{exactly, unwritten, Bench, Format, Output, Tensor};
use super::number::{Chain, Real};
use super::{Check, Extent, Failure};
use crate::backend::cuda::calls::{
    lora_tiles, LoraEntry, LoraExpand, LoraExpandTensor, LoraShrink, LoraShrinkTensor,
    LoraShrinkTiles, LoraTile, Spans, MAX_SITES, NO_ADAPTER,
};
use crate::backend::cuda::Address;

/// Layers of the table of pairs, and the one that is used.
const LAYERS: usize = 2;
const LAYER: usize = 1;
/// What two BF16 leave of an f32.
const HALVES: f64 = 1.0 / 65_536.0;
/// Matrices of a layer.
const SITES: usize = 7;

/// What a check is made of.
#[derive(Clone, Debug)]
struct Shape {
    /// Width of `x`.
    inputs: usize,
    /// Widths of the outputs of the sites that share it.
    widths: Vec<usize>,
    /// Rank of each adapter. Every third pair of an adapter is missing.
    ranks: Vec<usize>,
    /// Rows of each adapter; the last number is of the base's rows.
    rows: Vec<usize>,
}

fn shapes(extent: Extent) -> Vec<Shape> {
    let shape = |inputs, widths: &[usize], ranks: &[usize], rows: &[usize]| Shape {
        inputs,
        widths: widths.to_vec(),
        ranks: ranks.to_vec(),
        rows: rows.to_vec(),
    };
    let mut shapes = vec![
        shape(1, &[1], &[1], &[1, 0]),
        shape(7, &[5, 129, 3], &[1, 4, 7], &[3, 1, 2, 2]),
        shape(64, &[128, 32, 32], &[8, 16, 64, 128], &[17, 1, 3, 1, 4]),
        shape(77, &[130, 20], &[16, 33], &[16, 40, 1]),
        shape(264, &[40], &[16, 8, 1, 7], &[1, 1, 1, 1, 1]),
        shape(520, &[64, 8, 8, 200], &[64, 4], &[2, 33, 0]),
    ];
    if extent == Extent::Full {
        let wide = [4096, 1024, 1024];
        shapes.push(shape(4096, &wide, &[16; 24], &[1; 25]));
        shapes.push(shape(4096, &wide, &[16, 64, 8], &[100, 17, 3, 40]));
        shapes.push(shape(14_336, &[4096], &[16, 128], &[20, 1, 1]));
    }
    shapes
}

pub(super) fn checks(extent: Extent) -> Vec<Check> {
    let mut checks = Vec::new();
    for shape in shapes(extent) {
        let (one, two, three) = (shape.clone(), shape.clone(), shape.clone());
        checks.push(Check::new("lora_shrink", &shape, move |b| shrink(b, &one)));
        checks.push(Check::new("lora_shrink_tiles", &shape, move |b| {
            shrink_tiles(b, &two)
        }));
        checks.push(Check::new("lora_expand", &shape, move |b| {
            expand(b, &three, false)
        }));
    }
    checks
}

/// Of the kernels on tensor cores.
pub(super) fn tensor_checks(extent: Extent) -> Vec<Check> {
    let mut checks = Vec::new();
    for shape in shapes(extent) {
        let (one, two) = (shape.clone(), shape.clone());
        if shape.inputs.is_multiple_of(8) {
            checks.push(Check::new("lora_shrink_tensor", &shape, move |b| {
                shrink_tensor(b, &one)
            }));
        }
        checks.push(Check::new("lora_expand_tensor", &shape, move |b| {
            expand(b, &two, true)
        }));
    }
    checks
}

/// A pair of an adapter at a site.
struct Pair {
    a: Tensor,
    b: Tensor,
    gain: Option<Vec<f32>>,
    rank: usize,
    scale: f32,
}

/// Adapters in a table, and rows that use them.
struct Case {
    shape: Shape,
    rank_stride: usize,
    /// `[adapter][site]`.
    pairs: Vec<Vec<Option<Pair>>>,
    /// The device's slot of each adapter.
    slots: Vec<u32>,
    /// Each row's adapter.
    adapters: Vec<Option<usize>>,
    table: Address,
    tiles: Vec<LoraTile>,
    tiles_at: Address,
    order: Address,
}

impl Case {
    fn new(b: &mut Bench<'_>, shape: &Shape) -> Result<Self, Failure> {
        let adapters = shape.ranks.len();
        let capacity = adapters + 2;
        let slots = b.shuffled(capacity as u32);
        let mut table = vec![LoraEntry::default(); capacity * LAYERS * SITES];
        let mut pairs = Vec::new();
        for (adapter, rank) in shape.ranks.iter().enumerate() {
            let mut of_adapter = Vec::new();
            for (site, width) in shape.widths.iter().enumerate() {
                // An adapter of a single matrix has it.
                if (adapter + site) % 3 == 2 {
                    of_adapter.push(None);
                    continue;
                }
                let mut pair = Pair {
                    a: b.random(rank * shape.inputs)?,
                    b: b.random(width * rank)?,
                    gain: ((adapter + site) % 2 == 1).then(|| b.numbers(*width)),
                    rank: *rank,
                    scale: 0.5 + adapter as f32,
                };
                // Not as in another layer.
                pair.scale += 0.25 * site as f32;
                let gain = match &pair.gain {
                    Some(gain) => b.plain(gain)?,
                    None => Address::NULL,
                };
                let at = (slots[adapter] as usize * LAYERS + LAYER) * SITES + 1 + site;
                table[at] = LoraEntry {
                    a: pair.a.at,
                    b: pair.b.at,
                    gain,
                    rank: pair.rank as u32,
                    scale: pair.scale,
                };
                of_adapter.push(Some(pair));
            }
            pairs.push(of_adapter);
        }
        let total: usize = shape.rows.iter().sum();
        let order = b.shuffled(total as u32);
        let mut rows = vec![None; total];
        let mut segments = Vec::new();
        let mut sorted = order.iter();
        // The base's rows are amid the others.
        for which in (0..=adapters).map(|i| (i + adapters.div_ceil(2)) % (adapters + 1)) {
            let adapter = (which < adapters).then_some(which);
            for row in sorted.by_ref().take(shape.rows[which]) {
                rows[*row as usize] = adapter;
            }
            let slot = adapter.map_or(NO_ADAPTER, |adapter| slots[adapter]);
            segments.push((slot, shape.rows[which] as u32));
        }
        let mut tiles = lora_tiles(&segments);
        // As in a captured graph, whose grid is larger than the step.
        tiles.insert(tiles.len().min(1), LoraTile::default());
        Ok(Self {
            rank_stride: shape.ranks.iter().max().copied().unwrap_or(1) + 3,
            pairs,
            adapters: rows,
            table: b.plain(&table)?,
            tiles_at: b.plain(&tiles)?,
            tiles,
            order: b.plain(&order)?,
            shape: shape.clone(),
            slots,
        })
    }

    fn rows(&self) -> usize {
        self.adapters.len()
    }

    fn sites(&self) -> usize {
        self.shape.widths.len()
    }

    fn pair(&self, row: usize, site: usize) -> Option<&Pair> {
        self.pairs[self.adapters[row]?][site].as_ref()
    }

    fn call(&self, h: &Output, x: &Tensor, slots: Address) -> LoraShrink {
        LoraShrink {
            h: h.at,
            x: x.at,
            table: self.table,
            slots,
            inputs: self.shape.inputs as u32,
            rank_stride: self.rank_stride as u32,
            slot_stride: (LAYERS * SITES) as u32,
            first_entry: (LAYER * SITES + 1) as u32,
            rows: self.rows() as u32,
            sites: self.sites() as u32,
        }
    }

    fn hidden(&self, b: &mut Bench<'_>) -> Result<Output, Failure> {
        b.output(Format::F32, self.rows() * self.sites() * self.rank_stride)
    }

    fn shrink(&self, b: &mut Bench<'_>, x: &Tensor) -> Result<Output, Failure> {
        let h = self.hidden(b)?;
        let slots: Vec<u32> = self
            .adapters
            .iter()
            .map(|adapter| adapter.map_or(NO_ADAPTER, |adapter| self.slots[adapter]))
            .collect();
        let slots = b.plain(&slots)?;
        b.launch(&self.call(&h, x, slots))?;
        Ok(h)
    }

    fn shrink_tiles(&self, b: &mut Bench<'_>, x: &Tensor) -> Result<Output, Failure> {
        let h = self.hidden(b)?;
        b.launch(&self.tiles_call(&h, x))?;
        Ok(h)
    }

    fn tiles_call(&self, h: &Output, x: &Tensor) -> LoraShrinkTiles {
        let call = self.call(h, x, Address::NULL);
        LoraShrinkTiles {
            h: call.h,
            x: call.x,
            table: call.table,
            tiles: self.tiles_at,
            order: self.order,
            inputs: call.inputs,
            rank_stride: call.rank_stride,
            slot_stride: call.slot_stride,
            first_entry: call.first_entry,
            tile_count: self.tiles.len() as u32,
            sites: call.sites,
        }
    }

    /// `h` where each row's pair has a rank, nothing elsewhere.
    fn expect_hidden(
        &self,
        b: &mut Bench<'_>,
        h: &Output,
        x: &Tensor,
        chain: Chain,
    ) -> Result<(), Failure> {
        let inputs = self.shape.inputs;
        b.expect("h", h, |i| {
            let (rank, site) = (i % self.rank_stride, i / self.rank_stride % self.sites());
            let row = i / self.rank_stride / self.sites();
            match self.pair(row, site) {
                Some(pair) if rank < pair.rank => {
                    let x = &x.values[row * inputs..][..inputs];
                    let a = &pair.a.values[rank * inputs..][..inputs];
                    Real::dot(a.iter().zip(x).map(|(a, x)| (*a, *x)), chain)
                }
                _ => unwritten(),
            }
        })
    }
}

/// Of the plain kernels: lanes take eight of every 256 inputs, or one of every 32; then a butterfly.
fn shrink_chain(inputs: usize) -> Chain {
    let own = if inputs.is_multiple_of(8) {
        8 * inputs.div_ceil(256)
    } else {
        inputs.div_ceil(32)
    };
    Chain::of(own + 5)
}

fn shrink(b: &mut Bench<'_>, shape: &Shape) -> Result<(), Failure> {
    let case = Case::new(b, shape)?;
    let x = b.random(case.rows() * shape.inputs)?;
    let h = case.shrink(b, &x)?;
    case.expect_hidden(b, &h, &x, shrink_chain(shape.inputs))
}

fn shrink_tiles(b: &mut Bench<'_>, shape: &Shape) -> Result<(), Failure> {
    let case = Case::new(b, shape)?;
    let x = b.random(case.rows() * shape.inputs)?;
    let h = case.shrink_tiles(b, &x)?;
    case.expect_hidden(b, &h, &x, shrink_chain(shape.inputs))?;
    let single = case.shrink(b, &x)?;
    b.expect_same("lora_shrink_tiles and lora_shrink", &h, &single)
}

fn shrink_tensor(b: &mut Bench<'_>, shape: &Shape) -> Result<(), Failure> {
    let case = Case::new(b, shape)?;
    let x = b.random(case.rows() * shape.inputs)?;
    let h = case.hidden(b)?;
    let call = case.tiles_call(&h, &x);
    b.launch(&LoraShrinkTensor {
        h: call.h,
        x: call.x,
        table: call.table,
        tiles: call.tiles,
        order: call.order,
        inputs: call.inputs,
        rank_stride: call.rank_stride,
        slot_stride: call.slot_stride,
        first_entry: call.first_entry,
        tile_count: call.tile_count,
        sites: call.sites,
    })?;
    // Four warps' sums are added.
    case.expect_hidden(b, &h, &x, Chain::of_tensor_cores(shape.inputs).then(4))
}

fn expand(b: &mut Bench<'_>, shape: &Shape, tensor: bool) -> Result<(), Failure> {
    let case = Case::new(b, shape)?;
    let mut h = b.numbers(case.rows() * case.sites() * case.rank_stride);
    for (i, value) in h.iter_mut().enumerate() {
        let (rank, site) = (i % case.rank_stride, i / case.rank_stride % case.sites());
        let row = i / case.rank_stride / case.sites();
        // Nothing wrote there.
        if case.pair(row, site).is_none_or(|pair| rank >= pair.rank) {
            *value = f32::NAN;
        }
    }
    let h_at = b.plain(&h)?;
    let mut spans = Spans {
        offset: [0; MAX_SITES],
        width: [0; MAX_SITES],
    };
    // Columns of nobody before each site and after the last.
    let mut stride = 0;
    for (site, width) in shape.widths.iter().enumerate() {
        spans.offset[site] = stride + 3;
        spans.width[site] = *width as u32;
        stride += 3 + *width as u32;
    }
    stride += 2;
    let before = b.numbers(case.rows() * stride as usize);
    let (y, before) = b.in_out(before)?;
    let call = LoraExpand {
        y: y.at,
        h: h_at,
        table: case.table,
        tiles: case.tiles_at,
        order: case.order,
        spans,
        y_stride: stride,
        rank_stride: case.rank_stride as u32,
        slot_stride: (LAYERS * SITES) as u32,
        first_entry: (LAYER * SITES + 1) as u32,
        tile_count: case.tiles.len() as u32,
        sites: case.sites() as u32,
    };
    if tensor {
        b.launch(&LoraExpandTensor {
            y: call.y,
            h: call.h,
            table: call.table,
            tiles: call.tiles,
            order: call.order,
            spans: call.spans,
            y_stride: call.y_stride,
            rank_stride: call.rank_stride,
            slot_stride: call.slot_stride,
            first_entry: call.first_entry,
            tile_count: call.tile_count,
            sites: call.sites,
        })?;
    } else {
        b.launch(&call)?;
    }
    let storage = b.storage;
    b.expect("y", &y, |i| {
        let (row, column) = (i / stride as usize, i as u32 % stride);
        let of = |site: &usize| {
            let from = spans.offset[*site];
            (from..from + spans.width[*site]).contains(&column)
        };
        let site = (0..case.sites()).find(of);
        let pair = site.and_then(|site| Some((site, case.pair(row, site)?)));
        let Some((site, pair)) = pair else {
            return exactly(before[i].into());
        };
        let output = (column - spans.offset[site]) as usize;
        let h = &h[(row * case.sites() + site) * case.rank_stride..][..pair.rank];
        let up = &pair.b.values[output * pair.rank..][..pair.rank];
        // Tensor cores get h in two halves of eight bits each.
        let (chain, share) = match tensor {
            true => (
                Chain::of_tensor_cores(2 * pair.rank.next_multiple_of(16)),
                HALVES,
            ),
            false => (Chain::of(pair.rank), 0.0),
        };
        let h = h.iter().map(|h| Real::from(*h).off_by(share));
        let sum = Real::dot(up.iter().copied().zip(h), chain);
        let gain = pair.gain.as_ref().map_or(1.0, |gain| gain[output]);
        sum.fma(pair.scale, Real::from(before[i]).by(gain))
            .stored(storage)
    })
}
