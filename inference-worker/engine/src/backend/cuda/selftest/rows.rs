//! Checks of the kernels that take rows or pages as they are: `silu_mul.cu`, `gather.cu`,
//! `page_copy.cu`, and of `merge_delta.cu`.

use super::bench::{exactly, unwritten, Bench, Format};
use super::number::{Chain, Real};
use super::{Check, Extent, Failure};
use crate::backend::cuda::calls::{FillRandom, GatherRows, MergeDelta, PageCopy, SiluMul};
use crate::backend::cuda::Address;

pub(super) fn checks(extent: Extent) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut shapes = vec![(1, 1), (3, 7), (2, 255), (3, 256), (2, 257), (2, 700)];
    if extent == Extent::Full {
        shapes.push((64, 14_336));
    }
    for shape in shapes {
        checks.push(Check::new("silu_mul", shape, move |b| silu_mul(b, shape)));
        checks.push(Check::new("gather_rows", shape, move |b| gather(b, shape)));
    }
    for words in [1, 77, 2048, 5000] {
        checks.push(Check::new("page_copy", words, move |b| page_copy(b, words)));
    }
    for count in [1, 255, 257, 5000] {
        checks.push(Check::new("fill_random", count, move |b| fill(b, count)));
    }
    let mut shapes = vec![
        (1, 1, 1, false),
        (3, 257, 4, true),
        (65, 77, 7, false),
        (17, 256, 16, true),
    ];
    if extent == Extent::Full {
        shapes.push((4096, 4096, 16, true));
    }
    for shape in shapes {
        checks.push(Check::new("merge_delta", shape, move |b| merge(b, shape)));
    }
    checks
}

fn silu_mul(b: &mut Bench<'_>, (rows, width): (usize, usize)) -> Result<(), Failure> {
    let mut values = b.numbers(rows * 2 * width);
    for (i, value) in values.iter_mut().enumerate() {
        // Gates whose exponential overflows or vanishes are as good as any.
        *value *= [4.0, 1.0, 90.0][i % 3];
    }
    let gate_up = b.tensor(values)?;
    let out = b.output(Format::Scalar, rows * width)?;
    b.launch(&SiluMul {
        out: out.at,
        gate_up: gate_up.at,
        width: width as u32,
        rows: rows as u32,
    })?;
    let storage = b.storage;
    b.expect("out", &out, |i| {
        let first = i / width * 2 * width + i % width;
        let gate = Real::from(gate_up.values[first]);
        let up = gate_up.values[first + width];
        let below = gate.negated().exp().plus(1.0);
        let mut product = gate.over(below).by(up).stored(storage);
        // Where the exponential is beyond f32, the quotient is zero in place of something tiny.
        product.error += f64::from(f32::MIN_POSITIVE) * 1e2 * (1.0 + f64::from(up).abs());
        product
    })
}

fn fill(b: &mut Bench<'_>, count: usize) -> Result<(), Failure> {
    let out = b.output(Format::Scalar, count)?;
    let (seed, middle, spread) = (11, 0.25, 0.5);
    b.launch(&FillRandom {
        out: out.at,
        count: count as u64,
        seed,
        middle,
        spread,
    })?;
    let storage = b.storage;
    b.expect("out", &out, |i| {
        let mut bits = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let unit = (bits >> 40) as f64 / 8_388_608.0 - 1.0;
        // Exact in f32 for this middle and spread.
        exactly(unit * f64::from(spread) + f64::from(middle)).stored(storage)
    })
}

fn gather(b: &mut Bench<'_>, (count, width): (usize, usize)) -> Result<(), Failure> {
    let limit = 5;
    let table = b.random(limit * width)?;
    let mut rows: Vec<u32> = (0..count).map(|_| b.below(limit as u32)).collect();
    // A row that does not exist, the nearest and the furthest.
    rows.extend([limit as u32, u32::MAX]);
    let at = b.plain(&rows)?;
    let out = b.output(Format::Scalar, rows.len() * width)?;
    b.launch(&GatherRows {
        out: out.at,
        table: table.at,
        rows: at,
        width: width as u32,
        limit: limit as u32,
        count: rows.len() as u32,
    })?;
    b.expect("out", &out, |i| {
        let row = rows[i / width] as usize;
        match table.values.get(row * width + i % width) {
            Some(value) if row < limit => exactly((*value).into()),
            _ => unwritten(),
        }
    })
}

fn page_copy(b: &mut Bench<'_>, words: usize) -> Result<(), Failure> {
    let pages = 5;
    let numbers: Vec<u32> = (0..pages * words * 4).map(|_| b.below(1 << 24)).collect();
    let pairs = [(3u32, 0u32), (1, 4)];
    let pool = b.plain(&numbers)?;
    let list: Vec<u32> = pairs.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let list = b.plain(&list)?;
    b.launch(&PageCopy {
        pool,
        pairs: list,
        words: words as u64,
        count: pairs.len() as u32,
    })?;
    let after = b.written(pool, Format::U32, numbers.len());
    let page = words * 4;
    b.expect("pool", &after, |i| {
        let place = (i / page) as u32;
        let from = pairs.iter().find(|(_, to)| *to == place);
        let from = from.map_or(place, |(from, _)| *from) as usize;
        exactly(numbers[from * page + i % page].into())
    })
}

fn merge(
    b: &mut Bench<'_>,
    (outputs, inputs, rank, gained): (usize, usize, usize, bool),
) -> Result<(), Failure> {
    let base = b.random(outputs * inputs)?;
    let a = b.random(rank * inputs)?;
    let up = b.random(outputs * rank)?;
    let gains = b.numbers(outputs);
    let gain = match gained {
        true => b.plain(&gains)?,
        false => Address::NULL,
    };
    let out = b.output(Format::Scalar, outputs * inputs)?;
    let scale = 0.75;
    b.launch(&MergeDelta {
        out: out.at,
        base: base.at,
        a: a.at,
        b: up.at,
        gain,
        rank: rank as u32,
        scale,
        inputs: inputs as u32,
        outputs: outputs as u32,
    })?;
    let storage = b.storage;
    b.expect("out", &out, |i| {
        let (output, input) = (i / inputs, i % inputs);
        let pairs = (0..rank).map(|r| (up.values[output * rank + r], a.values[r * inputs + input]));
        let gain = if gained { gains[output] } else { 1.0 };
        let kept = Real::from(base.values[i]).by(gain);
        Real::dot(pairs, Chain::of(rank))
            .fma(scale, kept)
            .stored(storage)
    })
}
