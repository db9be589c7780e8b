//! Checks of `gemm.cu`.

use super::bench::{Bench, Format, Output};
use super::number::{fp8_value, Chain, Real};
use super::{Check, Extent, Failure};
use crate::backend::cuda::calls::{
    Gemm, GemmFp8, GemmInt4, GemmInt8, GemmLogits, GemmTensor, GemmTensorLogits,
    GemmTensorLogitsNarrow, GemmTensorNarrow,
};
use crate::backend::cuda::{Address, Call};

/// Rows, outputs, inputs.
pub(super) type Shape = (usize, usize, usize);

pub(super) fn checks(extent: Extent) -> Vec<Check> {
    let mut shapes = vec![
        (1, 1, 1),
        (1, 64, 16),
        (3, 65, 17),
        (64, 63, 64),
        (65, 130, 77),
        (17, 200, 150),
    ];
    if extent == Extent::Full {
        shapes.extend([(1, 4096, 4096), (33, 6144, 4096), (128, 4096, 14_336)]);
    }
    let mut checks = Vec::new();
    for shape in shapes {
        for kernel in ["gemm", "gemm_logits"] {
            checks.push(Check::new(kernel, shape, move |b| {
                product(b, shape, kernel)
            }));
        }
        let even = (shape.0, shape.1, shape.2.next_multiple_of(2));
        for group in [2, 32, 128, even.2] {
            checks.push(Check::new("gemm_int8", (shape, group), move |b| {
                int8(b, shape, group)
            }));
            checks.push(Check::new("gemm_int4", (even, group), move |b| {
                int4(b, even, group)
            }));
        }
        checks.push(Check::new("gemm_fp8", shape, move |b| fp8(b, shape)));
    }
    checks
}

/// Of the products on tensor cores.
pub(super) fn tensor_checks(extent: Extent) -> Vec<Check> {
    let mut shapes = vec![
        (1, 1, 8),
        (1, 33, 64),
        (3, 65, 24),
        (17, 31, 200),
        (16, 32, 520),
        (130, 131, 136),
    ];
    if extent == Extent::Full {
        shapes.extend([(1, 4096, 4096), (33, 6144, 4096), (128, 4096, 14_336)]);
    }
    let mut checks = Vec::new();
    for shape in shapes {
        for kernel in [
            "gemm_tensor",
            "gemm_tensor_narrow",
            "gemm_tensor_logits",
            "gemm_tensor_logits_narrow",
        ] {
            checks.push(Check::new(kernel, shape, move |b| {
                product(b, shape, kernel)
            }));
        }
    }
    checks
}

/// A product, and its last row alone: in tiles of the other size, where there are two.
fn product(b: &mut Bench<'_>, shape: Shape, kernel: &str) -> Result<(), Failure> {
    let (rows, outputs, inputs) = shape;
    let wide = kernel.contains("logits");
    let on_tensor_cores = kernel.contains("tensor");
    let x = b.random(rows * inputs)?;
    let w = b.random(outputs * inputs)?;
    let last = b.tensor(x.values[(rows - 1) * inputs..].to_vec())?;
    let format = if wide { Format::F32 } else { Format::Scalar };
    let y = b.output(format, rows * outputs)?;
    let alone = b.output(format, outputs)?;
    let narrow = kernel.ends_with("narrow");
    let call = |narrow: bool, y: &Output, x: Address, rows: usize| -> Box<dyn Call> {
        let (y, w, rows) = (y.at, w.at, rows as u32);
        let (outputs, inputs) = (outputs as u32, inputs as u32);
        macro_rules! call {
            ($name:ident) => {
                Box::new($name {
                    y,
                    x,
                    w,
                    rows,
                    outputs,
                    inputs,
                })
            };
        }
        match (on_tensor_cores, wide, narrow) {
            (false, false, _) => call!(Gemm),
            (false, true, _) => call!(GemmLogits),
            (true, false, false) => call!(GemmTensor),
            (true, false, true) => call!(GemmTensorNarrow),
            (true, true, false) => call!(GemmTensorLogits),
            (true, true, true) => call!(GemmTensorLogitsNarrow),
        }
    };
    b.launch(&*call(narrow, &y, x.at, rows))?;
    let chain = match on_tensor_cores {
        true => Chain::of_tensor_cores(inputs),
        false => Chain::of(inputs),
    };
    expect(b, &y, &x.values, shape, (wide, chain), |o, k| {
        w.values[o * inputs + k]
    })?;
    b.launch(&*call(!narrow, &alone, last.at, 1))?;
    let within = b.part(&y, (rows - 1) * outputs, outputs)?;
    b.expect_same_bytes("a row alone and in a batch", &alone, &within)
}

