//! Checks of `rms_norm.cu`.

use super::bench::{exactly, Bench, Format, Tensor};
use super::number::{kept, Chain, Real};
use super::{Check, Extent, Failure};
use crate::backend::cuda::calls::{AddRmsNorm, RmsNorm, RmsNormF32};

const EPSILON: f32 = 1e-3;

pub(super) fn checks(extent: Extent) -> Vec<Check> {
    let mut shapes = vec![
        (1, 1),
        (3, 7),
        (2, 64),
        (2, 255),
        (3, 256),
        (2, 257),
        (2, 1000),
    ];
    if extent == Extent::Full {
        shapes.extend([(256, 4096), (3, 14_336)]);
    }
    let mut checks = Vec::new();
    for shape in shapes {
        checks.push(Check::new("rms_norm", shape, move |b| {
            plain(b, shape, false)
        }));
        checks.push(Check::new("rms_norm_f32", shape, move |b| {
            plain(b, shape, true)
        }));
        checks.push(Check::new("add_rms_norm", shape, move |b| added(b, shape)));
    }
    checks
}

/// `x / rms(x) · weight` for each row.
fn reference(x: &[f32], weight: &[f32], width: usize) -> Vec<Real> {
    // A thread's chain, a butterfly over a warp, eight warps.
    let chain = Chain::of(width.div_ceil(256) + 5 + 8);
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let squares = Real::dot(row.iter().map(|v| (*v, *v)), chain);
        let mean = squares.over(width as f32);
        let inverse = Real::from(1.0).over(mean.plus(EPSILON).sqrt());
        let values = row.iter().zip(weight);
        out.extend(values.map(|(v, w)| inverse.by(*v).by(*w)));
    }
    out
}

fn plain(b: &mut Bench<'_>, (rows, width): (usize, usize), wide: bool) -> Result<(), Failure> {
    let x = b.random(rows * width)?;
    let weight = b.random(width)?;
    let format = if wide { Format::F32 } else { Format::Scalar };
    let out = b.output(format, rows * width)?;
    let call = RmsNorm {
        out: out.at,
        x: x.at,
        weight: weight.at,
        width: width as u32,
        epsilon: EPSILON,
        rows: rows as u32,
    };
    if wide {
        b.launch(&RmsNormF32 {
            out: call.out,
            x: call.x,
            weight: call.weight,
            width: call.width,
            epsilon: call.epsilon,
            rows: call.rows,
        })?;
    } else {
        b.launch(&call)?;
    }
    let expected = reference(&x.values, &weight.values, width);
    let storage = b.storage;
    b.expect("out", &out, |i| match wide {
        true => expected[i],
        false => expected[i].stored(storage),
    })
}

fn added(b: &mut Bench<'_>, (rows, width): (usize, usize)) -> Result<(), Failure> {
    let x = b.random(rows * width)?;
    let weight = b.random(width)?;
    let values = b.numbers(rows * width);
    let (residual, before) = b.in_out(values)?;
    let out = b.output(Format::Scalar, rows * width)?;
    b.launch(&AddRmsNorm {
        out: out.at,
        residual: residual.at,
        x: x.at,
        weight: weight.at,
        width: width as u32,
        epsilon: EPSILON,
        rows: rows as u32,
    })?;
    let storage = b.storage;
    let after: Vec<f32> = before
        .iter()
        .zip(&x.values)
        .map(|(r, x)| kept(r + x, storage))
        .collect();
    b.expect("residual", &residual, |i| exactly(after[i].into()))?;
    let expected = reference(&after, &weight.values, width);
    b.expect("out", &out, |i| expected[i].stored(storage))?;

    // The same bits as the addition followed by the norm alone.
    let Tensor { at, .. } = b.tensor(after)?;
    let alone = b.output(Format::Scalar, rows * width)?;
    b.launch(&RmsNorm {
        out: alone.at,
        x: at,
        weight: weight.at,
        width: width as u32,
        epsilon: EPSILON,
        rows: rows as u32,
    })?;
    b.expect_same("add_rms_norm and rms_norm", &out, &alone)
}
