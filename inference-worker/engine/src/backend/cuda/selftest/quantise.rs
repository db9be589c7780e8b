//! Checks of `quantise.cu`. Every operation in it is rounded correctly on every machine, so codes and
//! scales are met exactly.

use super::bench::{exactly, Bench, Format};
use super::number::fp8_code;
use super::{Check, Failure};
use crate::backend::cuda::calls::{QuantiseFp8, QuantiseInt4, QuantiseInt8};

/// Rows, width, group.
type Shape = (usize, usize, usize);

pub(super) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for shape in [
        (1, 2, 2),
        (3, 64, 32),
        (2, 130, 128),
        (3, 300, 300),
        (2, 258, 64),
    ] {
        checks.push(Check::new("quantise_int8", shape, move |b| int8(b, shape)));
        checks.push(Check::new("quantise_int4", shape, move |b| int4(b, shape)));
        let shape = (shape.0, shape.1);
        checks.push(Check::new("quantise_fp8", shape, move |b| fp8(b, shape)));
    }
    checks
}

/// Weights with a group of zeros, and the scale of each group.
fn weights(
    b: &mut Bench<'_>,
    (rows, width, group): Shape,
    limit: f32,
) -> Result<(super::bench::Tensor, Vec<f32>), Failure> {
    let mut values = b.numbers(rows * width);
    for value in values.iter_mut().take(if rows > 1 { group } else { 0 }) {
        *value = 0.0;
    }
    let w = b.tensor(values)?;
    let scales = w
        .values
        .chunks_exact(width)
        .flat_map(|row| row.chunks(group))
        .map(|group| group.iter().fold(0.0f32, |most, v| most.max(v.abs())) / limit)
        .collect();
    Ok((w, scales))
}

/// The nearest integer, ties to even.
fn code(value: f32, scale: f32) -> f32 {
    if scale == 0.0 {
        0.0
    } else {
        (value / scale).round_ties_even()
    }
}

fn int8(b: &mut Bench<'_>, shape: Shape) -> Result<(), Failure> {
    let (rows, width, group) = shape;
    let (w, expected) = weights(b, shape, 127.0)?;
    let out = b.output(Format::U8, rows * width)?;
    let scales = b.output(Format::F32, expected.len())?;
    b.launch(&QuantiseInt8 {
        out: out.at,
        scales: scales.at,
        w: w.at,
        width: width as u32,
        group: group as u32,
        rows: rows as u32,
    })?;
    b.expect("scales", &scales, |i| exactly(expected[i].into()))?;
    let groups = width.div_ceil(group);
    b.expect("out", &out, |i| {
        let scale = expected[i / width * groups + i % width / group];
        exactly(f64::from(code(w.values[i], scale) as i8 as u8))
    })
}

fn int4(b: &mut Bench<'_>, shape: Shape) -> Result<(), Failure> {
    let (rows, width, group) = shape;
    let (w, expected) = weights(b, shape, 7.0)?;
    let out = b.output(Format::U8, rows * width / 2)?;
    let scales = b.output(Format::F32, expected.len())?;
    b.launch(&QuantiseInt4 {
        out: out.at,
        scales: scales.at,
        w: w.at,
        width: width as u32,
        group: group as u32,
        rows: rows as u32,
    })?;
    b.expect("scales", &scales, |i| exactly(expected[i].into()))?;
    let groups = width.div_ceil(group);
    let nibble = |i: usize| {
        let scale = expected[i / width * groups + i % width / group];
        code(w.values[i], scale) as i32 & 15
    };
    b.expect("out", &out, |i| {
        exactly((nibble(2 * i) + 16 * nibble(2 * i + 1)).into())
    })
}

fn fp8(b: &mut Bench<'_>, (rows, width): (usize, usize)) -> Result<(), Failure> {
    let (w, expected) = weights(b, (rows, width, width), 448.0)?;
    let out = b.output(Format::U8, rows * width)?;
    let scales = b.output(Format::F32, rows)?;
    b.launch(&QuantiseFp8 {
        out: out.at,
        scales: scales.at,
        w: w.at,
        width: width as u32,
        rows: rows as u32,
    })?;
    b.expect("scales", &scales, |i| exactly(expected[i].into()))?;
    b.expect("out", &out, |i| {
        let scale = expected[i / width];
        let code = match scale {
            0.0 => 0,
            _ => fp8_code(w.values[i] / scale),
        };
        exactly(code.into())
    })
}