/// Every number of `y` is the dot product of a row and a weight, both by index.
fn expect<W: Into<Real>>(
    b: &mut Bench<'_>,
    y: &Output,
    x: &[f32],
    (_, outputs, inputs): Shape,
    (wide, chain): (bool, Chain),
    weight: impl Fn(usize, usize) -> W,
) -> Result<(), Failure> {
    let storage = b.storage;
    b.expect("y", y, |i| {
        let row = &x[i / outputs * inputs..][..inputs];
        let pairs = row
            .iter()
            .zip(0..)
            .map(|(x, k)| (*x, weight(i % outputs, k)));
        let sum = Real::dot(pairs, chain);
        if wide {
            sum
        } else {
            sum.stored(storage)
        }
    })
}

/// A product with codes, every `group` of which in a row share a scale. `call` makes it from where the
/// result, the input and the scales are; `code` is the value of a code by its index.
fn scaled(
    b: &mut Bench<'_>,
    shape: Shape,
    group: usize,
    call: impl FnOnce(Address, Address, Address) -> Box<dyn Call>,
    code: impl Fn(usize) -> f32,
) -> Result<(), Failure> {
    let (rows, outputs, inputs) = shape;
    let groups = inputs.div_ceil(group);
    let x = b.random(rows * inputs)?;
    let scales = b.numbers(outputs * groups);
    let at = b.plain(&scales)?;
    let y = b.output(Format::Scalar, rows * outputs)?;
    b.launch(&*call(y.at, x.at, at))?;
    let chain = (false, Chain::of(inputs));
    expect(b, &y, &x.values, shape, chain, |o, k| {
        Real::from(code(o * inputs + k)).by(scales[o * groups + k / group])
    })
}

fn int8(b: &mut Bench<'_>, shape: Shape, group: usize) -> Result<(), Failure> {
    let (rows, outputs, inputs) = shape;
    let codes: Vec<i8> = (0..outputs * inputs)
        .map(|_| b.below(256) as u8 as i8)
        .collect();
    let w = b.plain(&codes)?;
    let call = |y, x, scales| -> Box<dyn Call> {
        Box::new(GemmInt8 {
            y,
            x,
            w,
            scales,
            group: group as u32,
            rows: rows as u32,
            outputs: outputs as u32,
            inputs: inputs as u32,
        })
    };
    scaled(b, shape, group, call, |i| f32::from(codes[i]))
}

fn int4(b: &mut Bench<'_>, shape: Shape, group: usize) -> Result<(), Failure> {
    let (rows, outputs, inputs) = shape;
    let codes: Vec<i32> = (0..outputs * inputs)
        .map(|_| b.below(16) as i32 - 8)
        .collect();
    let bytes: Vec<u8> = codes
        .chunks_exact(2)
        .map(|pair| (pair[0] & 15) as u8 + 16 * (pair[1] & 15) as u8)
        .collect();
    let w = b.plain(&bytes)?;
    let call = |y, x, scales| -> Box<dyn Call> {
        Box::new(GemmInt4 {
            y,
            x,
            w,
            scales,
            group: group as u32,
            rows: rows as u32,
            outputs: outputs as u32,
            inputs: inputs as u32,
        })
    };
    scaled(b, shape, group, call, |i| codes[i] as f32)
}

fn fp8(b: &mut Bench<'_>, shape: Shape) -> Result<(), Failure> {
    let (rows, outputs, inputs) = shape;
    // Every code but the two NaNs.
    let codes: Vec<u8> = (0..outputs * inputs)
        .map(|_| b.below(127) as u8 | (b.below(2) as u8) << 7)
        .collect();
    let w = b.plain(&codes)?;
    let call = |y, x, scales| -> Box<dyn Call> {
        Box::new(GemmFp8 {
            y,
            x,
            w,
            scales,
            rows: rows as u32,
            outputs: outputs as u32,
            inputs: inputs as u32,
        })
    };
    let values: Vec<f32> = (0..=255).map(|code| fp8_value(code) as f32).collect();
    scaled(b, shape, inputs, call, |i| values[usize::from(codes[i])])
}
